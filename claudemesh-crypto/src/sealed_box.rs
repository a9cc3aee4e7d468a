//! Anonymous encryption to one key: libsodium's `crypto_box_seal`, 48 bytes longer than its content.

use crypto_box::aead;
use crypto_box::aead::rand_core::{CryptoRng, RngCore};
use rand_core::OsRng;
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{BoxPublicKey, BoxSecretKey, KeyError, PublicKey};

/// Bytes that sealing adds: the ephemeral public key (32) and the authenticator (16).
pub const SEAL_OVERHEAD: usize = 48;

/// Why something could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The recipient's key is no usable ed25519 key.
    #[error("recipient key is not usable ({0}); resolve the peer again")]
    Key(#[from] KeyError),
    /// The recipient's X25519 key is one of the few with which every exchange gives a known secret.
    #[error("recipient key is of small order; generate a new key pair and ask again")]
    LowOrderKey,
    /// Shorter than [`SEAL_OVERHEAD`].
    #[error("sealed value is {length} bytes long, at least 48 expected; fetch it again")]
    Truncated {
        /// Its length in bytes.
        length: usize,
    },
    /// Sealed for another key, or altered.
    #[error("sealed value does not open with this key; ask its author to seal it again for your current key")]
    Undecryptable,
}

/// Seals `bytes` to the holder of an ed25519 key, through its X25519 form.
///
/// Nothing shows who sealed it: sign what must be authentic.
///
/// # Errors
/// [`SealError::Key`] when the key is not usable.
pub fn seal_to(recipient: &PublicKey, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
    seal_to_box(&recipient.to_box_key()?, bytes)
}

/// Seals `bytes` to the holder of an X25519 key. Nothing shows who sealed it: sign what must be authentic.
///
/// # Errors
/// [`SealError::LowOrderKey`], as libsodium does.
pub fn seal_to_box(recipient: &BoxPublicKey, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
    seal_with(recipient, bytes, &mut OsRng)
}

/// [`seal_to_box`] with a given ephemeral secret, to compare with test vectors. A secret used twice links the two.
#[doc(hidden)]
pub fn seal_to_box_with_ephemeral(
    recipient: &BoxPublicKey,
    ephemeral: &BoxSecretKey,
    bytes: &[u8],
) -> Result<Vec<u8>, SealError> {
    seal_with(recipient, bytes, &mut Fixed(ephemeral.to_bytes()))
}

/// Opens what was sealed to the public half of `recipient`.
///
/// # Errors
/// [`SealError::Truncated`] or [`SealError::Undecryptable`].
pub fn open_sealed(recipient: &BoxSecretKey, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    if bytes.len() < SEAL_OVERHEAD {
        return Err(SealError::Truncated { length: bytes.len() });
    }
    recipient
        .unseal(bytes)
        .map(Zeroizing::new)
        .map_err(|_| SealError::Undecryptable)
}

fn seal_with(
    recipient: &BoxPublicKey,
    bytes: &[u8],
    random: &mut (impl CryptoRng + RngCore),
) -> Result<Vec<u8>, SealError> {
    if is_low_order(recipient) {
        return Err(SealError::LowOrderKey);
    }
    recipient
        .seal(random, bytes)
        .map_err(|aead::Error| SealError::Undecryptable)
}

/// The u coordinates of all points of small order on the curve and its twist, reduced; `crypto_box` does not check.
const LOW_ORDER: [[u8; 32]; 5] = {
    let zero = [0; 32];
    let mut one = [0; 32];
    one[0] = 1;
    let mut minus_one = [0xff; 32];
    minus_one[0] = 0xec;
    minus_one[31] = 0x7f;
    [
        zero,
        one,
        minus_one,
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
            0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
            0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
        ],
    ]
};

fn is_low_order(key: &BoxPublicKey) -> bool {
    let mut bytes = *key.as_bytes();
    // The top bit is not part of the coordinate.
    bytes[31] &= 0x7f;
    // p and p + 1 are other spellings of 0 and 1.
    let unreduced = bytes[31] == 0x7f && bytes[1..31] == [0xff; 30] && matches!(bytes[0], 0xed | 0xee);
    unreduced || LOW_ORDER.contains(&bytes)
}

/// Hands out the same 32 bytes: `crypto_box` asks its generator exactly once, for the ephemeral secret.
struct Fixed([u8; 32]);

impl RngCore for Fixed {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }

    fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32())
    }

    fn fill_bytes(&mut self, destination: &mut [u8]) {
        for (to, from) in destination.iter_mut().zip(self.0.iter().cycle()) {
            *to = *from;
        }
    }

    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(destination);
        Ok(())
    }
}

impl CryptoRng for Fixed {}

impl Drop for Fixed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn round_trip_to_identity() -> Result<(), SealError> {
        let bob = SecretKey::from_seed(&[3; 32]);
        let sealed = seal_to(&bob.public(), b"key")?;
        assert_eq!(sealed.len(), 3 + SEAL_OVERHEAD);
        assert_eq!(open_sealed(&bob.to_box_key(), &sealed)?.as_slice(), b"key");
        let other = SecretKey::from_seed(&[4; 32]).to_box_key();
        assert_eq!(open_sealed(&other, &sealed), Err(SealError::Undecryptable));
        assert_eq!(
            open_sealed(&other, &sealed[..47]),
            Err(SealError::Truncated { length: 47 })
        );
        let empty = seal_to(&bob.public(), b"")?;
        assert!(open_sealed(&bob.to_box_key(), &empty)?.is_empty());
        Ok(())
    }

    #[test]
    fn small_order_keys_are_refused_and_are_really_so() {
        use crypto_box::SalsaBox;
        use crypto_box::aead::Aead as _;
        let (one, two) = (BoxSecretKey::from([1; 32]), BoxSecretKey::from([2; 32]));
        let mut spellings = LOW_ORDER.to_vec();
        for first in [0xed, 0xee] {
            let mut bytes = [0xff; 32];
            bytes[0] = first;
            bytes[31] = 0x7f;
            spellings.push(bytes);
        }
        for mut bytes in spellings.clone() {
            bytes[31] |= 0x80;
            spellings.push(bytes);
        }
        for bytes in spellings {
            let key = BoxPublicKey::from(bytes);
            assert_eq!(seal_to_box(&key, b"x"), Err(SealError::LowOrderKey));
            // With any other key two different secrets would not give the same ciphertext.
            let nonce = [0; 24].into();
            let seal = |secret| SalsaBox::new(&key, secret).encrypt(&nonce, b"x".as_slice()).ok();
            assert_eq!(seal(&one), seal(&two));
        }
        assert!(!is_low_order(&one.public_key()));
    }
}
