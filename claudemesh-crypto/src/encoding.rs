//! Text encodings of the wire formats, and random identifiers.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rand_core::{OsRng, RngCore as _};

/// Standard base64 with padding: the form of envelope fields on the wire.
#[must_use]
pub fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes [`encode_base64`]; `None` when the text is not padded standard base64.
#[must_use]
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// URL-safe base64 without padding: the form of tokens, root keys and link secrets.
#[must_use]
pub fn encode_base64_url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes [`encode_base64_url`]; `None` when the text has padding or foreign characters.
#[must_use]
pub fn decode_base64_url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// `N` bytes from the operating system's random number generator.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

/// A new row or message identifier: 32 characters of `0-9A-Za-z` (190 random bits), from the operating system's generator.
#[must_use]
pub fn random_id() -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const LENGTH: usize = 32;
    // Bytes of 248 and above would favour the first letters of the alphabet.
    const LIMIT: u8 = 248;
    let mut id = String::with_capacity(LENGTH);
    while id.len() < LENGTH {
        for byte in random_bytes::<48>() {
            if byte < LIMIT && id.len() < LENGTH {
                id.push(char::from(ALPHABET[usize::from(byte % 62)]));
            }
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_alphanumeric_characters_and_differ() {
        let (a, b) = (random_id(), random_id());
        assert_eq!(a.len(), 32);
        assert!(a.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(a, b);
    }
}
