//! Entries of the group log: what they say, what is signed, how they are chained.

use serde::{Deserialize, Serialize};

use super::device::DeviceEntry;
use super::error::{Position, Refusal};
use super::roster::Roster;
use super::wire::{Digest, Encoder, SealKey, base64_blob, parse_json};
use crate::{PublicKey, SecretKey, Signature};

/// Version of the entry format.
pub const ENTRY_VERSION: u8 = 1;
/// Longest JSON of one entry that is looked at.
pub const MAX_ENTRY_JSON: usize = 4 * 1024 * 1024;
pub(super) const MAX_MESH_ID: usize = 128;
pub(super) const MAX_CODE_HINT: usize = 64;
/// Most devices on a roster.
pub const MAX_DEVICES: usize = 2048;
/// Most outstanding invites.
pub const MAX_INVITES: usize = 64;
/// Length of a wrapped previous key: nonce, key, tag.
pub(super) const WRAPPED_BYTES: usize = 24 + 32 + 16;

const SIGN_DOMAIN: &str = "claudemesh/group/entry/1";
const HASH_DOMAIN: &str = "claudemesh/group/entry-hash/1";

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Admits, removes and invites ordinary members.
    Admin,
    /// Reads and writes.
    Member,
}

/// What joiners may read of what was said before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HistoryPolicy {
    /// Everything that the broker still holds: each epoch carries the previous key, encrypted under the new one.
    All,
    /// Nothing: each admission starts a new epoch.
    SinceJoin,
}

/// By which right a device is admitted. Explicit, so that a key in two roles is never judged by the wrong one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AdmitBy {
    /// The author is the owner of the mesh.
    Owner,
    /// The author is a device of an admin; admits ordinary members only.
    Admin,
    /// The author is the member key of a member on the roster, who adds a device of its own.
    Member,
    /// The author is the key of an outstanding invite.
    Invite,
}

/// Why an epoch was started; for display only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EpochReason {
    /// The first epoch of a mesh.
    Create,
    /// A device came in and may not read what was before.
    Admit,
    /// A device left or an invite was revoked.
    Remove,
    /// The regular change.
    Rotate,
    /// The log was reset.
    Reset,
}

/// The key of an earlier epoch, encrypted under that of a newer one (XChaCha20-Poly1305: nonce, ciphertext, tag).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrappedKey {
    /// Generation of the key inside.
    pub generation: u64,
    /// Epoch of the key inside.
    pub epoch: u64,
    /// 72 bytes, base64.
    #[serde(with = "base64_blob")]
    pub blob: Vec<u8>,
}

/// Terms of an invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Invite {
    /// Signs the admission of whoever holds the link secret.
    pub invite_key: PublicKey,
    /// Receives the key of each epoch while the invite is outstanding.
    pub seal_key: SealKey,
    /// Role of those who join with it.
    pub role: Role,
    /// End of its validity.
    pub expires_at_ms: u64,
    /// How many devices may join with it; at least 1.
    pub max_uses: u32,
    /// Which short code of the broker belongs to it; for display only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_hint: Option<String>,
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum EntryBody {
    /// Starts a log. Signed by the owner; the only entry without a predecessor.
    Genesis {
        /// Owner of the mesh.
        owner: PublicKey,
        /// What joiners may read.
        history: HistoryPolicy,
        /// First device, of the owner's own member; an admin.
        device: DeviceEntry,
        /// When it was written.
        at_ms: u64,
    },
    /// Puts a device on the roster.
    Admit {
        /// The device.
        device: DeviceEntry,
        /// By which right.
        by: AdmitBy,
        /// When it was written; an invite's expiry is judged by it.
        at_ms: u64,
    },
    /// Takes members (all their devices) or single devices off the roster.
    Remove {
        /// Members to remove.
        members: Vec<PublicKey>,
        /// Devices to remove.
        devices: Vec<PublicKey>,
    },
    /// Changes what a member may do. By the owner.
    Role {
        /// The member.
        member: PublicKey,
        /// The new role.
        role: Role,
    },
    /// Replaces the key that epoch keys are sealed to. Signed by the device itself.
    Reseal {
        /// The device, also the author.
        device: PublicKey,
        /// Its new seal key.
        seal_key: SealKey,
        /// [`DeviceEntry::seal_signature`] for the new key.
        seal_signature: Signature,
    },
    /// Makes an invite.
    Invite {
        /// Its terms.
        invite: Invite,
    },
    /// Withdraws an invite.
    RevokeInvite {
        /// Key of the invite.
        invite_key: PublicKey,
    },
    /// Starts an epoch with a fresh key. By any device on the roster.
    Epoch {
        /// One more than the epoch before.
        epoch: u64,
        /// [`commitment`](super::commitment) to the key.
        commitment: Digest,
        /// [`seals_digest`](super::seals_digest) of the seals that came with it.
        seals_digest: Digest,
        /// Why.
        reason: EpochReason,
        /// The previous key, under [`HistoryPolicy::All`] only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wrapped_prev: Option<WrappedKey>,
    },
    /// Starts the next generation of the log with this roster. By the owner, or an admin who continues the head as it is.
    Reset {
        /// Who is on the roster from here on.
        roster: Box<Roster>,
    },
    /// States that this is the head at this time, so that members who are kept in the past can notice. By owner or admin.
    Checkpoint {
        /// When it was written.
        at_ms: u64,
    },
}

