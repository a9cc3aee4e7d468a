//! What a scheme of group keys offers, and the values it deals in.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::device::DeviceEntry;
use super::entry::{Head, Invite, LogEntry, Role};
use super::error::GroupError;
use super::label::{GroupKey, Label};
use super::roster::{EpochId, Roster};
use super::seal::Seal;
use super::wire::{Secret32, parse_json, secret_json};
use crate::{PublicKey, SecretKey};

const MAX_PROPOSAL: usize = 8 * 1024 * 1024;

/// How the keys of a group are agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scheme {
    /// Signed, hash-chained epoch records with sealed keys.
    #[serde(rename = "epoch/1")]
    Epoch1,
}

/// Who signs the entries of a proposal: the owner key, the key of a device or member, or the key of an invite. The rules of
/// the log decide what it may do. Epochs are always signed by the device of the [`GroupKeys`].
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a>(&'a SecretKey);

impl<'a> Signer<'a> {
    /// Signs with this key.
    #[must_use]
    pub const fn new(key: &'a SecretKey) -> Self {
        Self(key)
    }

    pub(super) const fn key(&self) -> &'a SecretKey {
        self.0
    }
}

/// What to change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Put a device on the roster; starts an epoch where joiners may not read the past.
    Admit(DeviceEntry),
    /// Take members or devices off the roster, and start an epoch if we stay.
    Remove {
        /// Members, with all their devices.
        members: Vec<PublicKey>,
        /// Single devices.
        devices: Vec<PublicKey>,
    },
    /// Change a member's role.
    Role {
        /// The member.
        member: PublicKey,
        /// The new role.
        role: Role,
    },
    /// Replace our own seal key by a fresh random one.
    Reseal,
    /// Make an invite; its receiver gets the current key.
    Invite(Invite),
    /// Withdraw an invite and start an epoch.
    RevokeInvite(PublicKey),
    /// Start an epoch.
    Rotate,
    /// Sign the head as of now.
    Checkpoint,
    /// Start the next generation of the log with the roster as it is, and its first epoch.
    Reset,
}

/// Entries that build on each other and on `base`, with their seals. Send both; call [`GroupKeys::accepted`] when the broker
/// took them, forget it when it did not.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proposed {
    /// The head that the first entry follows; `None` for a new log.
    pub base: Option<Head>,
    /// Entries, in order.
    pub entries: Vec<LogEntry>,
    /// Seals of the epochs among them, and of the current key to new receivers.
    pub seals: Vec<Seal>,
    pub(super) keys: Vec<KeyRecord>,
    pub(super) seal_secret: Option<Secret32>,
}

impl Proposed {
    /// The form to store until the broker has answered. Contains the new keys.
    ///
    /// # Errors
    /// Never in practice.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, GroupError> {
        secret_json(self).map_err(|_| GroupError::Unreadable)
    }

    /// Reads [`Proposed::to_bytes`].
    ///
    /// # Errors
    /// [`GroupError::Unreadable`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GroupError> {
        parse_json(bytes, MAX_PROPOSAL).map_err(|_| GroupError::Unreadable)
    }
}

/// What became of the key of a new epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOutcome {
    /// The entry starts no epoch.
    Unchanged,
    /// We have it.
    Opened,
    /// No seal for us came with it: fetch it, or send a [`KeyRequest`](super::KeyRequest).
    Missing,
    /// The seal for us is bad. The log is fine; the named author, or the broker, is not. Send a key request.
    Bad {
        /// Who signed the epoch.
        author: PublicKey,
        /// What is wrong.
        error: GroupError,
    },
}

/// How the log was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetKind {
    /// The new generation continues the chain.
    Continued,
    /// The owner cut the chain: entries that we know, or do not know, are void. Worth telling people.
    Cut,
}

/// What an entry changed for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The new head.
    pub head: Head,
    /// Devices that came in.
    pub admitted: Vec<PublicKey>,
    /// Devices that are gone.
    pub removed: Vec<PublicKey>,
    /// The key of the new epoch.
    pub key: KeyOutcome,
    /// We are gone.
    pub removed_me: bool,
    /// Somebody must start an epoch before anyone sends.
    pub rekey_needed: bool,
    /// The log was reset.
    pub reset: Option<ResetKind>,
}

/// What every scheme can do. Sans-I/O: the caller stores, sends and retries.
pub trait GroupKeys: Send {
    /// Which scheme this is.
    fn scheme(&self) -> Scheme;

    /// The mesh.
    fn mesh_id(&self) -> &str;

    /// Where we stand; goes into direct messages, `hello` and safety numbers.
    fn head(&self) -> Head;

    /// Our device.
    fn device(&self) -> PublicKey;

    /// Who is in the group.
    fn roster(&self) -> &Roster;

    /// Devices on the roster.
    fn members(&self) -> Vec<PublicKey> {
        self.roster().devices().iter().map(|row| row.entry.device).collect()
    }

    /// The newest epoch.
    fn epoch_id(&self) -> EpochId {
        let head = self.head();
        EpochId {
            generation: head.generation,
            epoch: head.epoch,
        }
    }

    /// Whether an epoch must be started before anyone sends.
    fn rekey_needed(&self) -> bool;

    /// Key of a label in an epoch of the current generation; `None` if it is not ours or forgotten.
    fn key(&self, epoch: u64, label: &Label) -> Option<GroupKey> {
        self.key_at(
            EpochId {
                generation: self.head().generation,
                epoch,
            },
            label,
        )
    }

    /// Key of a label in any epoch.
    fn key_at(&self, id: EpochId, label: &Label) -> Option<GroupKey>;

    /// Short name of an epoch's key, from its commitment: 16 hexadecimal characters.
    fn key_id(&self, id: EpochId) -> Option<String>;

    /// Builds a change on the current head. Does not change the state: a lost race needs no rollback.
    ///
    /// # Errors
    /// Which rule forbids it.
    fn propose(&self, change: &Change, signer: &Signer<'_>, now_ms: u64) -> Result<Proposed, GroupError>;

    /// The broker took our proposal.
    ///
    /// # Errors
    /// [`GroupError::Stale`] when our head is another by now; the entries then arrive by [`GroupKeys::apply`].
    fn accepted(&mut self, mine: Proposed, now_ms: u64) -> Result<Applied, GroupError>;

    /// Applies the next entry of the log, with the seals that came with it (ours is picked out).
    ///
    /// # Errors
    /// Why it may not follow; the state is unchanged then.
    fn apply(&mut self, entry: &LogEntry, seals: &[Seal], now_ms: u64) -> Result<Applied, GroupError>;

    /// Everything to restore from, keys included: store it sealed, in the transaction that marks the entry as applied.
    ///
    /// # Errors
    /// Never in practice.
    fn snapshot(&self) -> Result<Zeroizing<Vec<u8>>, GroupError>;
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRecord {
    pub(super) id: EpochId,
    pub(super) key: Secret32,
}
