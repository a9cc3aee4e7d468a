//! The keyring as it is stored: group keys, proposals under way, the secret of an invite, the owner's key.

use super::group_error::group_error;
use crate::ClientError;
use claudemesh_crypto::group::{
    Applied, EpochId, EpochKeys, GroupError, GroupKeys as _, HistoryPolicy, LogEntry, Proposed, Seal,
};
use claudemesh_crypto::{PublicKey, SecretKey, decode_base64, encode_base64};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
/// Proposals that are remembered; older ones were lost races.
const MAX_PENDING: usize = 16;

/// Times of epochs that are remembered, to know which are old; the oldest are forgotten first.
const MAX_PAST: usize = 2048;

/// When an epoch came to be known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EpochSince {
    pub(super) id: EpochId,
    pub(super) at_ms: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    v: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<SecretBytes>,
    /// Proposals that were sent and not answered: whichever process sees their entries in the log takes their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pending: Vec<SecretBytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invite: Option<SecretBytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<PublicKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    history: Option<HistoryPolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch_since: Option<EpochSince>,
    /// Epochs before that one whose keys are kept for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past: Vec<EpochSince>,
    #[serde(default)]
    resealed_ms: i64,
}

/// Bytes that are wiped, base64 in JSON.
struct SecretBytes(Zeroizing<Vec<u8>>);

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(encode_base64(&self.0)))
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let bytes = decode_base64(&text).ok_or_else(|| serde::de::Error::custom("not base64"))?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

/// A keyring that was read, and is written back if it is `dirty`.
#[derive(Default)]
pub(super) struct Ring {
    pub(super) keys: Option<EpochKeys>,
    pending: Vec<Proposed>,
    pub(super) invite: Option<Zeroizing<[u8; 32]>>,
    pub(super) owner: Option<PublicKey>,
    history: Option<HistoryPolicy>,
    pub(super) epoch_since: Option<EpochSince>,
    past: Vec<EpochSince>,
    pub(super) resealed_ms: i64,
    dirty: bool,
}

/// What following some entries came to.
pub(super) struct Followed {
    pub(super) applied: Vec<Applied>,
    /// Why it ended before the last entry.
    pub(super) stopped: Option<GroupError>,
}

