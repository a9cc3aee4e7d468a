//! A local file as sealed parts, each of whole chunks. Blocking: runs in the runtime's pool.

use claudemesh_crypto::{
    FILE_CHUNK_BYTES, FILE_HEADER_BYTES, FileKey, FileSealer, SEALED_CHUNK_BYTES, file_chunks, sealed_file_bytes,
};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

/// Why a part could not be made.
#[derive(Debug)]
pub(super) enum PartError {
    /// The file cannot be read.
    Read(io::Error),
    /// The file is shorter or longer than it was, or has other content than when this part was sealed first.
    Changed,
    /// Sealing failed.
    Seal(claudemesh_crypto::FileError),
}

/// A file and how it is cut.
pub(super) struct Source {
    file: File,
    size: u64,
    form: Form,
    /// Chunks of one part.
    chunks: u64,
}

enum Form {
    Sealed(Box<FileSealer>),
    Clear,
}

/// A part that can be sent.
pub(super) struct SealedPart {
    /// Where it starts in the uploaded bytes.
    pub(super) offset: u64,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// SHA-256 of its bytes.
    pub(super) digest: [u8; 32],
    /// SHA-256 of the content in it.
    pub(super) content: [u8; 32],
}

impl Source {
    /// Seals with this key; `header` is that of an upload that was interrupted.
    pub(super) fn sealed(
        file: File,
        size: u64,
        key: &FileKey,
        header: Option<[u8; FILE_HEADER_BYTES]>,
        max_part: u64,
    ) -> Result<Self, PartError> {
        let sealer = match header {
            Some(header) => FileSealer::resume(key, size, header),
            None => FileSealer::new(key, size),
        };
        Ok(Self {
            file,
            size,
            form: Form::Sealed(Box::new(sealer.map_err(PartError::Seal)?)),
            chunks: chunks_of(max_part),
        })
    }

    /// Sends the file as it is.
    pub(super) fn clear(file: File, size: u64, max_part: u64) -> Self {
        Self {
            file,
            size,
            form: Form::Clear,
            chunks: chunks_of(max_part),
        }
    }

    /// The header of the sealed form.
    pub(super) fn header(&self) -> Option<[u8; FILE_HEADER_BYTES]> {
        match &self.form {
            Form::Sealed(sealer) => Some(*sealer.header()),
            Form::Clear => None,
        }
    }

    /// Length of what is uploaded.
    pub(super) fn upload_bytes(&self) -> u64 {
        match self.form {
            Form::Sealed(_) => sealed_file_bytes(self.size),
            Form::Clear => self.size,
        }
    }

    /// How many parts there are.
    pub(super) fn count(&self) -> u64 {
        match self.form {
            Form::Clear if self.size == 0 => 0,
            _ => file_chunks(self.size).div_ceil(self.chunks),
        }
    }

    /// Where part `number` starts in the uploaded bytes.
    pub(super) fn offset(&self, number: u64) -> u64 {
        match self.form {
            _ if number >= self.count() => self.upload_bytes(),
            Form::Sealed(_) if number > 0 => {
                FILE_HEADER_BYTES as u64 + number * self.chunks * SEALED_CHUNK_BYTES as u64
            }
            Form::Sealed(_) => 0,
            Form::Clear => number * self.chunks * FILE_CHUNK_BYTES as u64,
        }
    }

    /// The part that starts there; the number of parts if everything is there. `None` if none starts there.
    pub(super) fn part_at(&self, offset: u64) -> Option<u64> {
        if offset == self.upload_bytes() {
            return Some(self.count());
        }
        let guess = match self.form {
            Form::Sealed(_) => {
                offset.saturating_sub(FILE_HEADER_BYTES as u64) / (self.chunks * SEALED_CHUNK_BYTES as u64)
            }
            Form::Clear => offset / (self.chunks * FILE_CHUNK_BYTES as u64),
        };
        (self.offset(guess) == offset).then_some(guess)
    }

