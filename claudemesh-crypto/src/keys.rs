//! Ed25519 identities and the X25519 keys that are derived from them.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use rand_core::OsRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

/// Why a key or a signature was not accepted. Never contains the rejected text, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The text is not hexadecimal or has the wrong length.
    #[error("expected {expected} hexadecimal characters")]
    Shape {
        /// Number of hexadecimal characters that the field has.
        expected: usize,
    },
    /// The public half that is stored beside a seed does not belong to it.
    #[error("the secret key's public half does not match its seed")]
    Mismatch,
    /// The bytes are no point of the curve, or one of small order.
    #[error("not a usable ed25519 public key")]
    InvalidPoint,
    /// The signature was not made by this key over this text.
    #[error("the signature does not verify")]
    BadSignature,
}

/// X25519 public key, as `crypto_box` uses it.
pub type BoxPublicKey = crypto_box::PublicKey;
/// X25519 secret key, as `crypto_box` uses it. Zeroized on drop, `Debug` redacts.
pub type BoxSecretKey = crypto_box::SecretKey;

/// Ed25519 public key: a member, a session, a device, an invite or the owner of a mesh.
///
/// Text form: 64 lower-case hexadecimal characters; upper case is accepted on input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key with these bytes. Whether they are a usable point is found out when the key is used.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Verifies strictly: non-canonical signatures and keys of small order are refused, as libsodium does.
    ///
    /// # Errors
    /// [`KeyError::InvalidPoint`] or [`KeyError::BadSignature`].
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), KeyError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| KeyError::InvalidPoint)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(message, &signature)
            .map_err(|_| KeyError::BadSignature)
    }

    /// The X25519 form of this key (libsodium's `crypto_sign_ed25519_pk_to_curve25519`).
    ///
    /// # Errors
    /// [`KeyError::InvalidPoint`] for bytes that are no point, or one of small order.
    pub fn to_box_key(&self) -> Result<BoxPublicKey, KeyError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| KeyError::InvalidPoint)?;
        if key.is_weak() {
            return Err(KeyError::InvalidPoint);
        }
        Ok(BoxPublicKey::from(key.to_montgomery().to_bytes()))
    }

    /// The first eight characters, for people to tell peers apart. Never enough to address or verify one.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode_hex(text).map(Self)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Detached ed25519 signature. Text form: 128 lower-case hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// The signature with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes of the signature.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

impl FromStr for Signature {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode_hex(text).map(Self)
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Ed25519 secret key. Zeroized on drop; `Debug` shows the public half only; not serializable by accident:
/// call [`SecretKey::to_hex`] where a key file is written.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A new key from the operating system's random number generator.
    #[must_use]
    pub fn generate() -> Self {
        Self(SigningKey::generate(&mut OsRng))
    }

    /// The key with this seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads the form of key files: 128 hexadecimal characters, seed then public half.
    ///
    /// # Errors
    /// [`KeyError::Shape`], or [`KeyError::Mismatch`] when the two halves do not belong together.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(decode_hex::<64>(text)?);
        SigningKey::from_keypair_bytes(&bytes)
            .map(Self)
            .map_err(|_| KeyError::Mismatch)
    }

    /// The form of key files: 128 lower-case hexadecimal characters, seed then public half.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        let mut bytes = self.0.to_keypair_bytes();
        let text = Zeroizing::new(hex::encode(bytes));
        bytes.zeroize();
        text
    }

    /// The 32-byte seed that the key is made from.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// The X25519 form of this key (libsodium's `crypto_sign_ed25519_sk_to_curve25519`).
    #[must_use]
    pub fn to_box_key(&self) -> BoxSecretKey {
        let mut scalar = self.0.to_scalar_bytes();
        let key = BoxSecretKey::from(scalar);
        scalar.zeroize();
        key
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().short())
    }
}

fn decode_hex<const N: usize>(text: &str) -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyError::Shape { expected: 2 * N })?;
    Ok(bytes)
}
