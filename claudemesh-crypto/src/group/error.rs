//! Why a log entry, a key or a message was not accepted.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::PublicKey;

/// A place in the group log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Position {
    /// Generation of the log; a reset starts the next one.
    pub generation: u64,
    /// Number of the entry inside its generation, from 0.
    pub index: u64,
}

/// Why a log entry may not follow the current state. Broker and clients judge with the same code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Entries in between are missing: fetch the log from `have` on.
    #[error("the log has a gap: have {}/{}, got {}/{}", have.generation, have.index, got.generation, got.index)]
    Gap {
        /// Newest entry that is known.
        have: Position,
        /// The entry that was offered.
        got: Position,
    },
    /// An entry at this place is already known: the compare-and-set was lost, or the entry is a replay.
    #[error("another entry is already at this place of the log")]
    Stale,
    /// The entry, validly signed, continues another chain than ours.
    #[error("the entry belongs to a fork of the log")]
    Fork,
    /// The author (or the subject of the entry) is not on the roster.
    #[error("{} is not on the roster", .0.short())]
    NotOnRoster(PublicKey),
    /// The author is known, but may not do this.
    #[error("not allowed: {0}")]
    NotAllowed(&'static str),
    /// The signature of the entry, or one inside it, does not verify.
    #[error("a signature does not verify")]
    BadSignature,
    /// Unknown version, other mesh, too long, or inconsistent.
    #[error("malformed entry: {0}")]
    Malformed(&'static str),
    /// The device, member or invite is already there.
    #[error("already on the roster")]
    Duplicate,
    /// The invite is unknown, revoked, used up or expired.
    #[error("the invite is not valid (any more)")]
    InviteNotValid,
    /// The entry is dated in the future or before what the log already proves.
    #[error("the entry's time is not plausible")]
    Clock,
    /// The roster or the list of invites is full.
    #[error("a limit of the roster is reached")]
    Limit,
}

impl Refusal {
    /// Stable code for the wire.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Gap { .. } | Self::Stale => "stale_epoch",
            Self::Fork => "fork",
            Self::NotOnRoster(_) => "not_on_roster",
            Self::NotAllowed(_) => "not_allowed",
            Self::BadSignature => "bad_signature",
            Self::Malformed(_) => "invalid_commit",
            Self::Duplicate => "duplicate",
            Self::InviteNotValid => "invite_not_valid",
            Self::Clock => "clock_skew",
            Self::Limit => "limit",
        }
    }
}

/// Why a member's side of a group could not go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Entries in between are missing: fetch the log from `have` on.
    #[error("the log has a gap: have {}/{}, got {}/{}", have.generation, have.index, got.generation, got.index)]
    Gap {
        /// Newest entry that is known.
        have: Position,
        /// The entry that was offered.
        got: Position,
    },
    /// The entry or proposal is older than our head: a replay, or a lost race; build it again.
    #[error("the group has moved on")]
    Stale,
    /// Validly signed, but not on our chain: the broker shows different members different logs.
    #[error("the entry belongs to a fork of the log")]
    Fork,
    /// This key is not on the roster.
    #[error("{} is not on the roster", .0.short())]
    NotOnRoster(PublicKey),
    /// We were removed.
    #[error("this device was removed from the group")]
    Removed,
    /// A seal, grant, message or snapshot does not open, or opens to something else than was committed to.
    #[error("does not open with our keys")]
    Unreadable,
    /// No key for this epoch: ask for it with a [`KeyRequest`](super::KeyRequest).
    #[error("no key for epoch {epoch} of generation {generation}")]
    UnknownEpoch {
        /// Generation of the missing key.
        generation: u64,
        /// Epoch of the missing key.
        epoch: u64,
    },
    /// The signature does not belong to the author that is named.
    #[error("the signature does not verify")]
    BadSignature,
    /// A removed member still knows the current key: rotate before sending.
    #[error("the group key must be rotated first")]
    RekeyNeeded,
    /// The entry breaks a rule of the log.
    #[error(transparent)]
    Refused(Refusal),
}

impl From<Refusal> for GroupError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Gap { have, got } => Self::Gap { have, got },
            Refusal::Stale => Self::Stale,
            Refusal::Fork => Self::Fork,
            Refusal::NotOnRoster(key) => Self::NotOnRoster(key),
            Refusal::BadSignature => Self::BadSignature,
            other => Self::Refused(other),
        }
    }
}
