//! The relational store: SQLite or Postgres behind one set of SQL texts.
//!
//! Reads go to a small pool. Every write goes through the [`Committer`]: one task that puts what is waiting into one
//! transaction, so that a commit's `fsync` is shared by all who wait for it. Whoever is told that a write succeeded may
//! rely on it being on disk.
//!
//! Every function that reads or changes the data of a mesh takes the mesh's id and puts it into the condition.

mod audit;
mod availability;
mod committer;
mod contexts;
mod dialect;
mod direct;
mod error;
mod files;
mod fulltext;
mod group;
mod invites;
mod members;
mod memory;
mod meshes;
mod messages;
mod presence;
mod rows;
mod skill_files;
mod skills;
mod state;
mod streams;
mod tasks;

pub use audit::{AuditEvent, AuditPage, AuditRow, AuditVerdict};
pub use committer::{AnyValue, CommitStats, Committer, Completion, CustomWrite, Outcome, Recorded, Write, WriteKind};
pub use contexts::{ContextRow, NewContext};
pub use error::StoreError;
pub use files::{FileAccessRow, FileGarbage, FileGrant, FileKeyRow, FileQuery, FileRow, UploadLimits};
pub use fulltext::{Found, Query, SearchFilter};
pub use group::{
    AppendGroup, Appended, GroupCursor, GroupEntryRow, GroupHeadRow, KeyRequestRow, SealFilter, StoredGrant,
};
pub use invites::{InviteRow, InviteUse, NewInvite};
pub use members::{MemberPatch, MemberRow, NewMember, PeerGrants, Revoked};
pub use memory::{MemoryRow, NewMemory};
pub use meshes::{LoadedMesh, MeshRow, NewMesh, SecretText};
pub use messages::{
    DeliveryPlace, DeliveryRow, EndedDelivery, MessageOutcome, MessageRow, NewMessage, PENDING_SQL, Recipient,
    RecipientRow, StageChange, StageOutcome, StoredMessage,
};
pub use presence::{PeerStateRow, PendingStatus};
pub use skill_files::{SkillFileContent, SkillUpload};
pub use skills::{NewSkill, SkillRow, SkillSelection};
pub use state::{StateRow, StateWrite};
pub use streams::StreamRow;
pub use tasks::{NewTask, TaskRow, TaskSelection};

use availability::Availability;
use committer::CommitterTask;
use dialect::{Dialect, Engine};
use fulltext::FullText;
use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Called after every commit, on the committer's task: must be quick.
pub type CommitObserver = Arc<dyn Fn(&CommitStats) + Send + Sync>;

/// Settings of a [`Store`].
#[derive(Clone)]
pub struct StoreOptions {
    /// Most writes that may wait.
    pub queue_writes: usize,
    /// Most bytes that waiting writes may hold.
    pub queue_bytes: usize,
    /// Most rows in one transaction.
    pub batch_rows: usize,
    /// Most bytes in one transaction.
    pub batch_bytes: usize,
    /// How long one transaction may take before its connection is given up.
    pub commit_timeout: Duration,
    /// Told of every commit.
    pub on_commit: Option<CommitObserver>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            queue_writes: 8192,
            queue_bytes: 256 * 1024 * 1024,
            batch_rows: 4096,
            batch_bytes: 16 * 1024 * 1024,
            commit_timeout: Duration::from_secs(30),
            on_commit: None,
        }
    }
}

/// A broker's database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pool: AnyPool,
    fulltext: FullText,
    committer: Committer,
    availability: Availability,
    task: Mutex<Option<CommitterTask>>,
    lock: Arc<Mutex<Option<File>>>,
}

impl Store {
    /// Opens the database, brings its tables up to date and keeps other brokers out. `url` is `sqlite:<path>`, a plain
    /// path or `postgres://…`.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another broker uses it, [`StoreError::Migration`] if its tables are not ours.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, StoreOptions::default()).await
    }

    /// [`Store::open`] with settings.
    ///
    /// # Errors
    /// The same.
    pub async fn open_with(url: &str, options: StoreOptions) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::parse(url)?;
        let lock = Arc::new(Mutex::new(dialect.lock_file()?));
        let mut writer = dialect.connect_writer().await?;
        dialect.migrate(&mut writer).await?;
        let sqlite = matches!(dialect.engine, Engine::Sqlite { .. });
        let pool = AnyPoolOptions::new()
            .max_connections(dialect.read_connections())
            .acquire_timeout(Duration::from_secs(5))
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if sqlite {
                        dialect::sqlite_settings(connection).await?;
                        sqlx::query("PRAGMA query_only = ON").fetch_all(connection).await?;
                    }
                    Ok(())
                })
            })
            .connect_lazy_with(dialect.options.clone());
        let availability = Availability::new();
        let options = availability.watching(options);
        let (committer, task) = committer::start(dialect, writer, options, Arc::clone(&lock)).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                fulltext: if sqlite { FullText::Sqlite } else { FullText::Postgres },
                committer,
                availability,
                task: Mutex::new(Some(task)),
                lock,
            }),
        })
    }

    /// Where writes go.
    #[must_use]
    pub fn committer(&self) -> &Committer {
        &self.inner.committer
    }

    /// Writes what is waiting, closes every connection and lets the next broker in. Later calls fail.
    pub async fn close(&self) {
        self.inner.committer.close();
        let task = self.inner.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.ended().await;
        }
        self.inner.pool.close().await;
        self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn pool(&self) -> &AnyPool {
        &self.inner.pool
    }

    fn fulltext(&self) -> FullText {
        self.inner.fulltext
    }
}
