//! The key under which the broker keeps what it must keep secret. Made at first start, readable by the broker only.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use claudemesh_crypto::{
    BoxPublicKey, BoxSecretKey, decode_base64_url, encode_base64_url, open_sealed, random_bytes, seal_to_box,
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Name of the key's file in the data directory.
const FILE: &str = "broker.key";

/// A key of the environment. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKey([u8; 32]);

impl EncryptionKey {
    /// The key of 64 hexadecimal characters.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey(…)")
    }
}

/// Why there is no key.
#[derive(Debug, Error)]
pub enum BrokerKeyError {
    /// The file cannot be read or made.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a key.
    #[error("{0} is not a broker key; restore it from a backup, or remove it to lose what is sealed under it")]
    Damaged(PathBuf),
}

/// The broker's own key.
#[derive(Clone)]
pub struct BrokerKey {
    secret: BoxSecretKey,
    public: BoxPublicKey,
}

impl fmt::Debug for BrokerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrokerKey(…)")
    }
}

impl BrokerKey {
    /// A key of the environment.
    #[must_use]
    pub fn from_bytes(key: &EncryptionKey) -> Self {
        let secret = BoxSecretKey::from(key.0);
        Self {
            public: secret.public_key(),
            secret,
        }
    }

    /// The key in this directory; a new one at first start.
    ///
    /// # Errors
    /// [`BrokerKeyError`].
    pub fn load_or_create(directory: &Path) -> Result<Self, BrokerKeyError> {
        let path = directory.join(FILE);
        let failed = |source| BrokerKeyError::Io {
            path: path.clone(),
            source,
        };
        let mut text = String::new();
        match fs::File::open(&path) {
            Ok(mut file) => file.read_to_string(&mut text).map(|_| ()).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                text = random_bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect();
                create(&path, &text).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let key = EncryptionKey::from_hex(text.trim()).ok_or_else(|| BrokerKeyError::Damaged(path.clone()))?;
        Ok(Self::from_bytes(&key))
    }

    /// Another key, for this purpose only.
    #[must_use]
    pub fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        // A key of 32 random bytes: hashing it with the purpose is all that is needed.
        Sha256::new()
            .chain_update(purpose)
            .chain_update(self.secret.to_bytes())
            .finalize()
            .into()
    }

    /// Seals a secret for the broker itself.
    #[must_use]
    pub fn seal(&self, secret: &[u8]) -> Option<String> {
        seal_to_box(&self.public, secret)
            .ok()
            .map(|sealed| encode_base64_url(&sealed))
    }

    /// Opens [`BrokerKey::seal`].
    #[must_use]
    pub fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        open_sealed(&self.secret, &decode_base64_url(sealed)?)
            .ok()
            .map(|bytes| bytes.to_vec())
    }
}

/// Written beside and renamed, so that a crash leaves no half key.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let partial = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_readable_by_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let sealed = BrokerKey::load_or_create(directory.path())
            .unwrap()
            .seal(b"secret")
            .unwrap();
        let again = BrokerKey::load_or_create(directory.path()).unwrap();
        assert_eq!(again.open(&sealed).unwrap(), b"secret");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let other = BrokerKey::from_bytes(&EncryptionKey::from_hex(&"ab".repeat(32)).unwrap());
        assert!(other.open(&sealed).is_none());
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "half").unwrap();
        assert!(matches!(
            BrokerKey::load_or_create(directory.path()),
            Err(BrokerKeyError::Damaged(_))
        ));
        assert_eq!(fs::read_to_string(directory.path().join(FILE)).unwrap(), "half");
    }
}
