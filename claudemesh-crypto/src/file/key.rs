//! The key of one file.

use std::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::FileError;
use crate::{PublicKey, SealError, SecretKey, open_sealed, random_bytes, seal_to};

const COMMITMENT_DOMAIN: &[u8] = b"claudemesh/file/key/1";

/// The key of one file: random, for this file only. Zeroized on drop, never printed.
#[derive(Clone)]
pub struct FileKey(Zeroizing<[u8; 32]>);

impl FileKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> Self {
        Self(Zeroizing::new(random_bytes()))
    }

    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Wraps the key for a recipient (`crypto_box_seal`, 80 bytes).
    ///
    /// # Errors
    /// [`SealError`] when the recipient's key is not usable.
    pub fn wrap_for(&self, recipient: &PublicKey) -> Result<Vec<u8>, SealError> {
        seal_to(recipient, &*self.0)
    }

    /// Unwraps a key with the first of our keys that opens it: member key, then session key.
    ///
    /// # Errors
    /// [`FileError::Key`].
    pub fn unwrap_with(ours: &[&SecretKey], wrapped: &[u8]) -> Result<Self, FileError> {
        let mut failure = SealError::Undecryptable;
        for key in ours {
            match open_sealed(&key.to_box_key(), wrapped) {
                Ok(bytes) => {
                    return <[u8; 32]>::try_from(bytes.as_slice())
                        .map(Self::from_bytes)
                        .map_err(|_| FileError::Key(SealError::Undecryptable));
                }
                Err(error) => failure = error,
            }
        }
        Err(FileError::Key(failure))
    }

    /// What commits to the key without telling it: nobody finds a second key with the same value.
    #[must_use]
    pub fn commitment(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(COMMITMENT_DOMAIN)
            .chain_update(*self.0)
            .finalize()
            .into()
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(…)")
    }
}
