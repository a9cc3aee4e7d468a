//! Messages under a group key, signed inside.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand_core::{CryptoRngCore, OsRng};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{GroupError, Refusal};
use super::keys::{GroupKeys, Scheme};
use super::label::Label;
use super::roster::EpochId;
use super::wire::{Encoder, base64_blob, parse_json};
use crate::{PublicKey, SecretKey, Signature};

const AAD_DOMAIN: &str = "claudemesh/group/content/1";
const SIGN_DOMAIN: &str = "claudemesh/group/content-signature/1";
const SIGNATURE: usize = 64;
const TAG: usize = 16;
const MAX_ID: usize = 128;
const MAX_PRIORITY: usize = 32;
/// Longest message.
const MAX_PLAINTEXT: usize = 16 * 1024 * 1024;
const MAX_ENVELOPE_JSON: usize = 24 * 1024 * 1024;

/// What a message is bound to besides the envelope's own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentContext<'a> {
    /// Id that the sender gave the message.
    pub message_id: &'a str,
    /// Number in the lane of sender session, label and priority. When opening: the envelope's.
    pub seq: u64,
    /// Priority as on the wire.
    pub priority: &'a str,
    /// Session key of the sender.
    pub sender_session: PublicKey,
}

/// A message under a group key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupEnvelope {
    /// `epoch/1`.
    pub scheme: Scheme,
    /// Generation of the key.
    pub generation: u64,
    /// Epoch of the key.
    pub epoch: u64,
    /// Which key: the first 8 bytes of its commitment, in hexadecimal.
    pub key_id: String,
    /// Number in the sender's lane.
    pub seq: u64,
    /// Whom it is for.
    pub label: Label,
    /// Device that signed the message inside.
    pub sender: PublicKey,
    /// 24 random bytes, base64.
    #[serde(with = "base64_blob")]
    pub nonce: Vec<u8>,
    /// XChaCha20-Poly1305 of signature (64 bytes) and plaintext, base64.
    #[serde(with = "base64_blob")]
    pub ciphertext: Vec<u8>,
}

impl GroupEnvelope {
    /// Parses JSON from the network.
    ///
    /// # Errors
    /// [`GroupError::Unreadable`].
    pub fn from_json(json: &[u8]) -> Result<Self, GroupError> {
        parse_json(json, MAX_ENVELOPE_JSON).map_err(|_| GroupError::Unreadable)
    }

    /// Which epoch.
    #[must_use]
    pub const fn id(&self) -> EpochId {
        EpochId {
            generation: self.generation,
            epoch: self.epoch,
        }
    }

    /// What is bound: domain `claudemesh/group/content/1`, mesh id, label (texts), generation, epoch (u64), key id (text),
    /// sender device, sender session (keys), message id (text), number (u64), priority (text).
    fn aad(&self, mesh_id: &str, context: &ContentContext<'_>) -> Vec<u8> {
        let mut out = Encoder::new(AAD_DOMAIN);
        out.bytes(mesh_id.as_bytes())
            .bytes(self.label.as_str().as_bytes())
            .u64(self.generation)
            .u64(self.epoch);
        out.bytes(self.key_id.as_bytes())
            .key(&self.sender)
            .key(&context.sender_session);
        out.bytes(context.message_id.as_bytes())
            .u64(self.seq)
            .bytes(context.priority.as_bytes())
            .finish()
    }
}

/// A message that was opened, with its authenticated sender.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What was said.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// Device that signed it.
    pub device: PublicKey,
    /// Member that the device belongs to.
    pub member: PublicKey,
    /// The device has been removed since. Fine in the history; a *new* message like this was held back, or made up by the
    /// removed member together with the broker.
    pub former: bool,
}

/// Encrypts and signs under the newest key.
///
/// # Errors
/// [`GroupError::RekeyNeeded`] while somebody who was removed knows it, [`GroupError::UnknownEpoch`] if we do not have it,
/// [`GroupError::NotOnRoster`] if `device` is not in the group.
pub fn seal_group(
    keys: &dyn GroupKeys,
    label: &Label,
    context: &ContentContext<'_>,
    device: &SecretKey,
    plaintext: &[u8],
) -> Result<GroupEnvelope, GroupError> {
    seal_group_with(keys, label, context, device, plaintext, &mut OsRng)
}

pub(super) fn seal_group_with(
    keys: &dyn GroupKeys,
    label: &Label,
    context: &ContentContext<'_>,
    device: &SecretKey,
    plaintext: &[u8],
    rng: &mut impl CryptoRngCore,
) -> Result<GroupEnvelope, GroupError> {
    check_context(context)?;
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(Refusal::Malformed("message too long").into());
    }
    let id = keys.epoch_id();
    let sender = device.public();
    if keys
        .roster()
        .standing(&sender, id)
        .is_none_or(|standing| standing.former)
    {
        return Err(GroupError::NotOnRoster(sender));
    }
    if keys.rekey_needed() {
        return Err(GroupError::RekeyNeeded);
    }
    encrypt(keys, label, context, device, sender, plaintext, rng)
}

