//! Blobs as files: `<directory>/<mesh>/<blob>`, with `.part` at the end until they are whole.

use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claudemesh_proto::model::MeshId;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, BufWriter};
use tokio_util::io::ReaderStream;

use super::{BlobError, BlobPlace, BlobStore, Bytestream, Part, PartSizes, plain};

/// Bytes that are collected before they are written, and read at once.
const BUFFER: usize = 256 * 1024;
/// One part is one request: small enough to be sent again, large enough that requests do not matter.
const MAX_PART: u64 = 8 * 1024 * 1024;

/// Blobs in a directory of this machine.
#[derive(Debug)]
pub struct DirectoryBlobs {
    root: PathBuf,
}

impl DirectoryBlobs {
    /// Keeps blobs below this directory, which is made when it is needed.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn whole(&self, place: &BlobPlace) -> Result<PathBuf, BlobError> {
        Ok(self.directory(&place.mesh)?.join(plain(&place.blob)?))
    }

    fn part(&self, place: &BlobPlace) -> Result<PathBuf, BlobError> {
        let mut path = self.whole(place)?.into_os_string();
        path.push(".part");
        Ok(path.into())
    }

    fn directory(&self, mesh: &MeshId) -> Result<PathBuf, BlobError> {
        Ok(self.root.join(plain(mesh.as_str())?))
    }

    async fn make_directory(&self, mesh: &MeshId) -> Result<(), BlobError> {
        let directory = self.directory(mesh)?;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        builder.mode(0o700);
        builder.create(&directory).await?;
        sync_directory(&self.root).await?;
        Ok(())
    }

    async fn write_part(&self, place: &BlobPlace, part: Part, mut bytes: Bytestream) -> Result<(), BlobError> {
        let mut options = OpenOptions::new();
        options.write(true);
        #[cfg(unix)]
        options.mode(0o600);
        let mut file = options.open(self.part(place)?).await?;
        file.seek(SeekFrom::Start(part.offset)).await?;
        let mut file = BufWriter::with_capacity(BUFFER, file);
        let mut left = part.length;
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(BlobError::Incomplete)?;
            let Some(rest) = left.checked_sub(chunk.len() as u64) else {
                return Err(BlobError::Incomplete(io::Error::other(
                    "more bytes came than were announced",
                )));
            };
            left = rest;
            file.write_all(&chunk).await?;
        }
        if left > 0 {
            return Err(BlobError::Incomplete(io::ErrorKind::UnexpectedEof.into()));
        }
        file.flush().await?;
        file.get_ref().sync_data().await?;
        Ok(())
    }

    async fn finish_blob(&self, place: &BlobPlace, size: u64) -> Result<(), BlobError> {
        let (part, whole) = (self.part(place)?, self.whole(place)?);
        let file = match OpenOptions::new().write(true).open(&part).await {
            Ok(file) => file,
            // It was finished before, and the answer was lost.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return check_length(&whole, size).await,
            Err(error) => return Err(error.into()),
        };
        // What a failed last part left behind.
        if file.metadata().await?.len() > size {
            file.set_len(size).await?;
        }
        check_length(&part, size).await?;
        file.sync_all().await?;
        drop(file);
        fs::rename(&part, &whole).await?;
        sync_directory(&self.directory(&place.mesh)?).await?;
        Ok(())
    }
}

impl BlobStore for DirectoryBlobs {
    fn part_sizes(&self) -> PartSizes {
        PartSizes { min: 1, max: MAX_PART }
    }

    fn begin<'a>(&'a self, place: &'a BlobPlace) -> BoxFuture<'a, Result<String, BlobError>> {
        async move {
            self.make_directory(&place.mesh).await?;
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            options.mode(0o600);
            options.open(self.part(place)?).await?;
            sync_directory(&self.directory(&place.mesh)?).await?;
            Ok("part".to_owned())
        }
        .boxed()
    }

    fn write<'a>(
        &'a self,
        place: &'a BlobPlace,
        _: &'a str,
        part: Part,
        bytes: Bytestream,
    ) -> BoxFuture<'a, Result<(), BlobError>> {
        self.write_part(place, part, bytes).boxed()
    }

    fn finish<'a>(&'a self, place: &'a BlobPlace, _: &'a str, size: u64) -> BoxFuture<'a, Result<(), BlobError>> {
        self.finish_blob(place, size).boxed()
    }

    fn read<'a>(&'a self, place: &'a BlobPlace, range: Range<u64>) -> BoxFuture<'a, Result<Bytestream, BlobError>> {
        async move {
            let mut file = File::open(self.whole(place)?).await?;
            file.seek(SeekFrom::Start(range.start)).await?;
            let length = range.end.saturating_sub(range.start);
            Ok(ReaderStream::with_capacity(file.take(length), BUFFER).boxed())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, place: &'a BlobPlace, _: Option<&'a str>) -> BoxFuture<'a, Result<(), BlobError>> {
        async move {
            for path in [self.part(place)?, self.whole(place)?] {
                match fs::remove_file(&path).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn signed_url(&self, _: &BlobPlace, _: Duration) -> Option<String> {
        None
    }
}

async fn check_length(path: &Path, expected: u64) -> Result<(), BlobError> {
    let found = fs::metadata(path).await?.len();
    if found == expected {
        Ok(())
    } else {
        Err(BlobError::Length { found, expected })
    }
}

/// Names of files are on disk when their directory is.
async fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(path).await?.sync_all().await?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
