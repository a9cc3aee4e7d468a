//! Bytes of files, in and out: streamed, never held whole.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

/// Longest silence of the other side in the middle of a transfer.
const SILENCE: Duration = Duration::from_secs(30);

/// Counts the transfers of one connection: such a connection is not ended for its age.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transfers(Arc<AtomicUsize>);

/// A transfer that is under way.
#[derive(Debug)]
pub(crate) struct Transfer(Transfers);

impl Transfers {
    /// Counts one until it is dropped.
    pub(crate) fn begin(&self) -> Transfer {
        self.0.fetch_add(1, Ordering::Relaxed);
        Transfer(self.clone())
    }

    /// Whether one is under way.
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that must have this digest. It ends with an error if it has not, or if nothing comes for a time.
pub(super) fn checked(body: Body, digest: [u8; 32], transfer: Transfer) -> BoxStream<'static, io::Result<Bytes>> {
    let state = (body.into_data_stream(), Some(Sha256::new()), transfer);
    stream::try_unfold(state, move |(mut body, hash, transfer)| async move {
        let Some(mut hash) = hash else { return Ok(None) };
        let next = timeout(SILENCE, body.next()).await;
        match next.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? {
            Some(chunk) => {
                let chunk = chunk.map_err(io::Error::other)?;
                hash.update(&chunk);
                Ok(Some((chunk, (body, Some(hash), transfer))))
            }
            None if hash.finalize()[..] == digest => Ok(None),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the body is not the one that was signed",
            )),
        }
    })
    .boxed()
}

/// Bytes on their way out.
pub(super) fn outgoing(bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static, transfer: Transfer) -> Body {
    Body::from_stream(bytes.inspect_ok(move |_| {
        let _until_the_end = &transfer;
    }))
}
