//! Where a download is written: a partial file beside its place, which it takes when it is whole. Blocking.

use super::share::clean_name;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// A download's place.
#[derive(Debug)]
pub(super) struct Target {
    /// Where the whole file goes.
    pub(super) path: PathBuf,
    partial: PathBuf,
    overwrite: bool,
    file: File,
    length: u64,
}

impl Target {
    /// Opens the partial file of this download, with what an earlier try left in it.
    pub(super) fn open(save_to: &str, name: &str, file_id: &str, overwrite: bool) -> io::Result<Self> {
        let asked = std::path::absolute(save_to)?;
        let is_directory = asked.is_dir() || save_to.ends_with(['/', std::path::MAIN_SEPARATOR]);
        let path = if is_directory {
            asked.join(clean_name(name))
        } else {
            asked
        };
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        fs::create_dir_all(&directory)?;
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // The id comes from outside.
        let id: String = file_id.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
        let partial = directory.join(format!(".claudemesh-{id}.part"));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&partial)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("the partial file is no file"));
        }
        file.try_lock()
            .map_err(|_| io::Error::from(io::ErrorKind::ResourceBusy))?;
        let length = file.metadata()?.len();
        Ok(Self {
            path,
            partial,
            overwrite,
            file,
            length,
        })
    }

    /// How much is written.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Keeps this much of what is written.
    pub(super) fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.seek(SeekFrom::Start(length))?;
        self.length = length;
        Ok(())
    }

    /// Writes on.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Moves the whole file to its place, with the access rights that new files have.
    pub(super) fn finish(self) -> io::Result<PathBuf> {
        self.file.sync_all()?;
        #[cfg(unix)]
        share_like_others(&self.file, &self.partial)?;
        if self.overwrite {
            fs::rename(&self.partial, &self.path)?;
            return Ok(self.path);
        }
        match fs::hard_link(&self.partial, &self.path) {
            Ok(()) => fs::remove_file(&self.partial)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // Not every file system has links.
            Err(_) if self.path.symlink_metadata().is_ok() => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(&self.partial, &self.path)?,
        }
        Ok(self.path)
    }
}

/// Files are private until they are whole, then like any other that the person makes: the process's mask decides.
#[cfg(unix)]
fn share_like_others(file: &File, partial: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut probe = partial.as_os_str().to_owned();
    probe.push(".mode");
    let _ = fs::remove_file(&probe);
    let mode = File::create_new(&probe)?.metadata()?.permissions().mode() & 0o777;
    fs::remove_file(&probe)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_gone_on_with_and_nothing_is_replaced_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("sub/plan.txt").to_string_lossy().into_owned();
        let mut target = Target::open(&to, "x", "id1", false).unwrap();
        target.write(b"0123456789").unwrap();
        let busy = Target::open(&to, "x", "id1", false).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
        drop(target);
        let mut target = Target::open(&to, "x", "id1", false).unwrap();
        assert_eq!(target.length(), 10);
        target.cut(4).unwrap();
        target.write(b"ab").unwrap();
        assert_eq!(fs::read(target.finish().unwrap()).unwrap(), b"0123ab");
        let taken = Target::open(&to, "x", "id2", false).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        let mut target = Target::open(&to, "x", "id2", true).unwrap();
        target.write(b"new").unwrap();
        target.finish().unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        // A directory takes it under its name, which cannot lead out of it.
        let target = Target::open(&directory.path().to_string_lossy(), "../up.txt", "id3", false).unwrap();
        assert_eq!(target.path, directory.path().join(".._up.txt"));
        drop(target);
        assert_eq!(
            fs::read_dir(directory.path().join("sub")).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }
}
