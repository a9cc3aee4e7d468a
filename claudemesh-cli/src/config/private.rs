//! Files that nobody else may read: written whole or not at all.

use crate::CliError;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Creates a directory, and its parents, that only its owner may enter.
pub(crate) fn create_dir(path: &Path) -> Result<(), CliError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| failed("create", path, &error))
}

/// Writes a file that only its owner may read, by way of a temporary file in the same directory.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), CliError> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let temporary = path.with_file_name(format!("{name}.tmp.{}", std::process::id()));
    let result = write_new(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(|error| failed("write", path, &error))
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    // A file left by a crashed process of the same number may have other permissions: start afresh.
    let _ = fs::remove_file(path);
    let mut file = private_options().create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Opens (or creates) a lock file and waits until no other process holds it. Dropping the file releases it.
pub(crate) fn lock(path: &Path) -> Result<File, CliError> {
    let open = || -> io::Result<File> {
        let file = private_options().create(true).truncate(false).open(path)?;
        file.lock()?;
        Ok(file)
    };
    open().map_err(|error| failed("lock", path, &error))
}

/// Takes a lock file at once; `None` if another process holds it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>, CliError> {
    let file = private_options()
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| failed("open", path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(failed("lock", path, &error)),
    }
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Says how to close a file or directory that others may read, if there is one.
pub(crate) fn exposure(path: &Path) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata = fs::metadata(path).ok()?;
        let mode = metadata.permissions().mode() & 0o777;
        let wanted = if metadata.is_dir() { "700" } else { "600" };
        let path = path.display();
        (mode & 0o077 != 0).then(|| format!("others can read {path} (mode {mode:03o}); run: chmod {wanted} '{path}'"))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// A failed file operation.
pub(crate) fn failed(what: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::local(
        format!("Cannot {what} {}: {error}", path.display()),
        "Check the path's owner and permissions, and that the disk has room.",
    )
}
