//! The byte layout of everything that is signed, hashed or bound, and the hexadecimal newtypes of the group formats.
//!
//! A signed text is a sequence of fields, in this order and without gaps:
//!
//! | Field | Bytes |
//! |---|---|
//! | domain (always first), text, blob | length as 4 bytes big endian, then the bytes |
//! | `u8` | 1 byte |
//! | `u64` | 8 bytes big endian |
//! | key, digest | 32 bytes |
//! | signature | 64 bytes |
//! | optional value | `00`, or `01` and the value |
//! | list | count as 4 bytes big endian, then the items |

use std::fmt;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{BoxPublicKey, PublicKey, Signature};

/// Writes the layout of this module.
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn new(domain: &str) -> Self {
        let mut encoder = Self(Vec::with_capacity(256));
        encoder.bytes(domain.as_bytes());
        encoder
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn count(&mut self, items: usize) -> &mut Self {
        // Lengths are checked against limits far below 4 GiB before anything is signed or verified.
        self.0
            .extend_from_slice(&u32::try_from(items).unwrap_or(u32::MAX).to_be_bytes());
        self
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.count(value.len());
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn raw(&mut self, value: &[u8; 32]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn key(&mut self, key: &PublicKey) -> &mut Self {
        self.raw(key.as_bytes())
    }

    pub(super) fn signature(&mut self, signature: &Signature) -> &mut Self {
        self.0.extend_from_slice(signature.as_bytes());
        self
    }

    pub(super) fn keys(&mut self, keys: &[PublicKey]) -> &mut Self {
        self.count(keys.len());
        for key in keys {
            self.key(key);
        }
        self
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) -> &mut Self {
        match value {
            None => {
                self.u8(0);
            }
            Some(value) => {
                self.u8(1);
                write(self, value);
            }
        }
        self
    }

    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// SHA-256 of what was written; the buffer is wiped, as it may hold a key.
    pub(super) fn digest(&mut self) -> Digest {
        let digest = Digest(Sha256::digest(&self.0).into());
        self.0.zeroize();
        digest
    }
}

fn write_hex(bytes: &[u8; 32], text: &mut [u8; 64]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (index, byte) in bytes.iter().enumerate() {
        text[2 * index] = DIGITS[usize::from(byte >> 4)];
        text[2 * index + 1] = DIGITS[usize::from(byte & 15)];
    }
}

fn serialize_hex<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = Zeroizing::new([0; 64]);
    write_hex(bytes, &mut text);
    match std::str::from_utf8(&*text) {
        Ok(text) => serializer.serialize_str(text),
        Err(_) => Err(serde::ser::Error::custom("hexadecimal text")),
    }
}

struct HexVisitor;

impl Visitor<'_> for HexVisitor {
    type Value = [u8; 32];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 hexadecimal characters")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<[u8; 32], E> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| E::custom("expected 64 hexadecimal characters"))?;
        Ok(bytes)
    }
}

/// SHA-256 value: an entry of the group log, a commitment to a key, a roster. Text form: 64 lower-case hexadecimal
/// characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest([u8; 32]);

impl Digest {
    /// What the first entry of a log has as its predecessor.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// X25519 public key that epoch keys are sealed to. Text form: 64 lower-case hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The form that `crypto_box` works with.
    #[must_use]
    pub fn to_box_key(self) -> BoxPublicKey {
        BoxPublicKey::from(self.0)
    }
}

impl From<&BoxPublicKey> for SealKey {
    fn from(key: &BoxPublicKey) -> Self {
        Self(*key.as_bytes())
    }
}

macro_rules! hex_newtype {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize_hex(&self.0, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(HexVisitor).map(Self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::KeyError;

            fn from_str(text: &str) -> Result<Self, crate::KeyError> {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| crate::KeyError::Shape { expected: 64 })?;
                Ok(Self(bytes))
            }
        }
    };
}

hex_newtype!(Digest);
hex_newtype!(SealKey);

/// 32 secret bytes: zeroized on drop, never printed. Serialized into snapshots only.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret32(Zeroizing<[u8; 32]>);

impl Secret32 {
    pub(super) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret32(redacted)")
    }
}

impl Serialize for Secret32 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_hex(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Secret32 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(HexVisitor).map(Self::new)
    }
}

/// Bytes of a known length that travel as padded standard base64.
pub(super) mod base64_blob {
    use super::{Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    pub(in crate::group) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::encode_base64(bytes))
    }

    pub(in crate::group) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        crate::decode_base64(&text).ok_or_else(|| D::Error::custom("expected padded standard base64"))
    }
}

/// Parses JSON that may be hostile: refused above `limit` bytes, before it is looked at.
pub(super) fn parse_json<'de, T: Deserialize<'de>>(json: &'de [u8], limit: usize) -> Result<T, serde_json::Error> {
    if json.len() > limit {
        return Err(serde_json::Error::custom("too long"));
    }
    serde_json::from_slice(json)
}

/// Serializes into a buffer that never grows, so that no copy of a secret stays behind in freed memory.
pub(super) fn secret_json<T: Serialize>(value: &T) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(counter.0));
    serde_json::to_writer(&mut *bytes, value)?;
    Ok(bytes)
}
