//! Direct messages: libsodium's `crypto_box` between two identities, and the sealed metadata that rides beside one.
//!
//! A body has the original's format, so that original clients can read it. `crypto_box` is symmetric: a body alone does
//! not say which of the two wrote it, nor in which order. [`DirectMeta`] says so, and is bound to its body and direction.

use std::fmt;

use crypto_box::SalsaBox;
use crypto_box::aead::Aead as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{KeyError, PublicKey, SecretKey, Signature, decode_base64, encode_base64, random_bytes};

/// First bytes of every sealed metadata text. No body may start with them.
const META_TAG: &[u8] = b"claudemesh-meta-v1\0";
/// The version of [`DirectMeta`] that this crate writes and reads.
const META_VERSION: u8 = 1;
const SENDER_DOMAIN: &str = "claudemesh/direct/sender/1";
const NONCE_LENGTH: usize = 24;
const KEY_LENGTH: usize = 32;

/// Why an envelope could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// The field is not padded standard base64.
    #[error("{field} is not padded standard base64; ask the sender to send the message again")]
    Encoding {
        /// Name of the field on the wire.
        field: &'static str,
    },
    /// The nonce is not 24 bytes long. Clear-text messages have such nonces: see [`crate::open_incoming`].
    #[error("nonce is {length} bytes long instead of 24; this is not an encrypted message")]
    NonceLength {
        /// Length of the decoded nonce in bytes.
        length: usize,
    },
    /// The other side's key cannot take part in a key exchange.
    #[error("{field} is not a usable key ({reason}); resolve the peer again")]
    Key {
        /// Name of the key.
        field: &'static str,
        /// What is wrong with it.
        reason: KeyError,
    },
    /// None of the keys opens the message: altered, or sealed for or by another key.
    #[error("ciphertext does not open with any of our keys; ask the sender to resolve this peer and send again")]
    Undecryptable,
    /// Metadata in the place of a body, or the reverse.
    #[error("ciphertext opens, but is not {expected}; the broker mixed up envelopes, do not trust this message")]
    WrongKind {
        /// What was expected in this place.
        expected: &'static str,
    },
    /// The body starts with the bytes that mark metadata.
    #[error("plaintext starts with the reserved tag claudemesh-meta-v1; send it with another first line")]
    ReservedPrefix,
    /// The metadata is not in a form that this version reads.
    #[error("meta is not readable (version {version}, expected 1); update claudemesh")]
    MetaFormat {
        /// Its version, 0 when it has none.
        version: u8,
    },
    /// The metadata belongs to another body.
    #[error("meta.digest does not match the message; the broker mixed up envelopes, do not trust this message")]
    DigestMismatch,
    /// The metadata was sealed for another sender or recipient.
    #[error("meta names another sender or recipient; the message was reflected or replayed, do not trust it")]
    WrongDirection,
}

/// An encrypted text as it travels: both fields padded standard base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// 24 bytes; empty for clear text of a bridge or reminder.
    pub nonce: String,
    /// Authenticator (16 bytes), then the encrypted bytes.
    pub ciphertext: String,
}

/// Encrypts `plaintext` from `sender` (the session key, else the member key) to `recipient` (a member or session key).
///
/// # Errors
/// [`EnvelopeError::Key`] when `recipient` is no usable key, [`EnvelopeError::ReservedPrefix`].
pub fn seal_direct(sender: &SecretKey, recipient: &PublicKey, plaintext: &[u8]) -> Result<Envelope, EnvelopeError> {
    seal_direct_with_nonce(sender, recipient, plaintext, &random_bytes())
}

/// [`seal_direct`] with a given nonce, to compare with test vectors. A nonce that is used twice reveals both texts.
#[doc(hidden)]
pub fn seal_direct_with_nonce(
    sender: &SecretKey,
    recipient: &PublicKey,
    plaintext: &[u8],
    nonce: &[u8; NONCE_LENGTH],
) -> Result<Envelope, EnvelopeError> {
    if plaintext.starts_with(META_TAG) {
        return Err(EnvelopeError::ReservedPrefix);
    }
    seal(sender, recipient, plaintext, nonce)
}

/// Decrypts a direct message from `sender` (as the broker names it), with our keys in order: session, then member.
///
/// # Errors
/// Any [`EnvelopeError`] but those of sealing; [`EnvelopeError::WrongKind`] for metadata shown as a body.
pub fn open_direct(
    recipient_keys: &[&SecretKey],
    sender: &PublicKey,
    nonce: &str,
    ciphertext: &str,
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let (plaintext, _) = open(recipient_keys, sender, nonce, ciphertext)?;
    if plaintext.starts_with(META_TAG) {
        return Err(EnvelopeError::WrongKind {
            expected: "a message body",
        });
    }
    Ok(plaintext)
}

