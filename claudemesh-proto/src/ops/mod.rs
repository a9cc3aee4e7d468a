//! Requests and replies of the operation table, one file per family.

mod audit;
mod group_keys;
mod groups;
mod members;
mod mesh;
mod messaging;
mod profile;
mod state;

pub use audit::{AuditEntry, AuditQuery, AuditResult, AuditVerify, AuditVerifyResult};
pub use group_keys::{
    GroupCommit, GroupCommitted, GroupInfo, GroupInfoResult, GroupLog, GroupLogResult, GroupStatus, GroupStatusNoted,
    KeyGrant, KeyGranted, KeyRequest, KeyRequested, LogRecord, SealRecord,
};
pub use groups::{GroupJoined, GroupLeft, JoinGroup, LeaveGroup};
pub use members::{GetGrants, GrantMap, Grants, ListMembers, MemberRemoved, MembersList, RemoveMember, SetGrants};
pub use mesh::{MemberStats, MeshInfo, MeshInfoResult, MeshStats, MeshStatsResult, TaskCounts};
pub use messaging::{
    AckMessages, ListPeers, MessageAck, MessageStatus, MessageStatusResult, MessagesAcked, MessagesPulled, PeersList,
    PullMessages, SendAck, SendEnvelope, Waiting,
};
pub use profile::{
    Ack, ProfileSet, SetProfile, SetStats, SetStatus, SetSummary, SetVisible, StatsSet, StatusSet, SummarySet,
    VisibleSet,
};
pub use state::{
    DeleteState, GetState, ListState, SetState, StateDeleted, StateEntry, StateList, StateResult, StateSet,
};