/// Signs as `device`, says `sender`.
fn encrypt(
    keys: &dyn GroupKeys,
    label: &Label,
    context: &ContentContext<'_>,
    device: &SecretKey,
    sender: PublicKey,
    plaintext: &[u8],
    rng: &mut impl CryptoRngCore,
) -> Result<GroupEnvelope, GroupError> {
    let id = keys.epoch_id();
    let key = keys.key_at(id, label).ok_or_else(|| GroupError::unknown(id))?;
    let key_id = keys.key_id(id).ok_or_else(|| GroupError::unknown(id))?;
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    let mut envelope = GroupEnvelope {
        scheme: keys.scheme(),
        generation: id.generation,
        epoch: id.epoch,
        key_id,
        seq: context.seq,
        label: label.clone(),
        sender,
        nonce: nonce.to_vec(),
        ciphertext: Vec::new(),
    };
    let aad = envelope.aad(keys.mesh_id(), context);
    let mut inner = Zeroizing::new(Vec::with_capacity(SIGNATURE + plaintext.len()));
    inner.extend_from_slice(device.sign(&signed_bytes(&aad, plaintext)).as_bytes());
    inner.extend_from_slice(plaintext);
    envelope.ciphertext = XChaCha20Poly1305::new(key.as_bytes().into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: &inner, aad: &aad })
        .map_err(|_| GroupError::Unreadable)?;
    Ok(envelope)
}

/// Decrypts, and checks who signed.
///
/// # Errors
/// [`GroupError::UnknownEpoch`]: catch up or ask for the key. [`GroupError::Fork`]: another key has this number.
/// [`GroupError::NotOnRoster`]: the sender was not in the group in that epoch. [`GroupError::Unreadable`],
/// [`GroupError::BadSignature`]: altered, or not by whom it says.
pub fn open_group(
    keys: &dyn GroupKeys,
    envelope: &GroupEnvelope,
    context: &ContentContext<'_>,
) -> Result<Opened, GroupError> {
    check_context(context)?;
    let id = envelope.id();
    let length = envelope.ciphertext.len();
    let fits = (SIGNATURE + TAG..=SIGNATURE + TAG + MAX_PLAINTEXT).contains(&length) && envelope.nonce.len() == 24;
    if envelope.scheme != keys.scheme() || envelope.seq != context.seq || !fits {
        return Err(GroupError::Unreadable);
    }
    let key_id = keys.key_id(id).ok_or_else(|| GroupError::unknown(id))?;
    if key_id != envelope.key_id {
        return Err(GroupError::Fork);
    }
    let standing = keys
        .roster()
        .standing(&envelope.sender, id)
        .ok_or(GroupError::NotOnRoster(envelope.sender))?;
    let key = keys
        .key_at(id, &envelope.label)
        .ok_or_else(|| GroupError::unknown(id))?;
    let aad = envelope.aad(keys.mesh_id(), context);
    let mut inner = XChaCha20Poly1305::new(key.as_bytes().into())
        .decrypt(
            XNonce::from_slice(&envelope.nonce),
            Payload {
                msg: &envelope.ciphertext,
                aad: &aad,
            },
        )
        .map(Zeroizing::new)
        .map_err(|_| GroupError::Unreadable)?;
    let (signature, plaintext) = inner.split_first_chunk::<SIGNATURE>().ok_or(GroupError::Unreadable)?;
    envelope
        .sender
        .verify(&signed_bytes(&aad, plaintext), &Signature::from_bytes(*signature))
        .map_err(|_| GroupError::BadSignature)?;
    inner.drain(..SIGNATURE);
    Ok(Opened {
        plaintext: inner,
        device: envelope.sender,
        member: standing.member,
        former: standing.former,
    })
}

/// What the sender signs: domain `claudemesh/group/content-signature/1`, the bound data and the plaintext (blobs).
fn signed_bytes(aad: &[u8], plaintext: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Encoder::new(SIGN_DOMAIN).bytes(aad).bytes(plaintext).finish())
}

fn check_context(context: &ContentContext<'_>) -> Result<(), GroupError> {
    let id = !context.message_id.is_empty() && context.message_id.len() <= MAX_ID;
    if id && context.priority.len() <= MAX_PRIORITY {
        Ok(())
    } else {
        Err(Refusal::Malformed("context").into())
    }
}

/// What a rogue member can do: sign with its own key and name another sender.
#[cfg(test)]
pub(super) fn forge(
    keys: &dyn GroupKeys,
    label: &Label,
    context: &ContentContext<'_>,
    device: &SecretKey,
    sender: PublicKey,
    plaintext: &[u8],
) -> Result<GroupEnvelope, GroupError> {
    encrypt(keys, label, context, device, sender, plaintext, &mut OsRng)
}
