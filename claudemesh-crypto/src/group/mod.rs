//! Group keys, scheme `epoch/1`: a signed, hash-chained log that the broker orders but cannot write, read or bend.

mod content;
mod device;
mod entry;
mod epoch_keys;
mod error;
mod grant;
mod keys;
mod label;
mod log;
mod propose;
mod roster;
mod rules;
mod seal;
mod sequence;
mod state;
mod wire;

#[cfg(test)]
mod rogue_tests;
#[cfg(test)]
mod vector_tests;

pub use content::{ContentContext, GroupEnvelope, Opened, open_group, seal_group};
pub use device::{DeviceEntry, InviteKeys, first_seal_key};
pub use entry::{
    AdmitBy, ENTRY_VERSION, EntryBody, EpochReason, Head, HistoryPolicy, Invite, LogEntry, MAX_DEVICES, MAX_ENTRY_JSON,
    MAX_INVITES, Role, WrappedKey,
};
pub use epoch_keys::EpochKeys;
pub use error::{GroupError, Position, Refusal};
pub use grant::{GrantApplied, KeyGrant, KeyRequest, RequestReason};
pub use keys::{Applied, Change, GroupKeys, KeyOutcome, Proposed, ResetKind, Scheme, Signer};
pub use label::{GroupKey, Label};
pub use log::{EpochLog, GroupLog};
pub use propose::InviteTerms;
pub use roster::{EpochId, FormerDevice, Roster, RosterDevice, RosterInvite, Standing};
pub use seal::{SEAL_BYTES, Seal, commitment, seals_digest};
pub use sequence::{SequenceReport, SequenceTracker};
pub use state::{EpochRecord, HeadRelation, LogState, MAX_SKEW_MS};
pub use wire::{Digest, SealKey};
