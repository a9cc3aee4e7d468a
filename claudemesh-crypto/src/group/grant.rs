//! Handing keys to a device that is on the roster but lacks them: it came in without a link secret, or missed epochs.

use rand_core::{CryptoRngCore, OsRng};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::entry::{Head, HistoryPolicy};
use super::epoch_keys::EpochKeys;
use super::error::{GroupError, Refusal};
use super::roster::{EpochId, Roster};
use super::seal::{commitment, seal_bytes};
use super::state::HeadRelation;
use super::wire::{Digest, Encoder, Secret32, base64_blob, parse_json};
use crate::{PublicKey, Signature};

const GRANT_DOMAIN: &str = "claudemesh/group/grant/1";
const REQUEST_DOMAIN: &str = "claudemesh/group/request/1";
/// Most keys in one grant.
const MAX_KEYS: usize = 1024;
const MAX_GRANT_JSON: usize = 256 * 1024;
const MAX_REQUEST_JSON: usize = 4096;

/// Why keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RequestReason {
    /// We came in without the secret of an invite link.
    Joined,
    /// Epochs started while our seal was lost, or before we could open it.
    Missed,
    /// The seal for us was bad.
    BadSeal,
    /// We lost our state.
    Restored,
}

impl RequestReason {
    const fn code(self) -> u8 {
        match self {
            Self::Joined => 0,
            Self::Missed => 1,
            Self::BadSeal => 2,
            Self::Restored => 3,
        }
    }
}

/// A device asks the others for keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRequest {
    /// Format version, 1.
    pub v: u8,
    /// The mesh.
    pub mesh_id: String,
    /// Who asks.
    pub device: PublicKey,
    /// The oldest epoch of `generation` that is missing.
    pub need_epoch: u64,
    /// Its generation.
    pub generation: u64,
    /// Where the asker stands: shows a fork to whoever answers.
    pub head: Head,
    /// Why.
    pub reason: RequestReason,
    /// When.
    pub at_ms: u64,
    /// By `device` over domain `claudemesh/group/request/1`, v (u8), mesh id (text), device (key), generation, needed epoch,
    /// head's generation, index, epoch (u64), head's hash, reason (u8), time (u64).
    pub signature: Signature,
}

impl KeyRequest {
    /// Parses JSON from the network.
    ///
    /// # Errors
    /// [`GroupError::Unreadable`].
    pub fn from_json(json: &[u8]) -> Result<Self, GroupError> {
        parse_json(json, MAX_REQUEST_JSON).map_err(|_| GroupError::Unreadable)
    }

    /// Checks that a device on the roster signed it. Needs no secrets.
    ///
    /// # Errors
    /// [`GroupError::NotOnRoster`], [`GroupError::BadSignature`].
    pub fn verify(&self, mesh_id: &str, roster: &Roster) -> Result<(), GroupError> {
        if self.v != 1 || self.mesh_id != mesh_id {
            return Err(Refusal::Malformed("key request").into());
        }
        if !roster.contains(&self.device) {
            return Err(GroupError::NotOnRoster(self.device));
        }
        self.device
            .verify(&self.signed_bytes(), &self.signature)
            .map_err(|_| GroupError::BadSignature)
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Encoder::new(REQUEST_DOMAIN);
        out.u8(self.v)
            .bytes(self.mesh_id.as_bytes())
            .key(&self.device)
            .u64(self.generation)
            .u64(self.need_epoch);
        out.u64(self.head.generation)
            .u64(self.head.index)
            .u64(self.head.epoch)
            .raw(self.head.hash.as_bytes());
        out.u8(self.reason.code()).u64(self.at_ms).finish()
    }
}

/// Keys of consecutive epochs of one generation, from a device on the roster to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyGrant {
    /// Format version, 1.
    pub v: u8,
    /// The mesh.
    pub mesh_id: String,
    /// Generation of the keys.
    pub generation: u64,
    /// First epoch.
    pub from_epoch: u64,
    /// Last epoch.
    pub to_epoch: u64,
    /// Device that they are for.
    pub to: PublicKey,
    /// Sealed box (base64) of the keys, 32 bytes each, to the receiver's seal key.
    #[serde(with = "base64_blob")]
    pub keys: Vec<u8>,
    /// Commitments to the keys, as the log of the author has them.
    pub commitments: Vec<Digest>,
    /// Where the author stands.
    pub head: Head,
    /// Device that hands them out.
    pub author: PublicKey,
    /// By `author` over domain `claudemesh/group/grant/1`, v (u8), mesh id (text), generation, first, last epoch (u64),
    /// receiver (key), keys (blob), list of commitments, head's generation, index, epoch (u64), head's hash, author (key).
    pub signature: Signature,
}

