//! What a received message of any age or client is: the receiver rule of the classic formats.

use std::fmt;

use crate::{Envelope, PublicKey, SecretKey, decode_base64, encode_base64, open_direct};

/// A received message, as far as our keys can tell.
#[derive(Clone, PartialEq, Eq)]
pub enum Opened {
    /// Made by the broker or a webhook; the content is in `event` and `eventData`.
    Event,
    /// End-to-end encrypted to one of our keys by the named sender.
    Direct {
        /// The message.
        text: String,
    },
    /// Clear text of an original client, a bridge or a reminder. The broker could read and change it, and the named
    /// sender is the broker's word only.
    Plaintext {
        /// The message.
        text: String,
        /// Always `false`; here so that nobody shows such a text without saying so.
        authenticated: bool,
    },
    /// Neither opens with our keys nor is text.
    Undecryptable,
}

impl fmt::Debug for Opened {
    /// Lengths instead of texts: messages do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event => f.write_str("Event"),
            Self::Direct { text } => write!(f, "Direct({} bytes)", text.len()),
            Self::Plaintext { text, .. } => write!(f, "Plaintext({} bytes, unauthenticated)", text.len()),
            Self::Undecryptable => f.write_str("Undecryptable"),
        }
    }
}

/// Opens a pushed message with our keys in order: session, then member.
///
/// 1. Subtype `system` or `webhook`, or no ciphertext: an event.
/// 2. No nonce: clear text.
/// 3. Opens with one of the keys: direct.
/// 4. Valid UTF-8 after base64: clear text (original clients send a random nonce with it).
/// 5. Anything else cannot be read.
///
/// Sealed group messages have their own fields and do not come here.
#[must_use]
pub fn open_incoming(
    recipient_keys: &[&SecretKey],
    subtype: Option<&str>,
    sender_pubkey: &str,
    nonce: &str,
    ciphertext: &str,
) -> Opened {
    if matches!(subtype, Some("system" | "webhook")) || ciphertext.is_empty() {
        return Opened::Event;
    }
    if !nonce.is_empty() {
        let direct = sender_pubkey
            .parse::<PublicKey>()
            .ok()
            .and_then(|sender| open_direct(recipient_keys, &sender, nonce, ciphertext).ok());
        if let Some(body) = direct {
            // A body that we can open is never shown as clear text, even when it is no text.
            return match std::str::from_utf8(&body) {
                Ok(text) => Opened::Direct { text: text.to_owned() },
                Err(_) => Opened::Undecryptable,
            };
        }
    }
    match decode_plain_text(ciphertext) {
        Some(text) => Opened::Plaintext {
            text,
            authenticated: false,
        },
        None => Opened::Undecryptable,
    }
}

/// The original's clear-text form of a message for more than one peer. **Not encrypted**: for bridges to meshes of
/// original clients only.
#[must_use]
pub fn encode_plain_text(text: &str) -> Envelope {
    Envelope {
        nonce: String::new(),
        ciphertext: encode_base64(text.as_bytes()),
    }
}

/// Decodes the ciphertext field of [`encode_plain_text`]; `None` when it is not base64 of UTF-8.
#[must_use]
pub fn decode_plain_text(ciphertext: &str) -> Option<String> {
    String::from_utf8(decode_base64(ciphertext)?).ok()
}

/// Whether a `targetSpec` names one key, so that original clients encrypt to it: exactly 64 lower-case hexadecimal
/// characters.
#[must_use]
pub fn is_direct_target(target_spec: &str) -> bool {
    target_spec.len() == 64
        && target_spec
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DirectMeta, EnvelopeError, seal_direct, seal_meta};

    #[test]
    fn metadata_and_binary_bodies_are_not_shown_as_text() -> Result<(), EnvelopeError> {
        let (alice, bob) = (SecretKey::from_seed(&[2; 32]), SecretKey::from_seed(&[3; 32]));
        let sender = alice.public().to_string();
        let meta = DirectMeta::for_body(b"x", "id".to_owned(), 1, "now".to_owned(), 0, None);
        let sealed = seal_meta(&alice, &bob.public(), &meta)?;
        let opened = open_incoming(&[&bob], None, &sender, &sealed.nonce, &sealed.ciphertext);
        assert_eq!(opened, Opened::Undecryptable);
        let binary = seal_direct(&alice, &bob.public(), &[0xff, 0xfe])?;
        let opened = open_incoming(&[&bob], None, &sender, &binary.nonce, &binary.ciphertext);
        assert_eq!(opened, Opened::Undecryptable);
        Ok(())
    }

    #[test]
    fn events_are_recognised() {
        assert_eq!(open_incoming(&[], Some("system"), "system", "", "aGk="), Opened::Event);
        assert_eq!(open_incoming(&[], None, "webhook:ci", "", ""), Opened::Event);
    }

    #[test]
    fn debug_shows_no_text() {
        let opened = Opened::Direct {
            text: "launch code".to_owned(),
        };
        assert_eq!(format!("{opened:?}"), "Direct(11 bytes)");
    }
}
