//! Whether the database can be read and written now, and how one finds out that it can again.

use super::committer::Recorded;
use super::{Store, StoreError, StoreOptions};
use claudemesh_crypto::random_id;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a read may take before the database counts as away, and how long a probe waits for its write.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much a probe writes: a disk on which less is free is full.
const PROBE_BYTES: usize = 64 * 1024;

/// What is known of the database. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Availability(Arc<watch::Sender<bool>>);

impl Availability {
    /// Of a database that has just been opened.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(true)))
    }

    /// Watches the outcome of every commit. That one succeeded proves nothing: it may have written nothing.
    pub(super) fn watching(&self, mut options: StoreOptions) -> StoreOptions {
        let (known, next) = (self.clone(), options.on_commit.take());
        options.on_commit = Some(Arc::new(move |stats| {
            if !stats.ok {
                known.set(false);
            }
            if let Some(next) = &next {
                next(stats);
            }
        }));
        options
    }

    /// Notes what was found; tells whether it was otherwise before.
    fn set(&self, available: bool) -> bool {
        self.0
            .send_if_modified(|known| std::mem::replace(known, available) != available)
    }
}

impl Store {
    /// Whether the last that was heard of the database is good. After it was lost, only a [`Store::probe`] makes it so.
    #[must_use]
    pub fn is_available(&self) -> bool {
        *self.inner.availability.0.borrow()
    }

    /// Resolves when the database is lost; at once if it is.
    pub async fn lost(&self) {
        // The sender lives as long as the store.
        let _ = self.inner.availability.0.subscribe().wait_for(|up| !up).await;
    }

    /// Whether the database answers reads within five seconds. If not, it counts as lost.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], and why it does not answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let read = sqlx::query("SELECT COUNT(*) FROM mesh WHERE id = ''").fetch_one(self.pool());
        let answer = match timeout(PATIENCE, read).await {
            Ok(answer) => answer.map(|_| ()).map_err(StoreError::from),
            Err(_) => Err(StoreError::Unavailable("it did not answer a read in time".into())),
        };
        if answer.is_err() {
            self.inner.availability.set(false);
        }
        answer
    }

    /// Reads and writes something, and notes whether that worked. A full disk and one that became read-only can be read:
    /// only writing shows it. Tells whether the database was lost before and is there again.
    ///
    /// # Errors
    /// Why it is not available.
    pub async fn probe(&self) -> Result<bool, StoreError> {
        self.ping().await?;
        let written = match timeout(PATIENCE, self.write_something()).await {
            Ok(written) => written,
            // Many wait before it. A database that hangs fails a commit in its own time.
            Err(_) if self.is_available() => return Ok(false),
            Err(_) => Err(StoreError::Unavailable("it did not answer a write in time".into())),
        };
        match written {
            Ok(()) => Ok(self.inner.availability.set(true)),
            // So many wait that nothing was tried.
            Err(StoreError::QueueFull) => Ok(false),
            Err(error) => {
                self.inner.availability.set(false);
                Err(error)
            }
        }
    }

    /// A row that is gone again within its transaction: it reaches the disk all the same.
    async fn write_something(&self) -> Result<(), StoreError> {
        self.transaction(None, |connection| {
            Box::pin(async move {
                let id = random_id();
                sqlx::query(
                    "INSERT INTO pending_status (id, mesh_id, member_id, pid, cwd, session_id, status, created_at) \
                     VALUES ($1, '', '', 0, $2, NULL, 'idle', 0)",
                )
                .bind(id.as_str())
                .bind(" ".repeat(PROBE_BYTES))
                .execute(&mut *connection)
                .await?;
                sqlx::query("DELETE FROM pending_status WHERE id = $1")
                    .bind(id.as_str())
                    .execute(connection)
                    .await?;
                Ok(Recorded::silently(()))
            })
        })
        .await
    }
}