/// One signed entry of the group log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogEntry {
    /// Format version, 1.
    pub v: u8,
    /// The mesh.
    pub mesh_id: String,
    /// Generation of the log, from 1.
    pub generation: u64,
    /// Number of the entry inside its generation, from 0.
    pub index: u64,
    /// Hash of the entry before; zero for the first.
    pub prev: Digest,
    /// Who signs.
    pub author: PublicKey,
    /// What it does.
    pub body: EntryBody,
    /// By `author` over [`LogEntry::signed_bytes`].
    pub signature: Signature,
}

/// Where a log stands. Members compare it out of band: equal heads mean equal rosters and equal keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Head {
    /// Generation of the log.
    pub generation: u64,
    /// Number of the newest entry.
    pub index: u64,
    /// Newest epoch; 0 before the first of a generation.
    pub epoch: u64,
    /// Hash of the newest entry.
    pub hash: Digest,
}

impl Head {
    /// The place of the newest entry.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position {
            generation: self.generation,
            index: self.index,
        }
    }
}

impl LogEntry {
    /// Makes and signs an entry.
    #[must_use]
    pub fn sign(mesh_id: &str, at: Position, prev: Digest, body: EntryBody, author: &SecretKey) -> Self {
        let mut entry = Self {
            v: ENTRY_VERSION,
            mesh_id: mesh_id.to_owned(),
            generation: at.generation,
            index: at.index,
            prev,
            author: author.public(),
            body,
            signature: Signature::from_bytes([0; 64]),
        };
        entry.signature = author.sign(&entry.signed_bytes());
        entry
    }

    /// Parses JSON from the network.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for anything too long, unknown or of the wrong shape.
    pub fn from_json(json: &[u8]) -> Result<Self, Refusal> {
        let entry: Self = parse_json(json, MAX_ENTRY_JSON).map_err(|_| Refusal::Malformed("not an entry"))?;
        entry.check_shape()?;
        Ok(entry)
    }

    /// The entry's place.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position {
            generation: self.generation,
            index: self.index,
        }
    }

    /// What the signature covers: domain `claudemesh/group/entry/1`, `v` (u8), mesh id (text), generation, index (u64),
    /// prev (digest), author (key), kind (u8: genesis 0, admit 1, remove 2, role 3, reseal 4, invite 5, revoke 6,
    /// epoch 7, reset 8, checkpoint 9), then the fields of the kind in the order of [`EntryBody`]; a roster by its digest.
    /// The layout of fields is described at the top of `wire.rs`.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Encoder::new(SIGN_DOMAIN);
        out.u8(self.v)
            .bytes(self.mesh_id.as_bytes())
            .u64(self.generation)
            .u64(self.index);
        out.raw(self.prev.as_bytes()).key(&self.author);
        encode_body(&self.body, &mut out);
        out.finish()
    }

    /// The entry's place in the chain: SHA-256 of domain `claudemesh/group/entry-hash/1`, the signed bytes (as a blob)
    /// and the signature.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Encoder::new(HASH_DOMAIN)
            .bytes(&self.signed_bytes())
            .signature(&self.signature)
            .digest()
    }

    pub(super) fn verify_signature(&self) -> Result<(), Refusal> {
        self.author
            .verify(&self.signed_bytes(), &self.signature)
            .map_err(|_| Refusal::BadSignature)
    }

    /// Everything that can be said without a state, cheaply.
    pub(super) fn check_shape(&self) -> Result<(), Refusal> {
        if self.v != ENTRY_VERSION {
            return Err(Refusal::Malformed("version"));
        }
        check_mesh_id(&self.mesh_id)?;
        if self.generation == 0 {
            return Err(Refusal::Malformed("generation"));
        }
        match &self.body {
            EntryBody::Remove { members, devices } => {
                let count = members.len() + devices.len();
                if count == 0 || count > MAX_DEVICES {
                    return Err(Refusal::Malformed("number of removals"));
                }
            }
            EntryBody::Invite { invite } if !invite.is_well_formed() => {
                return Err(Refusal::Malformed("invite"));
            }
            EntryBody::Epoch {
                wrapped_prev: Some(wrapped),
                ..
            } if wrapped.blob.len() != WRAPPED_BYTES => {
                return Err(Refusal::Malformed("wrapped key"));
            }
            _ => {}
        }
        Ok(())
    }
}

