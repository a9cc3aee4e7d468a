//! Blobs: the bytes of shared files, sealed by the clients that share them.
//!
//! A blob is written in parts, one after the other, and is whole once it is finished. Which blobs there are is known by the
//! relational store: it lists a blob before its first byte and until it is removed.

mod directory;
#[cfg(feature = "s3")]
mod s3;

use std::fmt;
use std::io;
use std::ops::Range;
use std::time::Duration;

use axum::body::Bytes;
use claudemesh_proto::model::MeshId;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use thiserror::Error;

pub use directory::DirectoryBlobs;
#[cfg(feature = "s3")]
pub use s3::S3Blobs;

/// Where a blob is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobPlace {
    /// The mesh: its blobs are apart from those of other meshes.
    pub mesh: MeshId,
    /// Name of the blob: random letters and digits.
    pub blob: String,
}

/// One part of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it starts, in bytes. Parts come in order.
    pub offset: u64,
    /// Its length, in bytes.
    pub length: u64,
}

/// Sizes of parts that a backend takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSizes {
    /// Smallest part but the last, in bytes.
    pub min: u64,
    /// Largest part, in bytes.
    pub max: u64,
}

/// Bytes as they come or go.
pub type Bytestream = BoxStream<'static, io::Result<Bytes>>;

/// Why a blob could not be written or read.
#[derive(Debug, Error)]
pub enum BlobError {
    /// There is no such blob.
    #[error("the blob does not exist")]
    NotFound,
    /// The part's bytes did not come as announced. Nothing of it was kept.
    #[error("the part did not come whole: {0}")]
    Incomplete(io::Error),
    /// The blob is not as long as it should be.
    #[error("the blob has {found} bytes instead of {expected}")]
    Length {
        /// Its length in bytes.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// The disk is full.
    #[error("no room is left for blobs")]
    Full,
    /// The backend does not answer, or refuses.
    #[error("the blob store failed: {0}")]
    Failed(String),
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// The name of a blob or mesh if it is one: letters, digits, `-` and `_`, so that it stays where it belongs.
fn plain(name: &str) -> Result<&str, BlobError> {
    let is_plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    is_plain
        .then_some(name)
        .ok_or_else(|| BlobError::Failed("a name that is no blob's".to_owned()))
}

/// Keeps blobs. Calls for one blob do not overlap, except reads of one that is whole.
pub trait BlobStore: fmt::Debug + Send + Sync {
    /// Sizes of parts.
    fn part_sizes(&self) -> PartSizes;

    /// Prepares a blob. Gives what the backend calls the upload.
    fn begin<'a>(&'a self, place: &'a BlobPlace) -> BoxFuture<'a, Result<String, BlobError>>;

    /// Writes a part over what may be there from a failed try. It is on disk when this returns. An error in `bytes`, or too
    /// few of them, leaves the blob as it was.
    fn write<'a>(
        &'a self,
        place: &'a BlobPlace,
        upload: &'a str,
        part: Part,
        bytes: Bytestream,
    ) -> BoxFuture<'a, Result<(), BlobError>>;

    /// Makes a blob whole. Doing it again is no error.
    fn finish<'a>(&'a self, place: &'a BlobPlace, upload: &'a str, size: u64) -> BoxFuture<'a, Result<(), BlobError>>;

    /// The bytes of this range of a whole blob.
    fn read<'a>(&'a self, place: &'a BlobPlace, range: Range<u64>) -> BoxFuture<'a, Result<Bytestream, BlobError>>;

    /// Removes a blob and what was uploaded of it. Removing what is not there is no error.
    fn remove<'a>(&'a self, place: &'a BlobPlace, upload: Option<&'a str>) -> BoxFuture<'a, Result<(), BlobError>>;

    /// Address from which anybody may read the blob for this long, if clients can reach the backend themselves.
    fn signed_url(&self, place: &BlobPlace, life: Duration) -> Option<String>;
}