    /// Makes part `number`. `known` is the digest of the content that was sealed as this part before: other content must
    /// not be sealed in its place, since both together would reveal each other.
    pub(super) fn part(&mut self, number: u64, known: Option<[u8; 32]>) -> Result<SealedPart, PartError> {
        let offset = self.offset(number);
        let first = number * self.chunks;
        let last = (first + self.chunks).min(file_chunks(self.size));
        let content = self.read(first, last)?;
        let content_digest: [u8; 32] = Sha256::digest(&content).into();
        if known.is_some_and(|known| known != content_digest) {
            return Err(PartError::Changed);
        }
        let bytes = match &self.form {
            Form::Clear => content,
            Form::Sealed(sealer) => {
                let length = usize::try_from(self.offset(number + 1) - offset).unwrap_or_default();
                let mut bytes = Vec::with_capacity(length);
                if number == 0 {
                    bytes.extend_from_slice(sealer.header());
                }
                let mut chunk = Vec::with_capacity(SEALED_CHUNK_BYTES);
                let mut rest = content.as_slice();
                for index in first..last {
                    let (now, after) = rest.split_at(rest.len().min(FILE_CHUNK_BYTES));
                    rest = after;
                    chunk.clear();
                    chunk.extend_from_slice(now);
                    // The sealer was made for this size: the number fits.
                    let index = u32::try_from(index).unwrap_or(u32::MAX);
                    sealer.seal(index, &mut chunk).map_err(PartError::Seal)?;
                    bytes.extend_from_slice(&chunk);
                }
                bytes
            }
        };
        Ok(SealedPart {
            offset,
            digest: Sha256::digest(&bytes).into(),
            content: content_digest,
            bytes,
        })
    }

    fn read(&mut self, first: u64, last: u64) -> Result<Vec<u8>, PartError> {
        let start = first * FILE_CHUNK_BYTES as u64;
        let end = (last * FILE_CHUNK_BYTES as u64).min(self.size);
        let mut content = vec![0; usize::try_from(end - start).unwrap_or_default()];
        self.file.seek(SeekFrom::Start(start)).map_err(PartError::Read)?;
        self.file.read_exact(&mut content).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => PartError::Changed,
            _ => PartError::Read(error),
        })?;
        if end == self.size && self.file.read(&mut [0]).map_err(PartError::Read)? > 0 {
            return Err(PartError::Changed);
        }
        Ok(content)
    }
}

fn chunks_of(max_part: u64) -> u64 {
    (max_part.saturating_sub(FILE_HEADER_BYTES as u64) / SEALED_CHUNK_BYTES as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn source(content: &[u8], key: &FileKey, header: Option<[u8; 16]>) -> Source {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let max_part = 16 + 2 * SEALED_CHUNK_BYTES as u64;
        Source::sealed(file, content.len() as u64, key, header, max_part).unwrap()
    }

    #[test]
    fn parts_are_the_sealed_file_and_start_where_they_say() {
        let key = FileKey::generate();
        for length in [0, 1, FILE_CHUNK_BYTES * 2, FILE_CHUNK_BYTES * 5 + 3] {
            let content: Vec<u8> = (0..length).map(|n| (n % 249) as u8).collect();
            let mut source = source(&content, &key, None);
            let mut all = Vec::new();
            for number in 0..source.count() {
                let part = source.part(number, None).unwrap();
                assert_eq!(part.offset, all.len() as u64);
                assert_eq!(source.part_at(part.offset), Some(number));
                all.extend(part.bytes);
            }
            assert_eq!(all.len() as u64, source.upload_bytes());
            assert_eq!(source.part_at(all.len() as u64), Some(source.count()));
            assert_eq!(source.part_at(3), None);
        }
    }

    #[test]
    fn a_part_that_was_sealed_is_not_sealed_with_other_content() {
        let key = FileKey::generate();
        let content = vec![1; FILE_CHUNK_BYTES * 3];
        let mut first = source(&content, &key, None);
        let part = first.part(0, None).unwrap();
        let mut again = source(&content, &key, first.header());
        assert_eq!(again.part(0, Some(part.content)).unwrap().bytes, part.bytes);
        let mut changed = content.clone();
        changed[7] = 2;
        let mut other = source(&changed, &key, first.header());
        assert!(matches!(other.part(0, Some(part.content)), Err(PartError::Changed)));
    }
}
