//! Rows of the roster: a device, whose it is, and the key that epoch keys are sealed to.

use std::fmt;

use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::entry::Role;
use super::error::Refusal;
use super::wire::{Encoder, SealKey};
use crate::{BoxSecretKey, PublicKey, SecretKey, Signature};

const MEMBER_DOMAIN: &str = "claudemesh/group/device/1";
const SEAL_DOMAIN: &str = "claudemesh/group/seal-key/1";
const FIRST_SEAL_DOMAIN: &str = "claudemesh/group/first-seal-key/1";
const INVITE_SIGN_DOMAIN: &str = "claudemesh/group/invite-sign/1";
const INVITE_SEAL_DOMAIN: &str = "claudemesh/group/invite-seal/1";

/// A device of a member. Both signatures are made without the log, so a joiner can hand the row to an admin.
///
/// Today the device key is the member key. A restored backup becomes a new device of the same member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceEntry {
    /// The member.
    pub member: PublicKey,
    /// The device's signing key.
    pub device: PublicKey,
    /// The device's X25519 key for epoch keys; rotates.
    pub seal_key: SealKey,
    /// By the device, over domain `claudemesh/group/seal-key/1`, mesh id (text), device, seal key.
    pub seal_signature: Signature,
    /// What the member may do.
    pub role: Role,
    /// By the member, over domain `claudemesh/group/device/1`, mesh id (text), member, device.
    pub member_signature: Signature,
}

impl DeviceEntry {
    /// A row with the device's [first seal key](first_seal_key).
    #[must_use]
    pub fn new(mesh_id: &str, member: &SecretKey, device: &SecretKey, role: Role) -> Self {
        let seal_key = SealKey::from(&first_seal_key(mesh_id, device).public_key());
        Self {
            member: member.public(),
            device: device.public(),
            seal_key,
            seal_signature: sign_seal_key(mesh_id, device, seal_key),
            role,
            member_signature: member.sign(&member_bytes(mesh_id, &member.public(), &device.public())),
        }
    }

    /// Checks both signatures.
    ///
    /// # Errors
    /// [`Refusal::BadSignature`] or [`Refusal::Malformed`].
    pub fn verify(&self, mesh_id: &str) -> Result<(), Refusal> {
        self.member
            .verify(
                &member_bytes(mesh_id, &self.member, &self.device),
                &self.member_signature,
            )
            .map_err(|_| Refusal::BadSignature)?;
        self.verify_seal_key(mesh_id)
    }

    pub(super) fn verify_seal_key(&self, mesh_id: &str) -> Result<(), Refusal> {
        if self.seal_key.as_bytes() == &[0; 32] {
            return Err(Refusal::Malformed("seal key"));
        }
        self.device
            .verify(&seal_bytes(mesh_id, &self.device, self.seal_key), &self.seal_signature)
            .map_err(|_| Refusal::BadSignature)
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.key(&self.member)
            .key(&self.device)
            .raw(self.seal_key.as_bytes())
            .signature(&self.seal_signature);
        out.u8(self.role.code()).signature(&self.member_signature);
    }
}

/// The seal key that a device starts with, derived from its signing key: a joiner needs nothing but that key, and a crash
/// between joining and the first snapshot loses nothing. Replace it soon ([`Change::Reseal`](super::Change::Reseal)):
/// only a random seal key protects recorded epochs from a later theft of the device key.
#[must_use]
pub fn first_seal_key(mesh_id: &str, device: &SecretKey) -> BoxSecretKey {
    derive_box_key(&device.seed(), FIRST_SEAL_DOMAIN, mesh_id)
}

pub(super) fn sign_seal_key(mesh_id: &str, device: &SecretKey, seal_key: SealKey) -> Signature {
    device.sign(&seal_bytes(mesh_id, &device.public(), seal_key))
}

fn member_bytes(mesh_id: &str, member: &PublicKey, device: &PublicKey) -> Vec<u8> {
    Encoder::new(MEMBER_DOMAIN)
        .bytes(mesh_id.as_bytes())
        .key(member)
        .key(device)
        .finish()
}

fn seal_bytes(mesh_id: &str, device: &PublicKey, seal_key: SealKey) -> Vec<u8> {
    Encoder::new(SEAL_DOMAIN)
        .bytes(mesh_id.as_bytes())
        .key(device)
        .raw(seal_key.as_bytes())
        .finish()
}

/// The two keys that the secret of an invite link stands for.
#[derive(Clone)]
pub struct InviteKeys {
    /// Signs the joiner's admission; its public half is the invite's name on the roster.
    pub signing: SecretKey,
    /// Opens the epoch keys that were sealed to the invite.
    pub seal: BoxSecretKey,
}

impl InviteKeys {
    /// Derives both keys from the 32-byte link secret, for this mesh.
    #[must_use]
    pub fn from_link_secret(mesh_id: &str, secret: &[u8; 32]) -> Self {
        Self {
            signing: SecretKey::from_seed(&derive(secret, INVITE_SIGN_DOMAIN, mesh_id)),
            seal: derive_box_key(secret, INVITE_SEAL_DOMAIN, mesh_id),
        }
    }

    /// The invite's name on the roster.
    #[must_use]
    pub fn invite_key(&self) -> PublicKey {
        self.signing.public()
    }

    /// The key that epoch keys are sealed to.
    #[must_use]
    pub fn seal_key(&self) -> SealKey {
        SealKey::from(&self.seal.public_key())
    }
}

impl fmt::Debug for InviteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InviteKeys({})", self.invite_key().short())
    }
}

fn derive(secret: &[u8; 32], domain: &str, mesh_id: &str) -> Zeroizing<[u8; 32]> {
    let info = Encoder::new(domain).bytes(mesh_id.as_bytes()).finish();
    hkdf32(secret, &info)
}

fn derive_box_key(secret: &[u8; 32], domain: &str, mesh_id: &str) -> BoxSecretKey {
    BoxSecretKey::from(*derive(secret, domain, mesh_id))
}

/// HKDF-SHA256 without salt, 32 bytes.
pub(super) fn hkdf32(secret: &[u8; 32], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, secret)
        .expand(info, &mut *out)
        .expect("32 bytes is a valid HKDF-SHA256 output length");
    out
}
