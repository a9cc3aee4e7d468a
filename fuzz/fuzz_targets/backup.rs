//! Backup files. A whole one costs a key derivation (64 MiB): the fuzzer gets as far as the head.
#![no_main]

use claudemesh_crypto::{BACKUP_MIN_BYTES, BackupError, open_backup};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let is_whole = bytes.starts_with(b"CMB1") && bytes.len() >= BACKUP_MIN_BYTES;
    if !is_whole {
        let refused = open_backup("passphrase long enough", bytes).err();
        assert!(matches!(
            refused,
            Some(BackupError::BadMagic | BackupError::Truncated { .. })
        ));
    }
});