impl KeyGrant {
    /// Parses JSON from the network.
    ///
    /// # Errors
    /// [`GroupError::Unreadable`].
    pub fn from_json(json: &[u8]) -> Result<Self, GroupError> {
        parse_json(json, MAX_GRANT_JSON).map_err(|_| GroupError::Unreadable)
    }

    /// Checks shape, author and signature. Needs no secrets.
    ///
    /// # Errors
    /// [`GroupError::NotOnRoster`], [`GroupError::BadSignature`], or a [`Refusal`] for a bad shape.
    pub fn verify(&self, mesh_id: &str, roster: &Roster) -> Result<(), GroupError> {
        let count = self
            .to_epoch
            .checked_sub(self.from_epoch)
            .and_then(|more| usize::try_from(more).ok());
        let count = count
            .and_then(|more| more.checked_add(1))
            .filter(|count| *count <= MAX_KEYS);
        let fits = count.is_some_and(|count| self.commitments.len() == count && self.keys.len() == 48 + 32 * count);
        if self.v != 1 || self.mesh_id != mesh_id || self.from_epoch == 0 || !fits {
            return Err(Refusal::Malformed("key grant").into());
        }
        for device in [&self.author, &self.to] {
            if !roster.contains(device) {
                return Err(GroupError::NotOnRoster(*device));
            }
        }
        self.author
            .verify(&self.signed_bytes(), &self.signature)
            .map_err(|_| GroupError::BadSignature)
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Encoder::new(GRANT_DOMAIN);
        out.u8(self.v).bytes(self.mesh_id.as_bytes());
        out.u64(self.generation)
            .u64(self.from_epoch)
            .u64(self.to_epoch)
            .key(&self.to)
            .bytes(&self.keys);
        out.count(self.commitments.len());
        for commitment in &self.commitments {
            out.raw(commitment.as_bytes());
        }
        out.u64(self.head.generation)
            .u64(self.head.index)
            .u64(self.head.epoch)
            .raw(self.head.hash.as_bytes());
        out.key(&self.author).finish()
    }
}

/// What a grant brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantApplied {
    /// How many keys are new, those unwrapped from them included.
    pub learned: usize,
    /// How the author's head relates to ours.
    pub author_head: HeadRelation,
}

impl EpochKeys {
    /// Asks for the oldest epoch that we miss, or the newest if none.
    #[must_use]
    pub fn request(&self, reason: RequestReason, at_ms: u64) -> KeyRequest {
        let need = self
            .missing_epochs()
            .first()
            .copied()
            .unwrap_or_else(|| self.state.epoch_id());
        let mut request = KeyRequest {
            v: 1,
            mesh_id: self.state.mesh_id().to_owned(),
            device: self.me.public(),
            need_epoch: need.epoch,
            generation: need.generation,
            head: self.state.head(),
            reason,
            at_ms,
            signature: Signature::from_bytes([0; 64]),
        };
        request.signature = self.me.sign(&request.signed_bytes());
        request
    }

    /// Keys for a device on the roster, up to the newest that we have in `from`'s generation. `from` is what it asked for;
    /// `None` means everything that the mesh's policy lets it read. Under [`HistoryPolicy::SinceJoin`] it never gets
    /// epochs from before it came.
    ///
    /// # Errors
    /// [`GroupError::NotOnRoster`], or [`GroupError::UnknownEpoch`] when we have nothing to give.
    pub fn grant_for(&self, device: &PublicKey, from: Option<EpochId>) -> Result<KeyGrant, GroupError> {
        self.grant_with(device, from, &mut OsRng)
    }

