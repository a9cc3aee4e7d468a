//! Files: encrypted in chunks with AES-256-GCM (the STREAM construction), with a key of their own that is wrapped for
//! each recipient.
//!
//! A sealed file is a header of [`FILE_HEADER_BYTES`], then chunks. Each chunk holds [`FILE_CHUNK_BYTES`] of content (the
//! last one what is left) and a tag of 16 bytes. A chunk's nonce is the header's random prefix (7 bytes), its number
//! (4 bytes, big endian) and whether it is the last one (1 byte); the header is authenticated with each chunk. Chunks can
//! be opened one by one and in any order, but cannot be reordered, repeated, left out or cut off unnoticed.

mod key;
mod proof;
mod stream;

use thiserror::Error;

use crate::SealError;

pub use key::FileKey;
pub use proof::FileProofText;
pub use stream::{FileOpener, FileSealer, open_secretbox_file};

/// Length of the header of a sealed file, in bytes.
pub const FILE_HEADER_BYTES: usize = 16;
/// Content of one chunk, in bytes.
pub const FILE_CHUNK_BYTES: usize = 65_536;
/// Length of a sealed chunk, in bytes; the last one may be shorter.
pub const SEALED_CHUNK_BYTES: usize = FILE_CHUNK_BYTES + TAG_BYTES;
/// Largest content, in bytes: what the chunk numbers can count (256 TiB).
pub const MAX_FILE_CONTENT_BYTES: u64 = (FILE_CHUNK_BYTES as u64) << 32;

const TAG_BYTES: usize = 16;

/// Why a file could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FileError {
    /// The first bytes are not those of a sealed file.
    #[error("this is not a sealed file of a form that this version reads; update claudemesh, or share the file again")]
    Header,
    /// A chunk was altered, moved or cut off, or belongs to another key.
    #[error("chunk {number} of the file does not open: the file was altered or damaged; fetch it again")]
    Chunk {
        /// Its number, from 0.
        number: u32,
    },
    /// A chunk is longer than chunks are, or follows the last one.
    #[error("a chunk of {length} bytes where {expected} are expected; the file was altered")]
    Length {
        /// Its length in bytes.
        length: usize,
        /// The longest that is expected.
        expected: usize,
    },
    /// The content is larger than [`MAX_FILE_CONTENT_BYTES`].
    #[error("the file is too large to be sealed")]
    TooLarge,
    /// The wrapped key does not open, or is no key.
    #[error("the file's key does not open with any of our keys ({0}); ask its owner to grant access again")]
    Key(SealError),
    /// The statement about the file was not signed by the key that is said to own it.
    #[error("the file's proof does not verify: name, size or key are not what its owner shared; do not trust it")]
    Proof,
}

/// How many chunks hold `content` bytes. An empty file has one, which is empty.
#[must_use]
pub const fn file_chunks(content: u64) -> u64 {
    if content == 0 {
        1
    } else {
        content.div_ceil(FILE_CHUNK_BYTES as u64)
    }
}

/// Length of a sealed file with `content` bytes.
#[must_use]
pub const fn sealed_file_bytes(content: u64) -> u64 {
    FILE_HEADER_BYTES as u64 + content + file_chunks(content) * TAG_BYTES as u64
}

/// Content of a sealed file of `sealed` bytes; `None` if no sealed file has this length.
#[must_use]
pub const fn file_content_bytes(sealed: u64) -> Option<u64> {
    let Some(chunks) = sealed.checked_sub(FILE_HEADER_BYTES as u64) else {
        return None;
    };
    let count = chunks.div_ceil(SEALED_CHUNK_BYTES as u64);
    match chunks.checked_sub(count * TAG_BYTES as u64) {
        Some(content) if count > 0 && sealed_file_bytes(content) == sealed => Some(content),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_lead_both_ways() {
        let chunk = FILE_CHUNK_BYTES as u64;
        for content in [0, 1, 15, 16, 17, chunk - 1, chunk, chunk + 1, 3 * chunk, 1 << 31] {
            assert_eq!(
                file_content_bytes(sealed_file_bytes(content)),
                Some(content),
                "{content}"
            );
        }
        for sealed in [0, 15, 16, 31, FILE_HEADER_BYTES as u64 + SEALED_CHUNK_BYTES as u64 + 16] {
            assert_eq!(file_content_bytes(sealed), None, "{sealed}");
        }
    }
}
