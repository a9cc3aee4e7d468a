//! A keyring in a file that several processes share.

use super::{KeyStore, StoreChange};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest keyring that is read.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Keeps each mesh's keyring in `<directory>/<mesh id>.group`, readable by the owner of the file only. Replaced by renaming,
/// so that a crash leaves the old or the new one; a lock file beside it keeps the processes apart.
#[derive(Clone, Debug)]
pub struct FileKeyStore {
    directory: PathBuf,
}

impl FileKeyStore {
    /// Keyrings in this directory, which is created when first written to.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The file of a mesh.
    #[must_use]
    pub fn path(&self, mesh_id: &str) -> PathBuf {
        self.directory.join(format!("{}.group", file_stem(mesh_id)))
    }
}

impl KeyStore for FileKeyStore {
    fn load(&self, mesh_id: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        read(&self.path(mesh_id))
    }

    fn update(&self, mesh_id: &str, change: &mut StoreChange<'_>) -> io::Result<()> {
        create_private_directory(&self.directory)?;
        let path = self.path(mesh_id);
        let lock =
            private(OpenOptions::new().write(true).create(true).truncate(false)).open(path.with_extension("lock"))?;
        // Released when `lock` is closed, also by a crash.
        lock.lock()?;
        let stored = read(&path)?;
        if let Some(bytes) = change(stored.as_ref().map(|bytes| bytes.as_slice())) {
            replace(&path, &bytes)?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if length > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the keyring file is too long",
        ));
    }
    // Allocated once: a vector that grows leaves copies of the keys behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(length).unwrap_or(0).saturating_add(64),
    ));
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    // A left-over of a crash may have other permissions: start from nothing.
    match fs::remove_file(&fresh) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = private(OpenOptions::new().write(true).create_new(true)).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&fresh, path)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(unix)]
fn create_private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn create_private_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// The mesh id where it is a plain word, else its bytes in hexadecimal: it comes from outside.
fn file_stem(mesh_id: &str) -> String {
    let plain = !mesh_id.is_empty()
        && mesh_id.len() <= 64
        && !mesh_id.starts_with("x-")
        && mesh_id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if plain {
        mesh_id.to_owned()
    } else {
        format!("x-{}", hex::encode(mesh_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_stay_in_the_directory() {
        assert_eq!(file_stem("Abc-1"), "Abc-1");
        assert_eq!(file_stem("../a"), "x-2e2e2f61");
        assert_eq!(file_stem("x-61"), "x-782d3631");
    }

    #[test]
    fn writes_are_private_and_visible() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let store = FileKeyStore::new(directory.path().join("keys"));
        assert!(store.load("mesh")?.is_none());
        store.update("mesh", &mut |stored| {
            assert!(stored.is_none());
            Some(Zeroizing::new(b"one".to_vec()))
        })?;
        store.update("mesh", &mut |stored| {
            assert_eq!(stored, Some(b"one".as_slice()));
            None
        })?;
        assert_eq!(
            store.load("mesh")?.as_ref().map(|bytes| bytes.as_slice()),
            Some(b"one".as_slice())
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(store.path("mesh"))?.permissions().mode() & 0o777, 0o600);
        }
        Ok(())
    }
}
