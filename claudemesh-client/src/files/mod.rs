//! Shared files: encrypted here, streamed to and from the broker, which sees names, tags and sizes.
//!
//! * `share`: sealing and uploading; `parts`: a local file as sealed parts; `journal`: what an interrupted upload needs
//! * `fetch`: downloading and opening; `target`: where it is written
//! * `manage`: keys for others, status, removal
//! * `peers`: asking for files of another member's shared directories; `serve`: answering; `directories`: what may be read

mod directories;
mod fetch;
mod journal;
mod manage;
mod parts;
mod peers;
mod progress;
mod serve;
mod share;
mod target;

pub(crate) use serve::{Asked, SharedDirectories, answer};

pub use progress::{Progress, ProgressSink, with_progress};

use crate::ClientError;
use crate::inner::Inner;
use claudemesh_crypto::PublicKey;
use claudemesh_proto::ErrorCode;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the list of members may take to come.
const KEYS_LIMIT: Duration = Duration::from_secs(4);
/// How often it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What went wrong with a local file, and with which.
pub(crate) fn local(path: &Path, field: &str, error: &io::Error) -> ClientError {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => ClientError::invalid(field, format!("there is no file {shown}")),
        io::ErrorKind::PermissionDenied => ClientError::invalid(field, format!("{shown} may not be opened")),
        io::ErrorKind::StorageFull => ClientError::invalid(field, format!("no room is left for {shown}")),
        _ => ClientError::invalid(field, format!("{shown}: {error}")),
    }
}

/// Whether the owner of the mesh has signed that this key is a member; `None` if there is no signed list. Who has just joined
/// is on it in a moment: that is waited for.
pub(crate) async fn is_proven_member(inner: &Inner, key: &PublicKey) -> Option<bool> {
    if *key == inner.identity.public() {
        return Some(true);
    }
    if inner.secure.group_members().is_empty() && inner.protocol() >= 2 {
        // A command that just connected asks at once.
        inner.wait_keyed(KEYS_LIMIT).await;
    }
    let started = Instant::now();
    loop {
        let members = inner.secure.group_members();
        if members.is_empty() {
            return None;
        }
        if members.contains(key) {
            return Some(true);
        }
        if started.elapsed() > KEYS_LIMIT {
            return Some(false);
        }
        if let Err(error) = inner.secure.catch_up(inner).await {
            tracing::debug!(%error, "the list of members was not brought up to date");
        }
        if !inner.secure.group_members().contains(key) {
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// A task of the runtime's pool for blocking work did not end.
pub(crate) fn interrupted(_: tokio::task::JoinError) -> ClientError {
    ClientError::refused(ErrorCode::Internal, "the work on the file was interrupted; try again")
}