pub(super) fn check_mesh_id(mesh_id: &str) -> Result<(), Refusal> {
    if mesh_id.is_empty() || mesh_id.len() > MAX_MESH_ID {
        return Err(Refusal::Malformed("mesh id"));
    }
    Ok(())
}

fn encode_body(body: &EntryBody, out: &mut Encoder) {
    match body {
        EntryBody::Genesis {
            owner,
            history,
            device,
            at_ms,
        } => {
            out.u8(0).key(owner).u8(history.code());
            device.encode(out);
            out.u64(*at_ms);
        }
        EntryBody::Admit { device, by, at_ms } => {
            out.u8(1);
            device.encode(out);
            out.u8(by.code()).u64(*at_ms);
        }
        EntryBody::Remove { members, devices } => {
            out.u8(2).keys(members).keys(devices);
        }
        EntryBody::Role { member, role } => {
            out.u8(3).key(member).u8(role.code());
        }
        EntryBody::Reseal {
            device,
            seal_key,
            seal_signature,
        } => {
            out.u8(4).key(device).raw(seal_key.as_bytes()).signature(seal_signature);
        }
        EntryBody::Invite { invite } => {
            out.u8(5);
            invite.encode(out);
        }
        EntryBody::RevokeInvite { invite_key } => {
            out.u8(6).key(invite_key);
        }
        EntryBody::Epoch {
            epoch,
            commitment,
            seals_digest,
            reason,
            wrapped_prev,
        } => {
            out.u8(7)
                .u64(*epoch)
                .raw(commitment.as_bytes())
                .raw(seals_digest.as_bytes())
                .u8(reason.code());
            out.option(wrapped_prev.as_ref(), |out, wrapped| {
                out.u64(wrapped.generation).u64(wrapped.epoch).bytes(&wrapped.blob);
            });
        }
        EntryBody::Reset { roster } => {
            out.u8(8).raw(roster.digest().as_bytes());
        }
        EntryBody::Checkpoint { at_ms } => {
            out.u8(9).u64(*at_ms);
        }
    }
}

impl Invite {
    pub(super) fn is_well_formed(&self) -> bool {
        let hint_fits = self.code_hint.as_ref().is_none_or(|hint| hint.len() <= MAX_CODE_HINT);
        self.max_uses > 0 && hint_fits && self.seal_key.as_bytes() != &[0; 32]
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.key(&self.invite_key)
            .raw(self.seal_key.as_bytes())
            .u8(self.role.code());
        out.u64(self.expires_at_ms).u64(u64::from(self.max_uses));
        out.option(self.code_hint.as_deref(), |out, hint| {
            out.bytes(hint.as_bytes());
        });
    }
}

impl Role {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Admin => 0,
            Self::Member => 1,
        }
    }
}

impl HistoryPolicy {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::All => 0,
            Self::SinceJoin => 1,
        }
    }
}

impl AdmitBy {
    const fn code(self) -> u8 {
        match self {
            Self::Owner => 0,
            Self::Admin => 1,
            Self::Member => 2,
            Self::Invite => 3,
        }
    }
}

impl EpochReason {
    const fn code(self) -> u8 {
        match self {
            Self::Create => 0,
            Self::Admit => 1,
            Self::Remove => 2,
            Self::Rotate => 3,
            Self::Reset => 4,
        }
    }
}
