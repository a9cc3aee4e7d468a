//! What it takes to go on with an upload after the program ended: a small file that only its owner may read. The file's
//! key is in it wrapped for the member's own key.

use claudemesh_crypto::{FILE_HEADER_BYTES, FileKey, PublicKey, SecretKey, decode_base64, encode_base64};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// After this time the broker has given the upload up.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The written form.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    file: String,
    size: u64,
    key: String,
    header: Option<String>,
    /// Digests of the content of each part that was sealed.
    parts: Vec<String>,
}

/// The journal of one upload. Locked: of two programs that share the same file, one goes on and the other starts anew.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    record: Record,
}

/// What tells uploads apart.
pub(super) struct Subject<'a> {
    pub(super) mesh: &'a str,
    pub(super) path: &'a Path,
    /// Everything else that was asked for.
    pub(super) request: &'a str,
}

impl Journal {
    /// Opens the journal of an upload, or begins one. `None` if another program has it, or it cannot be kept: the upload
    /// works without.
    pub(super) fn open(directory: &Path, subject: &Subject<'_>, size: u64, own: &SecretKey) -> Option<(Self, Resumed)> {
        let kept = Self::try_open(directory, subject, size, own);
        kept.inspect_err(|error| tracing::warn!(%error, "an interrupted upload will not be resumed"))
            .ok()
            .flatten()
    }

    fn try_open(
        directory: &Path,
        subject: &Subject<'_>,
        size: u64,
        own: &SecretKey,
    ) -> io::Result<Option<(Self, Resumed)>> {
        make_private(directory)?;
        remove_old(directory);
        let path = directory.join(format!("{}.json", name_of(subject)));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path)?;
        if file.try_lock().is_err() {
            return Ok(None);
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let known = serde_json::from_str::<Record>(&text)
            .ok()
            .filter(|record| record.size == size);
        if let Some(record) = known
            && let Some(resumed) = Resumed::of(&record, own)
        {
            return Ok(Some((Self { path, file, record }, resumed)));
        }
        let resumed = Resumed::new();
        let record = resumed.record(size, &own.public())?;
        Ok(Some((Self { path, file, record }, resumed)))
    }

    /// Notes the header, before anything is sealed with it.
    pub(super) fn set_header(&mut self, header: Option<[u8; FILE_HEADER_BYTES]>) -> io::Result<()> {
        self.record.header = header.map(hex::encode);
        self.save()
    }

    /// Notes a part's content, before the part leaves this machine.
    pub(super) fn sealed(&mut self, number: u64, content: [u8; 32]) -> io::Result<()> {
        if usize::try_from(number).is_ok_and(|number| number == self.record.parts.len()) {
            self.record.parts.push(hex::encode(content));
            self.save()?;
        }
        Ok(())
    }

    /// Forgets the upload.
    pub(super) fn remove(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the journal of an upload was not removed");
        }
    }

    fn save(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.record)?;
        // In place, since the lock is on this file. A half-written journal is read as none.
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&text)?;
        self.file.set_len(text.len() as u64)?;
        self.file.sync_data()
    }
}

/// What an upload goes on with.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) file: String,
    pub(super) key: FileKey,
    pub(super) header: Option<[u8; FILE_HEADER_BYTES]>,
    pub(super) parts: Vec<[u8; 32]>,
}

impl Resumed {
    /// A new upload.
    pub(super) fn new() -> Self {
        Self {
            file: claudemesh_crypto::random_id(),
            key: FileKey::generate(),
            header: None,
            parts: Vec::new(),
        }
    }

    fn of(record: &Record, own: &SecretKey) -> Option<Self> {
        let header = match &record.header {
            Some(text) => Some(hex::decode(text).ok()?.try_into().ok()?),
            None => None,
        };
        let digest = |text: &String| hex::decode(text).ok()?.try_into().ok();
        Some(Self {
            file: record.file.clone(),
            key: FileKey::unwrap_with(&[own], &decode_base64(&record.key)?).ok()?,
            header,
            parts: record.parts.iter().map(digest).collect::<Option<_>>()?,
        })
    }

    fn record(&self, size: u64, own: &PublicKey) -> io::Result<Record> {
        let key = self.key.wrap_for(own).map_err(io::Error::other)?;
        Ok(Record {
            file: self.file.clone(),
            size,
            key: encode_base64(&key),
            header: None,
            parts: Vec::new(),
        })
    }
}

fn name_of(subject: &Subject<'_>) -> String {
    let path = subject.path.to_string_lossy();
    let mut hash = Sha256::new();
    for part in [subject.mesh, &path, subject.request] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..16])
}

fn make_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn remove_old(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = age.and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some_and(|age| age > LIFE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_found_again_by_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let own = SecretKey::generate();
        let subject = |request| Subject {
            mesh: "m",
            path: Path::new("/a"),
            request,
        };
        let (mut journal, first) = Journal::open(directory.path(), &subject("to ana"), 9, &own).unwrap();
        journal.set_header(Some([3; 16])).unwrap();
        journal.sealed(0, [4; 32]).unwrap();
        journal.sealed(0, [5; 32]).unwrap();
        assert!(
            Journal::open(directory.path(), &subject("to ana"), 9, &own).is_none(),
            "it is in use"
        );
        drop(journal);
        let (journal, again) = Journal::open(directory.path(), &subject("to ana"), 9, &own).unwrap();
        assert_eq!(
            (again.file.as_str(), again.header, again.parts.as_slice()),
            (first.file.as_str(), Some([3; 16]), [[4; 32]].as_slice())
        );
        assert_eq!(again.key.commitment(), first.key.commitment());
        drop(journal);
        for (request, size, own) in [
            ("to ben", 9, &own),
            ("to ana", 8, &own),
            ("to ana", 9, &SecretKey::generate()),
        ] {
            let (_, other) = Journal::open(directory.path(), &subject(request), size, own).unwrap();
            assert_ne!(other.file, first.file);
        }
    }
}
