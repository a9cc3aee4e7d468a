//! The file: a header, then sealed records one after the other. Torn and damaged ones are found when it is opened.

use super::record::Record;
use claudemesh_crypto::{AtRestKey, PublicKey, SecretKey, random_bytes};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"cmjrnl\0\x01";
const PURPOSE: &str = "journal";
/// Magic, owner, salt.
const HEADER: usize = 8 + 32 + 32;
/// Longest record. A message has at most 750,000 bytes of text, which JSON may make six times as long.
const MAX_RECORD: usize = 16 << 20;
const FILE: &str = "journal";

/// Where a record is in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Span {
    offset: u64,
    length: u64,
}

/// Why a file cannot be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// It was written by another member, or for another mesh.
    Foreign,
    /// It is no journal, or one of a newer version.
    Unknown,
    /// It cannot be read or written.
    Io(io::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What was found in a file.
#[derive(Default)]
pub(super) struct Found {
    /// The records that can be read, in order.
    pub(super) records: Vec<(Span, Record)>,
    /// How many records in between cannot.
    pub(super) damaged: usize,
    /// Bytes of an incomplete record that were cut off the end.
    pub(super) torn: u64,
}

/// An open file.
pub(super) struct Log {
    path: PathBuf,
    file: Arc<File>,
    header: [u8; HEADER],
    key: AtRestKey,
    end: u64,
    /// A failed write may have left something after `end`.
    dirty_tail: bool,
}

impl Log {
    /// Opens the journal in a directory, or creates it.
    pub(super) fn open(directory: &Path, member: &SecretKey, mesh_id: &str) -> Result<(Self, Found), OpenError> {
        let path = directory.join(FILE);
        let owner = owner(&member.public(), mesh_id);
        let mut file = match private(OpenOptions::new().read(true).write(true)).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let salt: [u8; 32] = random_bytes();
                let mut header = [0; HEADER];
                header[..8].copy_from_slice(MAGIC);
                header[8..40].copy_from_slice(&owner);
                header[40..].copy_from_slice(&salt);
                let log = Self {
                    file: Arc::new(replace(&path, &header, |_| Ok(()))?),
                    key: AtRestKey::derive(member, &salt, PURPOSE),
                    path,
                    header,
                    end: HEADER as u64,
                    dirty_tail: false,
                };
                return Ok((log, Found::default()));
            }
            Err(error) => return Err(error.into()),
        };
        let mut header = [0; HEADER];
        match file.read_exact(&mut header) {
            Ok(()) if header[..8] == *MAGIC => {}
            Ok(()) => return Err(OpenError::Unknown),
            // It is put in place whole: shorter was never a journal.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(OpenError::Unknown),
            Err(error) => return Err(error.into()),
        }
        if header[8..40] != owner {
            return Err(OpenError::Foreign);
        }
        let salt: [u8; 32] = header[40..].try_into().map_err(|_| OpenError::Unknown)?;
        let key = AtRestKey::derive(member, &salt, PURPOSE);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (found, good) = scan(&bytes, &key);
        let end = HEADER as u64 + good as u64;
        if found.torn > 0 {
            file.set_len(end)?;
            file.sync_all()?;
        }
        let log = Self {
            path,
            file: Arc::new(file),
            header,
            key,
            end,
            dirty_tail: false,
        };
        Ok((log, found))
    }

    /// Writes a record. It is in the hands of the operating system then: a killed process does not lose it, a power
    /// failure may until [`Log::file`] is synced.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<Span> {
        let frame = self.frame(record)?;
        self.clean_tail()?;
        let span = Span {
            offset: self.end,
            length: frame.len() as u64,
        };
        let mut file = self.file.as_ref();
        let written = file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| file.write_all(&frame));
        if let Err(error) = written {
            self.dirty_tail = true;
            // What was written of it must not hide what comes later.
            let _ = self.clean_tail();
            return Err(error);
        }
        self.end += span.length;
        Ok(span)
    }

    fn clean_tail(&mut self) -> io::Result<()> {
        if self.dirty_tail {
            self.file.set_len(self.end)?;
            self.dirty_tail = false;
        }
        Ok(())
    }

    fn frame(&self, record: &Record) -> io::Result<Vec<u8>> {
        let content = Zeroizing::new(serde_json::to_vec(record)?);
        let sealed = self.key.seal(&content);
        match u32::try_from(sealed.len()) {
            Ok(length) if sealed.len() <= MAX_RECORD => Ok([length.to_le_bytes().as_slice(), &sealed].concat()),
            _ => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("a record of {} bytes; the limit is {MAX_RECORD}", sealed.len()),
            )),
        }
    }

    /// The file, to be synced while others write on.
    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// How long the file is.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    fn bytes(&self, span: Span) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(span.length).unwrap_or(MAX_RECORD)];
        let mut file = self.file.as_ref();
        file.seek(SeekFrom::Start(span.offset))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Puts a file in the place of this one that has `first`, then the records of `keep` as they are, then `last`. It is
    /// on disk when this returns. Gives where those of `keep` are now.
    pub(super) fn rewrite(&mut self, first: &[Record], keep: &[Span], last: &[Record]) -> io::Result<Vec<Span>> {
        let mut end = HEADER as u64;
        let mut spans = Vec::with_capacity(keep.len());
        let file = replace(&self.path, &self.header, |file| {
            let mut file = io::BufWriter::new(file);
            for record in first {
                let frame = self.frame(record)?;
                file.write_all(&frame)?;
                end += frame.len() as u64;
            }
            for span in keep {
                file.write_all(&self.bytes(*span)?)?;
                spans.push(Span { offset: end, ..*span });
                end += span.length;
            }
            for record in last {
                let frame = self.frame(record)?;
                file.write_all(&frame)?;
                end += frame.len() as u64;
            }
            file.flush()
        })?;
        self.file = Arc::new(file);
        self.end = end;
        self.dirty_tail = false;
        Ok(spans)
    }

    #[cfg(test)]
    pub(super) fn swap_file(&mut self, file: File) -> Arc<File> {
        std::mem::replace(&mut self.file, Arc::new(file))
    }
}

