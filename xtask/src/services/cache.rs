//! What is kept between runs: programs, and the files that say what runs.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::interrupt;

/// Overrides the directory.
const DIRECTORY: &str = "CLAUDEMESH_SERVICES_DIR";
/// Longer than anything takes that is done under a lock.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The directory that is kept: `$CLAUDEMESH_SERVICES_DIR`, else `claudemesh/services` in the user's cache directory.
#[derive(Clone, Debug)]
pub(crate) struct Cache(PathBuf);

impl Cache {
    /// Finds it, or makes it.
    ///
    /// # Errors
    /// If there is no place for it.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let set = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let directory = set(DIRECTORY)
            .or_else(|| Some(set("XDG_CACHE_HOME")?.join("claudemesh/services")))
            .or_else(|| Some(set("HOME")?.join(".cache/claudemesh/services")))
            .with_context(|| format!("set {DIRECTORY} to a directory for the servers' programs"))?;
        Self::at(&directory)
    }

    /// The one in this directory.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn at(directory: &Path) -> anyhow::Result<Self> {
        let context = || format!("creating {}", directory.display());
        std::fs::create_dir_all(directory).with_context(context)?;
        Ok(Self(std::path::absolute(directory)?))
    }

    /// A file or directory in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a directory by `fill` if it is not there. It is there as a whole or not at all.
    ///
    /// # Errors
    /// Those of `fill`.
    pub(crate) fn keep(&self, name: &str, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
        let place = self.path(name);
        let _lock = self.lock(name)?;
        if !place.exists() {
            let new = tempfile::Builder::new().prefix(".new-").tempdir_in(&self.0)?;
            fill(new.path())?;
            std::fs::rename(new.keep(), &place).with_context(|| format!("creating {}", place.display()))?;
        }
        Ok(place)
    }

    /// Keeps others out until the file is dropped.
    ///
    /// # Errors
    /// If somebody else does not let go of it.
    pub(crate) fn lock(&self, name: &str) -> anyhow::Result<File> {
        let path = self.path(&format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        let until = Instant::now() + PATIENCE;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(error).context("locking"),
                Err(TryLockError::WouldBlock) => {}
            }
            if interrupt::asked() {
                bail!("interrupted");
            }
            if Instant::now() > until {
                bail!("another process holds {} for too long", path.display());
            }
            if !told {
                told = true;
                eprintln!("xtask: waiting for another process that has {}", path.display());
            }
            sleep(Duration::from_millis(200));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_made_directory_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).unwrap();
        let failed = cache.keep("minio-1", |new| {
            std::fs::write(new.join("half"), "")?;
            bail!("no network")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no network");
        assert!(!cache.path("minio-1").exists());

        let made = cache
            .keep("minio-1", |new| Ok(std::fs::write(new.join("minio"), "x")?))
            .unwrap();
        let again = cache.keep("minio-1", |_| bail!("it is there")).unwrap();
        assert_eq!(made, again);
        assert!(again.join("minio").is_file());
        let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 2, "the directory and its lock: {names:?}");
    }
}
