//! Sealing what a program keeps on its own disk, for nobody but its member.

use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

use crate::{SecretKey, random_bytes};

const DOMAIN: &[u8] = b"claudemesh/at-rest/1";
const NONCE: usize = 24;

/// Bytes that [`AtRestKey::seal`] adds.
pub const AT_REST_OVERHEAD: usize = NONCE + 16;

/// Key of one file of one member: HKDF-SHA256 of the member's seed with the file's random salt. What it seals
/// (XChaCha20-Poly1305, a random nonce in front) can be opened with the member's secret key and the salt only.
pub struct AtRestKey(XChaCha20Poly1305);

impl AtRestKey {
    /// The key of the file with this salt. `purpose` keeps different kinds of files apart.
    #[must_use]
    pub fn derive(member: &SecretKey, salt: &[u8; 32], purpose: &str) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(salt), member.seed().as_slice())
            .expand_multi_info(&[DOMAIN, b"/", purpose.as_bytes()], key.as_mut_slice())
            .expect("invariant: HKDF-SHA256 gives up to 8160 bytes");
        Self(XChaCha20Poly1305::new(key.as_ref().into()))
    }

    /// Seals `content`; [`AT_REST_OVERHEAD`] bytes longer.
    ///
    /// # Panics
    /// Never: the cipher takes up to 256 GiB at a time.
    #[must_use]
    pub fn seal(&self, content: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = random_bytes();
        let sealed = self
            .0
            .encrypt(XNonce::from_slice(&nonce), content)
            .expect("invariant: content in memory is shorter than 256 GiB");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens what [`AtRestKey::seal`] gave. `None` if it is damaged, or sealed under another key.
    #[must_use]
    pub fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
        let content = self.0.decrypt(XNonce::from_slice(nonce), sealed).ok()?;
        Some(Zeroizing::new(content))
    }
}

impl fmt::Debug for AtRestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtRestKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_member_opens_it_with_the_salt_and_for_the_purpose() {
        let member = SecretKey::generate();
        let (salt, other) = ([1; 32], [2; 32]);
        let sealed = AtRestKey::derive(&member, &salt, "journal").seal(b"text");
        assert_eq!(sealed.len(), b"text".len() + AT_REST_OVERHEAD);
        let open = |key: AtRestKey| key.open(&sealed).map(|content| content.to_vec());
        assert_eq!(
            open(AtRestKey::derive(&member, &salt, "journal")).as_deref(),
            Some(b"text".as_slice())
        );
        assert_eq!(open(AtRestKey::derive(&member, &other, "journal")), None);
        assert_eq!(open(AtRestKey::derive(&member, &salt, "cache")), None);
        assert_eq!(open(AtRestKey::derive(&SecretKey::generate(), &salt, "journal")), None);
    }

    #[test]
    fn damage_shows() {
        let key = AtRestKey::derive(&SecretKey::generate(), &[0; 32], "journal");
        let sealed = key.seal(b"text");
        for index in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[index] ^= 1;
            assert!(key.open(&damaged).is_none());
            assert!(key.open(&sealed[..index]).is_none());
        }
    }
}
