//! The chunks of a file.

use aes_gcm::aead::stream::{NewStream as _, StreamBE32, StreamPrimitive as _};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::Aead as _;
use std::fmt;
use zeroize::Zeroizing;

use super::{FILE_CHUNK_BYTES, FILE_HEADER_BYTES, FileError, FileKey, MAX_FILE_CONTENT_BYTES, SEALED_CHUNK_BYTES};
use crate::random_bytes;

const MAGIC: &[u8; 4] = b"CMF1";
const PREFIX_BYTES: usize = 7;
/// Magic and chunk size stand before the nonce prefix, an unused byte after it.
const PREFIX_AT: usize = 8;

struct Chunks {
    stream: StreamBE32<Aes256Gcm>,
    header: [u8; FILE_HEADER_BYTES],
}

impl Chunks {
    fn new(key: &FileKey, header: [u8; FILE_HEADER_BYTES]) -> Self {
        let cipher = Aes256Gcm::new(key.as_bytes().into());
        let prefix: &[u8] = &header[PREFIX_AT..PREFIX_AT + PREFIX_BYTES];
        Self {
            stream: StreamBE32::from_aead(cipher, prefix.into()),
            header,
        }
    }
}

/// Seals the chunks of one file. A key must seal one content only: the same chunk with other content under the same key
/// and header would reveal both.
pub struct FileSealer {
    chunks: Chunks,
    count: u64,
}

impl FileSealer {
    /// For a file of `content` bytes, with a new header.
    ///
    /// # Errors
    /// [`FileError::TooLarge`].
    pub fn new(key: &FileKey, content: u64) -> Result<Self, FileError> {
        let mut header = [0; FILE_HEADER_BYTES];
        header[..4].copy_from_slice(MAGIC);
        header[4..PREFIX_AT].copy_from_slice(&chunk_size_field());
        header[PREFIX_AT..PREFIX_AT + PREFIX_BYTES].copy_from_slice(&random_bytes::<PREFIX_BYTES>());
        Self::resume(key, content, header)
    }

    /// For a file whose sealing was begun with this header. The content must be the same as then.
    ///
    /// # Errors
    /// [`FileError::TooLarge`], [`FileError::Header`].
    pub fn resume(key: &FileKey, content: u64, header: [u8; FILE_HEADER_BYTES]) -> Result<Self, FileError> {
        if content > MAX_FILE_CONTENT_BYTES {
            return Err(FileError::TooLarge);
        }
        check_header(&header)?;
        Ok(Self {
            chunks: Chunks::new(key, header),
            count: super::file_chunks(content),
        })
    }

    /// What the sealed file starts with.
    #[must_use]
    pub fn header(&self) -> &[u8; FILE_HEADER_BYTES] {
        &self.chunks.header
    }

    /// Seals chunk `number` (from 0) in place.
    ///
    /// # Errors
    /// [`FileError::Length`] when it is not as long as a chunk of its number must be.
    pub fn seal(&self, number: u32, chunk: &mut Vec<u8>) -> Result<(), FileError> {
        let last = u64::from(number) + 1 == self.count;
        let fits = u64::from(number) < self.count && chunk.len() <= FILE_CHUNK_BYTES;
        if !fits || (!last && chunk.len() != FILE_CHUNK_BYTES) {
            return Err(FileError::Length {
                length: chunk.len(),
                expected: FILE_CHUNK_BYTES,
            });
        }
        self.chunks
            .stream
            .encrypt_in_place(number, last, &self.chunks.header, chunk)
            .map_err(|_| FileError::Chunk { number })
    }
}

impl fmt::Debug for FileSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSealer")
            .field("chunks", &self.count)
            .finish_non_exhaustive()
    }
}

/// Opens the chunks of one sealed file.
pub struct FileOpener {
    chunks: Chunks,
    count: u64,
}

impl FileOpener {
    /// For a sealed file with this header and `content` bytes of content.
    ///
    /// # Errors
    /// [`FileError::Header`], [`FileError::TooLarge`].
    pub fn new(key: &FileKey, content: u64, header: &[u8]) -> Result<Self, FileError> {
        if content > MAX_FILE_CONTENT_BYTES {
            return Err(FileError::TooLarge);
        }
        let header: [u8; FILE_HEADER_BYTES] = header.try_into().map_err(|_| FileError::Header)?;
        check_header(&header)?;
        Ok(Self {
            chunks: Chunks::new(key, header),
            count: super::file_chunks(content),
        })
    }

    /// Opens chunk `number` (from 0) in place.
    ///
    /// # Errors
    /// [`FileError::Chunk`], [`FileError::Length`].
    pub fn open(&self, number: u32, chunk: &mut Vec<u8>) -> Result<(), FileError> {
        if chunk.len() > SEALED_CHUNK_BYTES || u64::from(number) >= self.count {
            return Err(FileError::Length {
                length: chunk.len(),
                expected: SEALED_CHUNK_BYTES,
            });
        }
        let last = u64::from(number) + 1 == self.count;
        self.chunks
            .stream
            .decrypt_in_place(number, last, &self.chunks.header, chunk)
            .map_err(|_| FileError::Chunk { number })
    }
}

