//! Epoch keys: commitment, seals to receivers, wrapping of the key before.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand_core::CryptoRngCore;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::device::hkdf32;
use super::entry::{WRAPPED_BYTES, WrappedKey};
use super::error::GroupError;
use super::roster::EpochId;
use super::state::EpochRecord;
use super::wire::{Digest, Encoder, SealKey, Secret32, base64_blob, parse_json};
use crate::{BoxSecretKey, PublicKey, SecretKey, Signature};

const COMMIT_DOMAIN: &str = "claudemesh/group/commitment/1";
const SEAL_DOMAIN: &str = "claudemesh/group/seal/1";
const DIGEST_DOMAIN: &str = "claudemesh/group/seals/1";
const WRAP_DOMAIN: &str = "claudemesh/group/wrap/1";
/// Length of a sealed 32-byte key.
pub const SEAL_BYTES: usize = 80;
const MAX_SEAL_JSON: usize = 2048;

/// Commitment to an epoch key: SHA-256 of domain `claudemesh/group/commitment/1`, mesh id (text), generation, epoch (u64)
/// and the key. It says nothing about the key, and fits no other.
#[must_use]
pub fn commitment(mesh_id: &str, id: EpochId, key: &[u8; 32]) -> Digest {
    Encoder::new(COMMIT_DOMAIN)
        .bytes(mesh_id.as_bytes())
        .u64(id.generation)
        .u64(id.epoch)
        .raw(key)
        .digest()
}

/// An epoch key for one receiver: a device, or an invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seal {
    /// Generation of the key.
    pub generation: u64,
    /// Epoch of the key.
    pub epoch: u64,
    /// Device or invite key of the receiver.
    pub to: PublicKey,
    /// Device that sealed it.
    pub author: PublicKey,
    /// Sealed box (80 bytes, base64) to the receiver's seal key.
    #[serde(with = "base64_blob")]
    pub blob: Vec<u8>,
    /// By `author` over domain `claudemesh/group/seal/1`, mesh id (text), generation, epoch (u64), receiver (key), hash of
    /// the entry before the epoch, commitment (digests), blob.
    pub signature: Signature,
}

impl Seal {
    /// Parses JSON from the network.
    ///
    /// # Errors
    /// [`GroupError::Unreadable`].
    pub fn from_json(json: &[u8]) -> Result<Self, GroupError> {
        let seal: Self = parse_json(json, MAX_SEAL_JSON).map_err(|_| GroupError::Unreadable)?;
        if seal.blob.len() == SEAL_BYTES {
            Ok(seal)
        } else {
            Err(GroupError::Unreadable)
        }
    }

    /// Which epoch.
    #[must_use]
    pub const fn id(&self) -> EpochId {
        EpochId {
            generation: self.generation,
            epoch: self.epoch,
        }
    }

    /// Checks length and signature.
    ///
    /// # Errors
    /// [`GroupError::Unreadable`] or [`GroupError::BadSignature`].
    pub fn verify(&self, mesh_id: &str, prev: &Digest, commitment: &Digest) -> Result<(), GroupError> {
        if self.blob.len() != SEAL_BYTES {
            return Err(GroupError::Unreadable);
        }
        let signed = signed_bytes(mesh_id, self.id(), &self.to, prev, commitment, &self.blob);
        self.author
            .verify(&signed, &self.signature)
            .map_err(|_| GroupError::BadSignature)
    }
}

/// What an epoch entry says about its seals: SHA-256 of domain `claudemesh/group/seals/1` and the list of receiver and blob,
/// ordered by receiver.
#[must_use]
pub fn seals_digest(seals: &[Seal]) -> Digest {
    let mut sorted: Vec<&Seal> = seals.iter().collect();
    sorted.sort_by(|a, b| a.to.cmp(&b.to).then_with(|| a.blob.cmp(&b.blob)));
    let mut out = Encoder::new(DIGEST_DOMAIN);
    out.count(sorted.len());
    for seal in sorted {
        out.key(&seal.to).bytes(&seal.blob);
    }
    out.digest()
}

fn signed_bytes(
    mesh_id: &str,
    id: EpochId,
    to: &PublicKey,
    prev: &Digest,
    commitment: &Digest,
    blob: &[u8],
) -> Vec<u8> {
    let mut out = Encoder::new(SEAL_DOMAIN);
    out.bytes(mesh_id.as_bytes()).u64(id.generation).u64(id.epoch).key(to);
    out.raw(prev.as_bytes()).raw(commitment.as_bytes()).bytes(blob).finish()
}