impl Ring {
    pub(super) fn read(bytes: Option<&[u8]>, device: &SecretKey) -> Result<Self, ClientError> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let unreadable = || {
            ClientError::crypto(
                "the group keyring of this mesh is damaged or belongs to another member; move its file away, and the other \
                 members hand the keys out again",
            )
        };
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| unreadable())?;
        if stored.v != VERSION {
            return Err(unreadable());
        }
        let keys = match &stored.snapshot {
            Some(snapshot) => Some(EpochKeys::restore(&snapshot.0, device).map_err(|_| unreadable())?),
            None => None,
        };
        let invite = match &stored.invite {
            Some(secret) => Some(Zeroizing::new(
                secret.0.as_slice().try_into().map_err(|_| unreadable())?,
            )),
            None => None,
        };
        Ok(Self {
            keys,
            pending: stored
                .pending
                .iter()
                .filter_map(|bytes| Proposed::from_bytes(&bytes.0).ok())
                .collect(),
            invite,
            owner: stored.owner,
            history: stored.history,
            epoch_since: stored.epoch_since,
            past: stored.past,
            resealed_ms: stored.resealed_ms,
            dirty: false,
        })
    }

    /// The bytes to store, if anything changed.
    pub(super) fn write(&self) -> Result<Option<Zeroizing<Vec<u8>>>, ClientError> {
        if !self.dirty {
            return Ok(None);
        }
        let snapshot = match &self.keys {
            Some(keys) => Some(SecretBytes(keys.snapshot().map_err(group_error)?)),
            None => None,
        };
        let mut pending = Vec::with_capacity(self.pending.len());
        for proposed in &self.pending {
            pending.push(SecretBytes(proposed.to_bytes().map_err(group_error)?));
        }
        let inside = snapshot
            .iter()
            .chain(&pending)
            .map(|bytes| bytes.0.len())
            .sum::<usize>();
        let stored = Stored {
            v: VERSION,
            snapshot,
            pending,
            invite: self
                .invite
                .as_ref()
                .map(|secret| SecretBytes(Zeroizing::new(secret.to_vec()))),
            owner: self.owner,
            history: self.history,
            epoch_since: self.epoch_since,
            past: self.past.clone(),
            resealed_ms: self.resealed_ms,
        };
        // Long enough to never grow: a vector that grows leaves copies behind.
        let room = inside / 3 * 4 + 64 * self.pending.len() + 128 * self.past.len() + 1024;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *bytes, &stored).map_err(ClientError::crypto)?;
        Ok(Some(bytes))
    }

    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    pub(super) fn set_keys(&mut self, keys: EpochKeys, now_ms: i64) {
        self.keys = Some(keys);
        self.history = None;
        self.note_epoch(now_ms);
        self.dirty = true;
    }

    pub(super) fn set_invite(&mut self, secret: Option<Zeroizing<[u8; 32]>>) {
        self.dirty |= self.invite.is_some() || secret.is_some();
        self.invite = secret;
    }

    /// The policy that the log is to be started with, until there is one.
    pub(super) const fn history(&self) -> Option<HistoryPolicy> {
        self.history
    }

    pub(super) fn set_history(&mut self, history: HistoryPolicy) {
        if self.keys.is_none() && self.history != Some(history) {
            self.history = Some(history);
            self.dirty = true;
        }
    }

    pub(super) fn remember(&mut self, proposed: Proposed) {
        if self.pending.len() >= MAX_PENDING {
            self.pending.remove(0);
        }
        self.pending.push(proposed);
        self.dirty = true;
    }

    /// Forgets proposals on heads that are no longer current.
    fn drop_outdated(&mut self) {
        let head = self.keys.as_ref().map(|keys| keys.head());
        let before = self.pending.len();
        self.pending.retain(|proposed| proposed.base == head);
        self.dirty |= self.pending.len() != before;
    }

    pub(super) fn forget(&mut self, proposed: &Proposed) {
        let before = self.pending.len();
        self.pending.retain(|known| known.entries != proposed.entries);
        self.dirty |= self.pending.len() != before;
    }

    /// Takes entries of the log. One that starts a proposal of ours is taken with the secrets of the proposal.
    pub(super) fn follow(&mut self, entries: &[LogEntry], seals: &[Seal], now_ms: i64) -> Followed {
        let mut followed = Followed {
            applied: Vec::new(),
            stopped: None,
        };
        let Some(keys) = self.keys.as_mut() else {
            return followed;
        };
        let now = u64::try_from(now_ms).unwrap_or(0);
        for entry in entries {
            let head = keys.head();
            let mine = self
                .pending
                .iter()
                .find(|proposed| proposed.base == Some(head) && proposed.entries.first() == Some(entry))
                .cloned();
            let outcome = match mine {
                Some(proposed) => keys.accepted(proposed, now),
                None => keys.apply(entry, seals, now),
            };
            match outcome {
                Ok(applied) => {
                    self.dirty = true;
                    followed.applied.push(applied);
                }
                Err(GroupError::Stale) => {}
                Err(error) => {
                    followed.stopped = Some(error);
                    break;
                }
            }
        }
        let me = keys.device();
        for seal in seals.iter().filter(|seal| seal.to == me) {
            let is_new = !keys.has_key(seal.id()) && !keys.is_forgotten(seal.id());
            if is_new && keys.apply_seal(seal).is_ok() {
                self.dirty = true;
            }
        }
        self.note_epoch(now_ms);
        self.drop_outdated();
        followed
    }

    /// Deletes the keys of epochs that had ended by `before_ms`. Gives whether there were any.
    pub(super) fn forget_ended(&mut self, before_ms: i64) -> bool {
        // Whatever was the newest epoch then, those before it had ended.
        let known = self.past.iter().chain(&self.epoch_since);
        let Some(newest) = known
            .filter(|since| since.at_ms <= before_ms)
            .map(|since| since.id)
            .max()
        else {
            return false;
        };
        let before = self.past.len();
        self.past.retain(|since| since.id >= newest);
        let Some(keys) = self.keys.as_mut().filter(|_| self.past.len() != before) else {
            return false;
        };
        keys.forget_before(newest);
        self.dirty = true;
        true
    }

    fn note_epoch(&mut self, now_ms: i64) {
        let Some(id) = self.keys.as_ref().map(|keys| keys.epoch_id()) else {
            return;
        };
        if self.epoch_since.is_none_or(|since| since.id != id) {
            if self.past.len() >= MAX_PAST {
                self.past.remove(0);
            }
            self.past.extend(self.epoch_since);
            self.epoch_since = Some(EpochSince { id, at_ms: now_ms });
            self.dirty = true;
        }
    }
}
