//! A member's side of scheme `epoch/1`: follows the log, keeps the keys.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rand_core::{CryptoRngCore, OsRng};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::device::{InviteKeys, first_seal_key};
use super::entry::{EntryBody, Head, HistoryPolicy, LogEntry};
use super::error::GroupError;
use super::keys::{Applied, Change, GroupKeys, KeyOutcome, KeyRecord, Proposed, ResetKind, Scheme, Signer};
use super::label::{GroupKey, Label};
use super::propose::Draft;
use super::roster::{EpochId, Roster};
use super::seal::{Seal, commitment, open_seal, unwrap};
use super::state::LogState;
use super::wire::{SealKey, Secret32, parse_json, secret_json};
use crate::{BoxSecretKey, PublicKey, SecretKey};

const MAX_SNAPSHOT: usize = 32 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Snapshot {
    v: u8,
    device: PublicKey,
    state: LogState,
    keys: Vec<KeyRecord>,
    seal_secrets: Vec<Secret32>,
    forgotten_before: EpochId,
    removed: bool,
}

/// [`GroupKeys`] of scheme `epoch/1`.
///
/// ```
/// use claudemesh_crypto::SecretKey;
/// use claudemesh_crypto::group::{EpochKeys, GroupKeys as _, HistoryPolicy, Label};
///
/// let (owner, member) = (SecretKey::generate(), SecretKey::generate());
/// let (keys, created) = EpochKeys::create("mesh", &owner, &member, HistoryPolicy::All, 1_000)?;
/// assert_eq!(created.entries.len(), 2);
/// assert!(keys.key(1, &Label::all()).is_some());
/// # Ok::<(), claudemesh_crypto::group::GroupError>(())
/// ```
pub struct EpochKeys {
    pub(super) me: SecretKey,
    pub(super) state: LogState,
    pub(super) keys: BTreeMap<EpochId, Secret32>,
    /// Newest first; the second is kept for epochs from before it was replaced.
    seal_secrets: Vec<Secret32>,
    forgotten_before: EpochId,
    removed: bool,
}