/// What a seal is bound to.
#[derive(Clone, Copy)]
pub(super) struct SealFor<'a> {
    pub(super) mesh_id: &'a str,
    pub(super) id: EpochId,
    pub(super) prev: Digest,
    pub(super) commitment: Digest,
}

impl<'a> SealFor<'a> {
    pub(super) fn record(mesh_id: &'a str, record: &EpochRecord) -> Self {
        Self {
            mesh_id,
            id: record.id,
            prev: record.prev,
            commitment: record.commitment,
        }
    }

    pub(super) fn seal(
        self,
        key: &Secret32,
        to: PublicKey,
        seal_key: SealKey,
        author: &SecretKey,
        rng: &mut impl CryptoRngCore,
    ) -> Result<Seal, GroupError> {
        let blob = seal_bytes(key.bytes(), seal_key, rng)?;
        let signed = signed_bytes(self.mesh_id, self.id, &to, &self.prev, &self.commitment, &blob);
        Ok(Seal {
            generation: self.id.generation,
            epoch: self.id.epoch,
            to,
            author: author.public(),
            blob,
            signature: author.sign(&signed),
        })
    }
}

pub(super) fn seal_bytes(bytes: &[u8], seal_key: SealKey, rng: &mut impl CryptoRngCore) -> Result<Vec<u8>, GroupError> {
    seal_key
        .to_box_key()
        .seal(rng, bytes)
        .map_err(|_| GroupError::Unreadable)
}

/// Opens a seal that has been verified and compares the key with the commitment.
pub(super) fn open_seal(
    seal: &Seal,
    mesh_id: &str,
    record: &EpochRecord,
    secret: &BoxSecretKey,
) -> Result<Secret32, GroupError> {
    let opened = Zeroizing::new(secret.unseal(&seal.blob).map_err(|_| GroupError::Unreadable)?);
    let key = Zeroizing::new(<[u8; 32]>::try_from(opened.as_slice()).map_err(|_| GroupError::Unreadable)?);
    if commitment(mesh_id, record.id, &key) != record.commitment {
        return Err(GroupError::Unreadable);
    }
    Ok(Secret32::new(*key))
}

/// Encrypts the key before under the new one.
pub(super) fn wrap(
    mesh_id: &str,
    new: (EpochId, &Secret32),
    old: (EpochId, &Secret32),
    rng: &mut impl CryptoRngCore,
) -> Result<WrappedKey, GroupError> {
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    let aad = wrap_aad(mesh_id, new.0, old.0);
    let cipher = wrap_cipher(new.1);
    let sealed = cipher
        .encrypt(
            XNonce::from_slice(&nonce),
            Payload {
                msg: old.1.bytes(),
                aad: &aad,
            },
        )
        .map_err(|_| GroupError::Unreadable)?;
    let mut blob = nonce.to_vec();
    blob.extend_from_slice(&sealed);
    Ok(WrappedKey {
        generation: old.0.generation,
        epoch: old.0.epoch,
        blob,
    })
}

/// Decrypts the key before.
pub(super) fn unwrap(
    mesh_id: &str,
    new: (EpochId, &Secret32),
    wrapped: &WrappedKey,
) -> Result<(EpochId, Secret32), GroupError> {
    if wrapped.blob.len() != WRAPPED_BYTES {
        return Err(GroupError::Unreadable);
    }
    let id = EpochId {
        generation: wrapped.generation,
        epoch: wrapped.epoch,
    };
    let (nonce, sealed) = wrapped.blob.split_at(24);
    let aad = wrap_aad(mesh_id, new.0, id);
    let opened = wrap_cipher(new.1)
        .decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: &aad })
        .map(Zeroizing::new)
        .map_err(|_| GroupError::Unreadable)?;
    let key = <[u8; 32]>::try_from(opened.as_slice()).map_err(|_| GroupError::Unreadable)?;
    Ok((id, Secret32::new(key)))
}

fn wrap_cipher(key: &Secret32) -> XChaCha20Poly1305 {
    let key = hkdf32(key.bytes(), &Encoder::new(WRAP_DOMAIN).finish());
    XChaCha20Poly1305::new((&*key).into())
}

fn wrap_aad(mesh_id: &str, new: EpochId, old: EpochId) -> Vec<u8> {
    let mut out = Encoder::new(WRAP_DOMAIN);
    out.bytes(mesh_id.as_bytes())
        .u64(new.generation)
        .u64(new.epoch)
        .u64(old.generation)
        .u64(old.epoch)
        .finish()
}