    /// Answers a request: checks it, compares heads, grants from the epoch that is asked for.
    ///
    /// # Errors
    /// As [`KeyRequest::verify`] and [`EpochKeys::grant_for`]; [`GroupError::Fork`] when the asker is on another chain.
    pub fn answer(&self, request: &KeyRequest) -> Result<KeyGrant, GroupError> {
        request.verify(self.state.mesh_id(), self.state.roster())?;
        if self.state.compare(&request.head) == HeadRelation::Fork {
            return Err(GroupError::Fork);
        }
        let from = EpochId {
            generation: request.generation,
            epoch: request.need_epoch,
        };
        self.grant_for(&request.device, Some(from))
    }

    pub(super) fn grant_with(
        &self,
        device: &PublicKey,
        from: Option<EpochId>,
        rng: &mut impl CryptoRngCore,
    ) -> Result<KeyGrant, GroupError> {
        let roster = self.state.roster();
        let row = roster.device(device).ok_or(GroupError::NotOnRoster(*device))?;
        let generation = from.map_or(self.state.head().generation, |from| from.generation);
        let mut first = from.unwrap_or(EpochId { generation, epoch: 1 });
        if roster.history() == HistoryPolicy::SinceJoin {
            first = first.max(row.since);
        }
        // The newest run of consecutive epochs that we have.
        let mut run: Vec<(EpochId, &Secret32)> = Vec::new();
        for (id, key) in self
            .keys
            .range(first..)
            .rev()
            .skip_while(|(id, _)| id.generation != generation)
        {
            let follows = run
                .last()
                .is_none_or(|(later, _)| id.epoch.checked_add(1) == Some(later.epoch));
            if id.generation != generation || !follows || run.len() >= MAX_KEYS {
                break;
            }
            run.push((*id, key));
        }
        run.reverse();
        let (Some((oldest, _)), Some((newest, _))) = (run.first(), run.last()) else {
            return Err(GroupError::unknown(first));
        };
        let mut plain = Zeroizing::new(Vec::with_capacity(32 * run.len()));
        let mut commitments = Vec::with_capacity(run.len());
        for (id, key) in &run {
            plain.extend_from_slice(key.bytes());
            commitments.push(commitment(self.state.mesh_id(), *id, key.bytes()));
        }
        let mut grant = KeyGrant {
            v: 1,
            mesh_id: self.state.mesh_id().to_owned(),
            generation,
            from_epoch: oldest.epoch,
            to_epoch: newest.epoch,
            to: *device,
            keys: seal_bytes(&plain, row.entry.seal_key, rng)?,
            commitments,
            head: self.state.head(),
            author: self.me.public(),
            signature: Signature::from_bytes([0; 64]),
        };
        grant.signature = self.me.sign(&grant.signed_bytes());
        Ok(grant)
    }

    /// Takes the keys of a grant: author on the roster, signature good, each key as committed to in *our* log. A key that the
    /// broker or a rogue member chose fits no commitment.
    ///
    /// # Errors
    /// Why it is refused as a whole.
    pub fn apply_grant(&mut self, grant: &KeyGrant) -> Result<GrantApplied, GroupError> {
        grant.verify(self.state.mesh_id(), self.state.roster())?;
        if grant.to != self.me.public() {
            return Err(GroupError::Unreadable);
        }
        let opened = self.unseal(&grant.keys)?;
        if opened.len() != 32 * grant.commitments.len() {
            return Err(GroupError::Unreadable);
        }
        let mut learned = Vec::with_capacity(grant.commitments.len());
        for (epoch, bytes) in (grant.from_epoch..=grant.to_epoch).zip(opened.chunks_exact(32)) {
            let id = EpochId {
                generation: grant.generation,
                epoch,
            };
            let record = self.state.epoch(id).ok_or_else(|| GroupError::unknown(id))?;
            let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| GroupError::Unreadable)?;
            let key = Secret32::new(bytes);
            if commitment(self.state.mesh_id(), id, key.bytes()) != record.commitment {
                return Err(GroupError::Unreadable);
            }
            learned.push((id, key));
        }
        let before = self.keys.len();
        for (id, key) in learned {
            self.learn(id, key);
        }
        Ok(GrantApplied {
            learned: self.keys.len() - before,
            author_head: self.state.compare(&grant.head),
        })
    }
}