impl fmt::Debug for FileOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileOpener")
            .field("chunks", &self.count)
            .finish_non_exhaustive()
    }
}

fn chunk_size_field() -> [u8; 4] {
    u32::try_from(FILE_CHUNK_BYTES).unwrap_or(u32::MAX).to_be_bytes()
}

fn check_header(header: &[u8; FILE_HEADER_BYTES]) -> Result<(), FileError> {
    if header[..4] != *MAGIC || header[4..PREFIX_AT] != chunk_size_field() {
        return Err(FileError::Header);
    }
    Ok(())
}

/// Opens a file of an original client: 24 bytes of nonce, then libsodium's `crypto_secretbox`, in one piece.
///
/// # Errors
/// [`FileError::Header`] when it is too short, [`FileError::Chunk`] when it does not open.
pub fn open_secretbox_file(key: &FileKey, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, FileError> {
    const NONCE_BYTES: usize = 24;
    const MAC_BYTES: usize = 16;
    if blob.len() < NONCE_BYTES + MAC_BYTES {
        return Err(FileError::Header);
    }
    let (nonce, sealed) = blob.split_at(NONCE_BYTES);
    XSalsa20Poly1305::new(key.as_bytes().into())
        .decrypt(nonce.into(), sealed)
        .map(Zeroizing::new)
        .map_err(|_| FileError::Chunk { number: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(key: &FileKey, content: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let sealer = FileSealer::new(key, content.len() as u64).unwrap();
        let mut chunks: Vec<Vec<u8>> = content.chunks(FILE_CHUNK_BYTES).map(<[u8]>::to_vec).collect();
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        for (number, chunk) in (0..).zip(&mut chunks) {
            sealer.seal(number, chunk).unwrap();
        }
        (sealer.header().to_vec(), chunks)
    }

    fn open(key: &FileKey, size: u64, header: &[u8], chunks: &[Vec<u8>]) -> Result<Vec<u8>, FileError> {
        let opener = FileOpener::new(key, size, header)?;
        let mut content = Vec::new();
        for (number, chunk) in (0..).zip(chunks) {
            let mut chunk = chunk.clone();
            opener.open(number, &mut chunk)?;
            content.extend(chunk);
        }
        Ok(content)
    }

    #[test]
    fn what_is_sealed_opens_whatever_its_length() {
        let key = FileKey::generate();
        for length in [
            0,
            1,
            FILE_CHUNK_BYTES - 1,
            FILE_CHUNK_BYTES,
            FILE_CHUNK_BYTES + 1,
            3 * FILE_CHUNK_BYTES,
        ] {
            let content: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let (header, chunks) = seal(&key, &content);
            let sealed = header.len() + chunks.iter().map(Vec::len).sum::<usize>();
            assert_eq!(sealed as u64, super::super::sealed_file_bytes(length as u64));
            assert_eq!(open(&key, length as u64, &header, &chunks).unwrap(), content);
        }
    }

    #[test]
    fn what_was_altered_moved_repeated_or_cut_off_does_not_open() {
        let key = FileKey::generate();
        let content = vec![5; 2 * FILE_CHUNK_BYTES + 7];
        let size = content.len() as u64;
        let (header, chunks) = seal(&key, &content);
        let fails = |size, header: &[u8], chunks: &[Vec<u8>]| assert!(open(&key, size, header, chunks).is_err());
        let mut altered = chunks.clone();
        altered[1][70] ^= 1;
        fails(size, &header, &altered);
        let mut moved = chunks.clone();
        moved.swap(0, 1);
        fails(size, &header, &moved);
        let mut repeated = chunks.clone();
        repeated[1] = chunks[0].clone();
        fails(size, &header, &repeated);
        // Cut off at a chunk's end, with a size that fits.
        fails(2 * FILE_CHUNK_BYTES as u64, &header, &chunks[..2]);
        for at in 0..header.len() {
            let mut other = header.clone();
            other[at] ^= 1;
            fails(size, &other, &chunks);
        }
        let other = FileKey::generate();
        assert!(open(&other, size, &header, &chunks).is_err());
        assert_eq!(FileOpener::new(&key, size, b"short").err(), Some(FileError::Header));
    }

    #[test]
    fn a_chunk_of_the_wrong_length_is_not_sealed() {
        let sealer = FileSealer::new(&FileKey::generate(), FILE_CHUNK_BYTES as u64 + 1).unwrap();
        assert!(
            sealer.seal(0, &mut vec![0; 5]).is_err(),
            "only the last one may be short"
        );
        assert!(sealer.seal(0, &mut vec![0; FILE_CHUNK_BYTES + 1]).is_err());
        assert!(sealer.seal(2, &mut vec![0; 1]).is_err());
        assert!(sealer.seal(1, &mut vec![0; 1]).is_ok());
    }
}