/// The group key state that the sender of a direct message knows. Two members who disagree see that the broker forked
/// the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaHead {
    /// Generation of the mesh's key record.
    pub generation: u64,
    /// Newest epoch of that generation.
    pub epoch: u64,
    /// Number of the newest entry of that generation.
    pub index: u64,
    /// Hash of the newest entry, in hexadecimal.
    pub hash: String,
}

/// Says which member the session that sealed a message belongs to, proven by that member's signature: the session key on
/// the wire is the broker's word only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderProof {
    /// The sending member.
    pub member: PublicKey,
    /// By `member` over the text that [`SenderProof::sign`] describes.
    pub signature: Signature,
}

impl SenderProof {
    /// Signs domain `claudemesh/direct/sender/1`, mesh id and message id (each a text: length as 4 bytes big endian, then
    /// the bytes), then the 32 bytes of the session key that seals and of the key that it seals to.
    #[must_use]
    pub fn sign(
        member: &SecretKey,
        mesh_id: &str,
        message_id: &str,
        session: &PublicKey,
        recipient: &PublicKey,
    ) -> Self {
        let text = sender_text(mesh_id, message_id, session, recipient);
        Self {
            member: member.public(),
            signature: member.sign(&text),
        }
    }

    /// Checks the signature for the session that sealed, and the key of ours that it sealed to.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn verify(
        &self,
        mesh_id: &str,
        message_id: &str,
        session: &PublicKey,
        recipient: &PublicKey,
    ) -> Result<(), KeyError> {
        self.member
            .verify(&sender_text(mesh_id, message_id, session, recipient), &self.signature)
    }
}

fn sender_text(mesh_id: &str, message_id: &str, session: &PublicKey, recipient: &PublicKey) -> Vec<u8> {
    let mut text = Vec::with_capacity(160);
    for part in [SENDER_DOMAIN, mesh_id, message_id] {
        text.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    text.extend_from_slice(session.as_bytes());
    text.extend_from_slice(recipient.as_bytes());
    text
}

/// What the broker must not be able to change about a direct message, sealed beside its body.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectMeta {
    /// Version of this structure: 1.
    pub v: u8,
    /// Identifier of the message, chosen by the sender. Receivers drop what they have seen.
    pub id: String,
    /// Counts the sender's messages to this recipient; a gap shows a withheld message.
    pub seq: u64,
    /// `now`, `next` or `low`, as the sender meant it.
    pub priority: String,
    /// Time of sending by the sender's clock, in milliseconds since the Unix epoch.
    pub sent_at: i64,
    /// The sender's view of the group keys, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<MetaHead>,
    /// SHA-256 of the body before encryption, 64 lower-case hexadecimal characters.
    pub digest: String,
    /// Which member the sending session belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<SenderProof>,
}

impl DirectMeta {
    /// Metadata for `body`.
    #[must_use]
    pub fn for_body(body: &[u8], id: String, seq: u64, priority: String, sent_at: i64, head: Option<MetaHead>) -> Self {
        Self {
            v: META_VERSION,
            id,
            seq,
            priority,
            sent_at,
            head,
            digest: digest(body),
            sender: None,
        }
    }

    /// The same with a proof of the sending member.
    #[must_use]
    pub fn with_sender(mut self, proof: SenderProof) -> Self {
        self.sender = Some(proof);
        self
    }

    /// Whether this metadata belongs to `body`.
    ///
    /// # Errors
    /// [`EnvelopeError::DigestMismatch`].
    pub fn check_body(&self, body: &[u8]) -> Result<(), EnvelopeError> {
        if self.digest == digest(body) {
            Ok(())
        } else {
            Err(EnvelopeError::DigestMismatch)
        }
    }
}

