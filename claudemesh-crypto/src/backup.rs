//! Passphrase-encrypted backup files, format `CMB1`.
//!
//! `"CMB1" ‖ salt (16) ‖ nonce (24) ‖ XChaCha20-Poly1305 (content, then a tag of 16)`; the key is Argon2id v1.3 of the
//! passphrase with 2 passes over 64 MiB and one lane, as libsodium's "interactive" limits.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::Aead as _;
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::random_bytes;

/// Fewest characters that a new backup's passphrase may have.
pub const BACKUP_PASSPHRASE_MIN: usize = 12;
/// Length of the smallest file: header, one byte of content and the tag.
pub const BACKUP_MIN_BYTES: usize = HEADER + 1 + TAG;

const MAGIC: &[u8; 4] = b"CMB1";
const SALT: usize = 16;
const NONCE: usize = 24;
const TAG: usize = 16;
const HEADER: usize = MAGIC.len() + SALT + NONCE;
const PASSES: u32 = 2;
const MEMORY_KIB: u32 = 64 * 1024;

/// Why a backup could not be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BackupError {
    /// The passphrase for a new backup is too short.
    #[error("passphrase has {length} characters, at least 12 needed; choose a longer one")]
    PassphraseTooShort {
        /// Number of characters that it has.
        length: usize,
    },
    /// Nothing to back up.
    #[error("content is empty; there is nothing to back up")]
    Empty,
    /// The file is too short to be a backup.
    #[error("backup file is {length} bytes long, at least 61 expected; copy the file again")]
    Truncated {
        /// Its length in bytes.
        length: usize,
    },
    /// The file does not start with `CMB1`.
    #[error("backup file does not start with CMB1; this is not a claudemesh backup, choose another file")]
    BadMagic,
    /// Wrong passphrase, or a damaged file: the two cannot be told apart.
    #[error("backup file does not open; check the passphrase, then the file")]
    Undecryptable,
    /// The key could not be derived or the content not encrypted, for want of memory or because of its size.
    #[error("backup could not be encrypted; free 64 MiB of memory and try again")]
    Internal,
}

/// Encrypts `content` under `passphrase`. Takes 64 MiB and about a tenth of a second.
///
/// # Errors
/// [`BackupError::PassphraseTooShort`] under [`BACKUP_PASSPHRASE_MIN`] characters, [`BackupError::Empty`],
/// [`BackupError::Internal`].
pub fn seal_backup(passphrase: &str, content: &[u8]) -> Result<Vec<u8>, BackupError> {
    seal_backup_with(passphrase, content, &random_bytes(), &random_bytes())
}

/// [`seal_backup`] with a given salt and nonce, to compare with test vectors.
#[doc(hidden)]
pub fn seal_backup_with(
    passphrase: &str,
    content: &[u8],
    salt: &[u8; SALT],
    nonce: &[u8; NONCE],
) -> Result<Vec<u8>, BackupError> {
    let length = passphrase.chars().count();
    if length < BACKUP_PASSPHRASE_MIN {
        return Err(BackupError::PassphraseTooShort { length });
    }
    if content.is_empty() {
        return Err(BackupError::Empty);
    }
    let sealed = cipher(passphrase, salt)?
        .encrypt(nonce.into(), content)
        .map_err(|_| BackupError::Internal)?;
    Ok([MAGIC.as_slice(), salt, nonce, &sealed].concat())
}

/// Decrypts a backup file. The passphrase's length is not checked: an old one may count characters differently.
///
/// # Errors
/// [`BackupError::BadMagic`], [`BackupError::Truncated`], [`BackupError::Undecryptable`].
pub fn open_backup(passphrase: &str, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, BackupError> {
    let truncated = BackupError::Truncated { length: file.len() };
    let (magic, rest) = file.split_first_chunk().ok_or(truncated)?;
    if magic != MAGIC {
        return Err(BackupError::BadMagic);
    }
    if file.len() < BACKUP_MIN_BYTES {
        return Err(truncated);
    }
    let (salt, rest) = rest.split_first_chunk().ok_or(truncated)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(truncated)?;
    cipher(passphrase, salt)?
        .decrypt(nonce.into(), sealed)
        .map(Zeroizing::new)
        .map_err(|_| BackupError::Undecryptable)
}

fn cipher(passphrase: &str, salt: &[u8; SALT]) -> Result<XChaCha20Poly1305, BackupError> {
    let mut key = Zeroizing::new([0; 32]);
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(key.len())).map_err(|_| BackupError::Internal)?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice())
        .map_err(|_| BackupError::Internal)?;
    Ok(XChaCha20Poly1305::new(key.as_slice().into()))
}
