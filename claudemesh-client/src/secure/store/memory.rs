//! A keyring that lives as long as the process.

use super::{KeyStore, StoreChange};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// Keeps keyrings in memory: a restarted program asks the other members for the keys again.
#[derive(Default)]
pub struct MemoryKeyStore {
    blobs: Mutex<HashMap<String, Zeroizing<Vec<u8>>>>,
}

impl MemoryKeyStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for MemoryKeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKeyStore").finish_non_exhaustive()
    }
}

impl KeyStore for MemoryKeyStore {
    fn load(&self, mesh_id: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(self
            .blobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(mesh_id)
            .cloned())
    }

    fn update(&self, mesh_id: &str, change: &mut StoreChange<'_>) -> io::Result<()> {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = change(blobs.get(mesh_id).map(|bytes| bytes.as_slice())) {
            blobs.insert(mesh_id.to_owned(), bytes);
        }
        Ok(())
    }
}