/// Reads frames up to the first that is incomplete. Gives how many bytes are good.
fn scan(bytes: &[u8], key: &AtRestKey) -> (Found, usize) {
    let mut found = Found::default();
    let mut offset = 0;
    // What cannot be opened counts as damage only if something after it can: else it is the torn end.
    let (mut good, mut skipped) = (0, 0);
    while let Some((length, rest)) = bytes[offset..].split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_RECORD || length > rest.len() {
            break;
        }
        let next = offset + 4 + length;
        match parse(key, &rest[..length]) {
            Some(record) => {
                let span = Span {
                    offset: (HEADER + offset) as u64,
                    length: (4 + length) as u64,
                };
                found.records.push((span, record));
                found.damaged += std::mem::take(&mut skipped);
                good = next;
            }
            None => skipped += 1,
        }
        offset = next;
    }
    found.torn = (bytes.len() - good) as u64;
    (found, good)
}

fn parse(key: &AtRestKey, sealed: &[u8]) -> Option<Record> {
    let content = key.open(sealed)?;
    serde_json::from_slice(&content)
        .inspect_err(|error| tracing::warn!(%error, "a record of the journal is of another version"))
        .ok()
}

/// Says whose journal it is, without saying who that is.
pub(super) fn owner(member: &PublicKey, mesh_id: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"claudemesh/journal/1")
        .chain_update(member.as_bytes())
        .chain_update(mesh_id.as_bytes())
        .finalize()
        .into()
}

/// Writes a file beside `path` and renames it: whoever looks finds the old one or the whole new one.
fn replace(path: &Path, header: &[u8], fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = private(OpenOptions::new().read(true).write(true).create_new(true)).open(&fresh)?;
    let written = file
        .write_all(header)
        .and_then(|()| fill(&mut file))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    sync_directory(path)?;
    Ok(file)
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600)
}

#[cfg(not(unix))]
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}
