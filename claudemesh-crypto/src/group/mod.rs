//! Group keys, scheme `epoch/1`: a signed, hash-chained log that the broker orders but can neither write nor read keys from.
//!
//! * The **log** ([`LogEntry`]) says who is on the roster and names each epoch by a commitment to its key. Broker
//!   ([`EpochLog`]) and clients ([`EpochKeys`]) judge entries with the same code ([`LogState::advance`]). The broker appends
//!   a [`Proposed`] as a whole, by compare-and-set on the place of the head.
//! * **Keys** travel in [`Seal`]s (with the epoch) and [`KeyGrant`]s (later). Both are signed and count only if the key fits
//!   the commitment in *our* log.
//! * **Messages** ([`GroupEnvelope`]) carry the sender's signature inside. [`SequenceTracker`] notices what is lost or
//!   repeated.
//! * Outstanding **invites** receive the key of each epoch: whoever has the secret of the link joins with nobody online.
//!   Not under [`HistoryPolicy::SinceJoin`]: there each admission makes a key of its own, and a link opens nothing.
//!
//! # What a hostile broker can still do
//!
//! * Refuse, delay, count, and see who writes when. Keep a member in the past: compare heads from direct messages with
//!   [`LogState::compare`], and warn when [`LogState::checkpoint_ms`] grows old.
//! * Show different logs to different members, until two of them compare heads.
//! * Together with the holder of a link secret: read, while the invite is outstanding, what is said under the keys sealed to
//!   it, without ever joining (not under [`HistoryPolicy::SinceJoin`]); and, after the invite's end, admit that holder with a backdated time that is at most
//!   [`MAX_SKEW_MS`] before the newest checkpoint or admission. So: few uses, short validity, a checkpoint a day, and
//!   revoke what is not needed. A revocation starts an epoch. Removing a member withdraws the invites that the member made
//!   or came in with; links that others have passed on are up to whoever removes.
//! * Together with a removed member: deliver messages under epochs that the member was in. They come out as
//!   [`Opened::former`]; a live message like that is to be refused. Nobody seals under an old epoch while
//!   [`LogState::rekey_needed`].
//! * Keep everything, and wait for a device key to be stolen: the first seal key is derived from the device key, so replace
//!   it soon after joining and weekly ([`Change::Reseal`]). Under [`HistoryPolicy::All`] one newest key opens all that the
//!   chain of wrapped keys reaches, by design.
//!
//! Forward secrecy is per epoch, not per message: rotate at least daily, and [`EpochKeys::forget_before`] what the mesh
//! need not keep. This construction has had no outside review.

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
