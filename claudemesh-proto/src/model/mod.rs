//! Shapes that several operations share.

mod group;
mod ids;
mod member;
mod message;
mod peer;
mod skill;
mod sql;
mod time;

pub use group::{Group, GroupName};
pub use ids::{Base64, HexHash, HexSignature, KeyHex, MemberId, MeshId, MessageId, PresenceId};
pub use member::{Capability, Member, MeshPolicy, MessageMode, Permissions, Role, SelfEditable};
pub use message::{
    ClientStage, DeliveryStage, EpochHead, GroupSeal, Priority, Receipt, RecipientStatus, SealedMeta, Target,
    TargetKind,
};
pub use peer::{Peer, PeerStatus, Profile, Stats, StatusSource};
pub use skill::{
    SkillContext, SkillManifest, SkillPathError, check_bundle_path, check_skill_name, folded_path, is_plain_skill_name,
};
pub use sql::SqlValue;
pub use time::Timestamp;
