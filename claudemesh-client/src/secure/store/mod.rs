//! Where the keyring of a member is kept.

mod file;
mod memory;

pub use file::FileKeyStore;
pub use memory::MemoryKeyStore;

use std::io;
use zeroize::Zeroizing;

/// What [`KeyStore::update`] runs under the lock: gets the stored bytes and gives the new ones, or `None` to leave them.
pub type StoreChange<'a> = dyn FnMut(Option<&[u8]>) -> Option<Zeroizing<Vec<u8>>> + 'a;

/// Keeps one secret blob for each mesh. All processes of a member use the same one.
pub trait KeyStore: Send + Sync {
    /// The stored bytes.
    ///
    /// # Errors
    /// When they cannot be read.
    fn load(&self, mesh_id: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>>;

    /// Reads, changes and writes while no other process does: what `change` gives replaces what it got, all or nothing.
    ///
    /// # Errors
    /// When the bytes cannot be read, locked or written; the old ones are kept then.
    fn update(&self, mesh_id: &str, change: &mut StoreChange<'_>) -> io::Result<()>;
}