impl fmt::Debug for DirectMeta {
    /// Without the digest, which would confirm a guessed text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectMeta")
            .field("v", &self.v)
            .field("id", &self.id)
            .field("seq", &self.seq)
            .field("priority", &self.priority)
            .field("sent_at", &self.sent_at)
            .field("head", &self.head)
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

/// Seals `meta` with the pair of keys that seals the body, so that only the two can have written it.
///
/// The sealed text is a tag, both public keys (sender, recipient) and the JSON: it can neither be shown as a body nor
/// sent back to its sender.
///
/// # Errors
/// [`EnvelopeError::Key`] when `recipient` is no usable key.
pub fn seal_meta(sender: &SecretKey, recipient: &PublicKey, meta: &DirectMeta) -> Result<Envelope, EnvelopeError> {
    let json = serde_json::to_vec(meta).map_err(|_| EnvelopeError::MetaFormat { version: meta.v })?;
    let mut plaintext = Vec::with_capacity(META_TAG.len() + 2 * KEY_LENGTH + json.len());
    plaintext.extend_from_slice(META_TAG);
    plaintext.extend_from_slice(sender.public().as_bytes());
    plaintext.extend_from_slice(recipient.as_bytes());
    plaintext.extend_from_slice(&json);
    seal(sender, recipient, &plaintext, &random_bytes())
}

/// Opens the metadata of the message whose opened body is `body`, with our keys in order: session, then member.
///
/// # Errors
/// Any [`EnvelopeError`] of opening, [`EnvelopeError::WrongDirection`], [`EnvelopeError::MetaFormat`] and
/// [`EnvelopeError::DigestMismatch`].
pub fn open_meta(
    recipient_keys: &[&SecretKey],
    sender: &PublicKey,
    nonce: &str,
    ciphertext: &str,
    body: &[u8],
) -> Result<DirectMeta, EnvelopeError> {
    let (plaintext, recipient) = open(recipient_keys, sender, nonce, ciphertext)?;
    let wrong_kind = EnvelopeError::WrongKind {
        expected: "message metadata",
    };
    let rest = plaintext.strip_prefix(META_TAG).ok_or(wrong_kind)?;
    let (keys, json) = rest.split_at_checked(2 * KEY_LENGTH).ok_or(wrong_kind)?;
    if keys[..KEY_LENGTH] != *sender.as_bytes() || keys[KEY_LENGTH..] != *recipient.as_bytes() {
        return Err(EnvelopeError::WrongDirection);
    }
    let meta: DirectMeta = serde_json::from_slice(json).map_err(|_| EnvelopeError::MetaFormat { version: 0 })?;
    if meta.v != META_VERSION {
        return Err(EnvelopeError::MetaFormat { version: meta.v });
    }
    meta.check_body(body)?;
    Ok(meta)
}

fn seal(
    sender: &SecretKey,
    recipient: &PublicKey,
    plaintext: &[u8],
    nonce: &[u8; NONCE_LENGTH],
) -> Result<Envelope, EnvelopeError> {
    let key = recipient.to_box_key().map_err(|reason| EnvelopeError::Key {
        field: "recipient",
        reason,
    })?;
    let ciphertext = SalsaBox::new(&key, &sender.to_box_key())
        .encrypt(nonce.into(), plaintext)
        .map_err(|_| EnvelopeError::Undecryptable)?;
    Ok(Envelope {
        nonce: encode_base64(nonce),
        ciphertext: encode_base64(&ciphertext),
    })
}

/// The plaintext, and the public half of the key that opened it.
fn open(
    recipient_keys: &[&SecretKey],
    sender: &PublicKey,
    nonce: &str,
    ciphertext: &str,
) -> Result<(Zeroizing<Vec<u8>>, PublicKey), EnvelopeError> {
    let nonce = decode_base64(nonce).ok_or(EnvelopeError::Encoding { field: "nonce" })?;
    let ciphertext = decode_base64(ciphertext).ok_or(EnvelopeError::Encoding { field: "ciphertext" })?;
    let nonce: [u8; NONCE_LENGTH] = nonce
        .try_into()
        .map_err(|nonce: Vec<u8>| EnvelopeError::NonceLength { length: nonce.len() })?;
    let sender = sender.to_box_key().map_err(|reason| EnvelopeError::Key {
        field: "senderPubkey",
        reason,
    })?;
    for key in recipient_keys {
        if let Ok(plaintext) = SalsaBox::new(&sender, &key.to_box_key()).decrypt(&nonce.into(), ciphertext.as_slice()) {
            return Ok((Zeroizing::new(plaintext), key.public()));
        }
    }
    Err(EnvelopeError::Undecryptable)
}

fn digest(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Result<T = ()> = std::result::Result<T, EnvelopeError>;

    fn pair() -> (SecretKey, SecretKey) {
        (SecretKey::from_seed(&[2; 32]), SecretKey::from_seed(&[3; 32]))
    }

    fn meta(body: &[u8]) -> DirectMeta {
        let head = MetaHead {
            generation: 1,
            epoch: 4,
            index: 9,
            hash: "ab".repeat(32),
        };
        DirectMeta::for_body(
            body,
            "id1".to_owned(),
            7,
            "next".to_owned(),
            1_760_000_000_000,
            Some(head),
        )
    }

    #[test]
    fn opens_with_session_then_member_key() -> Result {
        let (alice, bob) = pair();
        let session = SecretKey::from_seed(&[5; 32]);
        let envelope = seal_direct(&alice, &bob.public(), b"hi")?;
        let body = open_direct(
            &[&session, &bob],
            &alice.public(),
            &envelope.nonce,
            &envelope.ciphertext,
        )?;
        assert_eq!(body.as_slice(), b"hi");
        let failed = open_direct(&[&session], &alice.public(), &envelope.nonce, &envelope.ciphertext);
        assert_eq!(failed, Err(EnvelopeError::Undecryptable));
        let failed = open_direct(&[], &alice.public(), &envelope.nonce, &envelope.ciphertext);
        assert_eq!(failed, Err(EnvelopeError::Undecryptable));
        Ok(())
    }

    #[test]
    fn meta_round_trips_and_is_bound_to_its_body() -> Result {
        let (alice, bob) = pair();
        let meta = meta(b"body");
        let sealed = seal_meta(&alice, &bob.public(), &meta)?;
        let opened = open_meta(&[&bob], &alice.public(), &sealed.nonce, &sealed.ciphertext, b"body")?;
        assert_eq!(opened, meta);
        let other = open_meta(&[&bob], &alice.public(), &sealed.nonce, &sealed.ciphertext, b"other");
        assert_eq!(other, Err(EnvelopeError::DigestMismatch));
        Ok(())
    }

    #[test]
    fn meta_and_body_cannot_take_each_others_place() -> Result {
        let (alice, bob) = pair();
        let sealed = seal_meta(&alice, &bob.public(), &meta(b"body"))?;
        let as_body = open_direct(&[&bob], &alice.public(), &sealed.nonce, &sealed.ciphertext);
        assert_eq!(
            as_body,
            Err(EnvelopeError::WrongKind {
                expected: "a message body"
            })
        );
        let body = seal_direct(&alice, &bob.public(), b"body")?;
        let as_meta = open_meta(&[&bob], &alice.public(), &body.nonce, &body.ciphertext, b"body");
        assert_eq!(
            as_meta,
            Err(EnvelopeError::WrongKind {
                expected: "message metadata"
            })
        );
        let forged = seal_direct(&alice, &bob.public(), b"claudemesh-meta-v1\0{}");
        assert_eq!(forged, Err(EnvelopeError::ReservedPrefix));
        Ok(())
    }

    #[test]
    fn meta_cannot_be_reflected_to_its_sender() -> Result {
        let (alice, bob) = pair();
        let sealed = seal_meta(&alice, &bob.public(), &meta(b"body"))?;
        let reflected = open_meta(&[&alice], &bob.public(), &sealed.nonce, &sealed.ciphertext, b"body");
        assert_eq!(reflected, Err(EnvelopeError::WrongDirection));
        Ok(())
    }

    #[test]
    fn sender_proof_is_bound_to_everything_it_names() -> std::result::Result<(), KeyError> {
        let (alice, bob) = pair();
        let (session, other) = (
            SecretKey::from_seed(&[5; 32]).public(),
            SecretKey::from_seed(&[6; 32]).public(),
        );
        let proof = SenderProof::sign(&alice, "mesh", "id1", &session, &bob.public());
        proof.verify("mesh", "id1", &session, &bob.public())?;
        for (mesh, id, from, to) in [
            ("mesi", "id1", session, bob.public()),
            ("mesh", "id2", session, bob.public()),
            ("mesh", "id1", other, bob.public()),
            ("mesh", "id1", session, other),
        ] {
            assert_eq!(proof.verify(mesh, id, &from, &to), Err(KeyError::BadSignature));
        }
        let renamed = SenderProof {
            member: bob.public(),
            ..proof
        };
        assert!(renamed.verify("mesh", "id1", &session, &bob.public()).is_err());
        Ok(())
    }

    #[test]
    fn meta_of_another_version_is_refused_by_name() -> Result {
        let (alice, bob) = pair();
        let sealed = seal_meta(&alice, &bob.public(), &DirectMeta { v: 2, ..meta(b"body") })?;
        let opened = open_meta(&[&bob], &alice.public(), &sealed.nonce, &sealed.ciphertext, b"body");
        assert_eq!(opened, Err(EnvelopeError::MetaFormat { version: 2 }));
        Ok(())
    }

    #[test]
    fn small_order_keys_are_refused() {
        let (alice, _) = pair();
        // The neutral element: every key exchange with it gives the same, public secret.
        let mut bytes = [0; 32];
        bytes[0] = 1;
        let weak = PublicKey::from_bytes(bytes);
        let reason = KeyError::InvalidPoint;
        let sealed = seal_direct(&alice, &weak, b"x");
        assert_eq!(
            sealed,
            Err(EnvelopeError::Key {
                field: "recipient",
                reason
            })
        );
        let opened = open_direct(&[&alice], &weak, &encode_base64(&[0; 24]), &encode_base64(&[0; 20]));
        assert_eq!(
            opened,
            Err(EnvelopeError::Key {
                field: "senderPubkey",
                reason
            })
        );
    }
}