impl fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochKeys")
            .field("device", &self.me.public())
            .field("head", &self.state.head())
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl EpochKeys {
    /// Starts a log: genesis and first epoch. `member` becomes the first device, an admin. Send the proposal as it is; it is
    /// already applied here. Drop both if the broker refuses it.
    ///
    /// # Errors
    /// An unusable mesh id.
    pub fn create(
        mesh_id: &str,
        owner: &SecretKey,
        member: &SecretKey,
        history: HistoryPolicy,
        now_ms: u64,
    ) -> Result<(Self, Proposed), GroupError> {
        Self::create_with(mesh_id, owner, member, history, now_ms, &mut OsRng)
    }

    pub(super) fn create_with(
        mesh_id: &str,
        owner: &SecretKey,
        member: &SecretKey,
        history: HistoryPolicy,
        now_ms: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(Self, Proposed), GroupError> {
        let (draft, genesis) = Draft::genesis(mesh_id, owner, member, history, now_ms)?;
        let state = LogState::start(mesh_id, &owner.public(), &genesis, now_ms)?;
        let mut keys = Self::over(state, member);
        let proposed = draft.finish_create(member, now_ms, rng)?;
        for entry in &proposed.entries[1..] {
            keys.state = keys.state.advance(entry, now_ms)?;
        }
        keys.keys
            .extend(proposed.keys.iter().map(|record| (record.id, record.key.clone())));
        Ok((keys, proposed))
    }

    /// Follows a log from its start (genesis, or a reset by the owner), whether or not we are on its roster yet. `owner` is
    /// known from the invite or the configuration, never from the broker.
    ///
    /// # Errors
    /// Why the log is not acceptable.
    pub fn from_log(
        mesh_id: &str,
        owner: &PublicKey,
        entries: &[LogEntry],
        seals: &[Seal],
        me: &SecretKey,
        now_ms: u64,
    ) -> Result<Self, GroupError> {
        let Some((first, rest)) = entries.split_first() else {
            return Err(GroupError::Unreadable);
        };
        let mut state = LogState::start(mesh_id, owner, first, now_ms)?;
        for entry in rest {
            state = state.advance(entry, now_ms)?;
        }
        let mut keys = Self::over(state, me);
        for seal in seals.iter().filter(|seal| seal.to == me.public()) {
            // A bad seal must not hide a good one; what is missing shows in `missing_epochs`.
            let _ = keys.apply_seal(seal);
        }
        Ok(keys)
    }

    /// Reads a snapshot of this device.
    ///
    /// # Errors
    /// [`GroupError::Unreadable`], also for a snapshot of another device.
    pub fn restore(snapshot: &[u8], me: &SecretKey) -> Result<Self, GroupError> {
        let read: Snapshot = parse_json(snapshot, MAX_SNAPSHOT).map_err(|_| GroupError::Unreadable)?;
        if read.v != 1 || read.device != me.public() || read.seal_secrets.is_empty() {
            return Err(GroupError::Unreadable);
        }
        Ok(Self {
            me: me.clone(),
            state: read.state,
            keys: read.keys.into_iter().map(|record| (record.id, record.key)).collect(),
            seal_secrets: read.seal_secrets,
            forgotten_before: read.forgotten_before,
            removed: read.removed,
        })
    }

    fn over(state: LogState, me: &SecretKey) -> Self {
        let first = Secret32::new(first_seal_key(state.mesh_id(), me).to_bytes());
        Self {
            me: me.clone(),
            state,
            keys: BTreeMap::new(),
            seal_secrets: vec![first],
            forgotten_before: EpochId {
                generation: 0,
                epoch: 0,
            },
            removed: false,
        }
    }

    /// The state of the log.
    #[must_use]
    pub const fn state(&self) -> &LogState {
        &self.state
    }

    /// Whether our device is on the roster.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.state.roster().contains(&self.me.public())
    }

    /// Whether our seal key can be opened by us: false after a backup without its state was restored. Then
    /// [`Change::Reseal`] and ask for the keys.
    #[must_use]
    pub fn seal_key_known(&self) -> bool {
        self.state.roster().device(&self.me.public()).is_none_or(|row| {
            self.seal_secrets
                .iter()
                .any(|secret| SealKey::from(&box_key(secret).public_key()) == row.entry.seal_key)
        })
    }

    /// Whether our seal key is still the one derived from the device key. Replace it soon after joining, then weekly.
    #[must_use]
    pub fn first_seal_key_in_use(&self) -> bool {
        let first = SealKey::from(&first_seal_key(self.state.mesh_id(), &self.me).public_key());
        self.state
            .roster()
            .device(&self.me.public())
            .is_some_and(|row| row.entry.seal_key == first)
    }

    /// Epochs that the log still names, that we were in (or may read), and that we have no key for. Oldest first.
    #[must_use]
    pub fn missing_epochs(&self) -> Vec<EpochId> {
        let since = match (
            self.state.roster().history(),
            self.state.roster().device(&self.me.public()),
        ) {
            (HistoryPolicy::SinceJoin, Some(row)) => row.since.max(self.forgotten_before),
            _ => self.forgotten_before,
        };
        let ids = self.state.epochs().iter().map(|record| record.id);
        ids.filter(|id| *id >= since && !self.keys.contains_key(id)).collect()
    }

    /// Whether we hold the key of this epoch.
    #[must_use]
    pub fn has_key(&self, id: EpochId) -> bool {
        self.keys.contains_key(&id)
    }

    /// Whether the key of this epoch was deleted for good.
    #[must_use]
    pub fn is_forgotten(&self, id: EpochId) -> bool {
        id < self.forgotten_before
    }

    /// Deletes the keys of epochs before this one, for good: they are not asked for or unwrapped again.
    pub fn forget_before(&mut self, id: EpochId) {
        self.forgotten_before = self.forgotten_before.max(id);
        self.keys.retain(|known, _| *known >= id);
    }

    /// Takes a seal that arrived by itself: after our admission, or fetched later.
    ///
    /// # Errors
    /// Why it is not a good seal for us.
    pub fn apply_seal(&mut self, seal: &Seal) -> Result<(), GroupError> {
        if seal.to != self.me.public() {
            return Err(GroupError::Unreadable);
        }
        let mut last = GroupError::Unreadable;
        for secret in &self.seal_secrets {
            match self.open(seal, &box_key(secret)) {
                Ok(key) => {
                    self.learn(seal.id(), key);
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Opens the seal of an outstanding invite with the secret from its link: the joiner has the keys with nobody online.
    ///
    /// # Errors
    /// Why it is not a good seal for this invite.
    pub fn open_with_invite(&mut self, invite: &InviteKeys, seal: &Seal) -> Result<(), GroupError> {
        if seal.to != invite.invite_key() {
            return Err(GroupError::Unreadable);
        }
        let key = self.open(seal, &invite.seal)?;
        self.learn(seal.id(), key);
        Ok(())
    }

    fn open(&self, seal: &Seal, secret: &BoxSecretKey) -> Result<Secret32, GroupError> {
        let record = self
            .state
            .epoch(seal.id())
            .ok_or_else(|| GroupError::unknown(seal.id()))?;
        if !self.state.roster().knows(&seal.author) {
            return Err(GroupError::NotOnRoster(seal.author));
        }
        seal.verify(self.state.mesh_id(), &record.prev, &record.commitment)?;
        open_seal(seal, self.state.mesh_id(), record, secret)
    }

    /// Stores a verified key and everything that can be unwrapped from it.
    pub(super) fn learn(&mut self, id: EpochId, key: Secret32) {
        if id < self.forgotten_before {
            return;
        }
        self.keys.insert(id, key);
        for record in self.state.epochs().iter().rev() {
            let (Some(key), Some(wrapped)) = (self.keys.get(&record.id), record.wrapped_prev.as_ref()) else {
                continue;
            };
            let inner = EpochId {
                generation: wrapped.generation,
                epoch: wrapped.epoch,
            };
            let Some(expected) = self.state.epoch(inner) else {
                continue;
            };
            if inner < self.forgotten_before || self.keys.contains_key(&inner) {
                continue;
            }
            if let Ok((inner, key)) = unwrap(self.state.mesh_id(), (record.id, key), wrapped)
                && commitment(self.state.mesh_id(), inner, key.bytes()) == expected.commitment
            {
                self.keys.insert(inner, key);
            }
        }
    }

    pub(super) fn seal_record(&self, id: EpochId) -> Option<&Secret32> {
        self.keys.get(&id)
    }

    fn key_of_epoch(&mut self, entry: &LogEntry, seals: &[Seal]) -> KeyOutcome {
        let EntryBody::Epoch { .. } = &entry.body else {
            return KeyOutcome::Unchanged;
        };
        let id = self.state.epoch_id();
        if self.keys.contains_key(&id) {
            return KeyOutcome::Opened;
        }
        let mut outcome = KeyOutcome::Missing;
        let me = self.me.public();
        for seal in seals.iter().filter(|seal| seal.to == me && seal.id() == id) {
            match self.apply_seal(seal) {
                Ok(()) => {
                    // What was sealed to the key before has been opened or asked for by now.
                    if self.seal_secrets.len() > 1 && self.opens_with_newest(seal) {
                        self.seal_secrets.truncate(1);
                    }
                    return KeyOutcome::Opened;
                }
                Err(error) => {
                    outcome = KeyOutcome::Bad {
                        author: entry.author,
                        error,
                    }
                }
            }
        }
        outcome
    }

    fn opens_with_newest(&self, seal: &Seal) -> bool {
        self.seal_secrets
            .first()
            .is_some_and(|secret| self.open(seal, &box_key(secret)).is_ok())
    }

    fn applied(&mut self, before: &LogState, entry: &LogEntry, key: KeyOutcome) -> Applied {
        let (mut admitted, mut removed) = (Vec::new(), Vec::new());
        if !matches!(
            entry.body,
            EntryBody::Epoch { .. } | EntryBody::Checkpoint { .. } | EntryBody::Reseal { .. }
        ) {
            let keys = |state: &LogState| -> BTreeSet<PublicKey> {
                state.roster().devices().iter().map(|row| row.entry.device).collect()
            };
            let (old, new) = (keys(before), keys(&self.state));
            admitted = new.difference(&old).copied().collect();
            removed = old.difference(&new).copied().collect();
        }
        let removed_me = removed.contains(&self.me.public());
        self.removed |= removed_me;
        let reset = matches!(entry.body, EntryBody::Reset { .. }).then(|| {
            let next = before.head().generation.checked_add(1) == Some(entry.generation);
            if next && entry.prev == before.head().hash {
                ResetKind::Continued
            } else {
                ResetKind::Cut
            }
        });
        let rekey_needed = self.state.rekey_needed();
        Applied {
            head: self.state.head(),
            admitted,
            removed,
            key,
            removed_me,
            rekey_needed,
            reset,
        }
    }
}

impl GroupKeys for EpochKeys {
    fn scheme(&self) -> Scheme {
        Scheme::Epoch1
    }

    fn mesh_id(&self) -> &str {
        self.state.mesh_id()
    }

    fn head(&self) -> Head {
        self.state.head()
    }

    fn device(&self) -> PublicKey {
        self.me.public()
    }

    fn roster(&self) -> &Roster {
        self.state.roster()
    }

    fn rekey_needed(&self) -> bool {
        self.state.rekey_needed()
    }

    fn key_at(&self, id: EpochId, label: &Label) -> Option<GroupKey> {
        self.keys
            .get(&id)
            .map(|key| GroupKey::derive(self.state.mesh_id(), id, key, label))
    }

    fn key_id(&self, id: EpochId) -> Option<String> {
        self.state
            .epoch(id)
            .map(|record| hex::encode(&record.commitment.as_bytes()[..8]))
    }

    fn propose(&self, change: &Change, signer: &Signer<'_>, now_ms: u64) -> Result<Proposed, GroupError> {
        if self.removed {
            return Err(GroupError::Removed);
        }
        self.propose_with(change, signer, now_ms, &mut OsRng)
    }

    fn accepted(&mut self, mine: Proposed, now_ms: u64) -> Result<Applied, GroupError> {
        if mine.base != Some(self.state.head()) || mine.entries.is_empty() {
            return Err(GroupError::Stale);
        }
        let before = self.state.clone();
        let mut state = before.clone();
        for entry in &mine.entries {
            state = state.advance(entry, now_ms)?;
        }
        for record in &mine.keys {
            let known = state.epoch(record.id).ok_or(GroupError::Unreadable)?;
            if commitment(state.mesh_id(), record.id, record.key.bytes()) != known.commitment {
                return Err(GroupError::Unreadable);
            }
        }
        self.state = state;
        let key = if mine.keys.is_empty() {
            KeyOutcome::Unchanged
        } else {
            KeyOutcome::Opened
        };
        for record in mine.keys {
            self.learn(record.id, record.key);
        }
        if let Some(secret) = mine.seal_secret {
            self.seal_secrets.insert(0, secret);
            self.seal_secrets.truncate(2);
        }
        // The first entry says what the proposal was about; the epoch that follows changes nothing else.
        Ok(self.applied(&before, &mine.entries[0], key))
    }

    fn apply(&mut self, entry: &LogEntry, seals: &[Seal], now_ms: u64) -> Result<Applied, GroupError> {
        if self.removed {
            return Err(GroupError::Removed);
        }
        let next = self.state.advance(entry, now_ms)?;
        let before = std::mem::replace(&mut self.state, next);
        let key = self.key_of_epoch(entry, seals);
        Ok(self.applied(&before, entry, key))
    }

    fn snapshot(&self) -> Result<Zeroizing<Vec<u8>>, GroupError> {
        let snapshot = Snapshot {
            v: 1,
            device: self.me.public(),
            state: self.state.clone(),
            keys: self
                .keys
                .iter()
                .map(|(id, key)| KeyRecord {
                    id: *id,
                    key: key.clone(),
                })
                .collect(),
            seal_secrets: self.seal_secrets.clone(),
            forgotten_before: self.forgotten_before,
            removed: self.removed,
        };
        secret_json(&snapshot).map_err(|_| GroupError::Unreadable)
    }
}

pub(super) fn box_key(secret: &Secret32) -> BoxSecretKey {
    BoxSecretKey::from(*secret.bytes())
}

impl EpochKeys {
    /// Opens a sealed box with any of our seal keys.
    pub(super) fn unseal(&self, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, GroupError> {
        let opened = self
            .seal_secrets
            .iter()
            .find_map(|secret| box_key(secret).unseal(blob).ok());
        opened.map(Zeroizing::new).ok_or(GroupError::Unreadable)
    }
}
