//! Group commit: one task that shares each transaction, and each `fsync`, among all writes that are waiting.

mod completions;
mod write;
mod writer;

use self::completions::{Dispatch, complete};
use self::writer::Writer;
use super::audit::AuditEvent;
use super::dialect::Dialect;
use super::{Store, StoreError, StoreOptions};
use futures_util::future::BoxFuture;
use sqlx::AnyConnection;
use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub(super) use self::completions::{Completions, finish};
pub use self::write::{AnyValue, CommitStats, Completion, CustomWrite, Outcome, Recorded, Write, WriteKind};
pub(super) use self::writer::Batch;

/// Completions that are run without the dispatcher.
const FEW: usize = 4;
/// How long marks that nothing else came with wait for something to share their commit. Nobody waits for them.
const LINGER: Duration = Duration::from_millis(1);

/// A write that waits for its turn.
struct Job {
    write: Write,
    done: Completion,
    rows: usize,
    bytes: usize,
    submitted: Instant,
}

impl Job {
    /// Whether it only marks deliveries.
    fn is_mark(&self) -> bool {
        matches!(&self.write.kind, WriteKind::Stages(changes) if !changes.is_empty())
    }
}

/// Handle to the task that writes. Cheap to clone.
#[derive(Clone)]
pub struct Committer {
    shared: Arc<Shared>,
}

struct Shared {
    /// Taken out when the store is closed, so that the task ends after what is in the queue.
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    waiting: AtomicUsize,
    bytes: AtomicUsize,
    most_bytes: usize,
}

impl Committer {
    /// Puts a write into the queue and returns at once. Writes take effect in submit order.
    ///
    /// # Errors
    /// [`StoreError::QueueFull`] or [`StoreError::Closed`]; `done` is not called then.
    pub fn submit(&self, write: Write, done: Completion) -> Result<(), StoreError> {
        let (rows, bytes) = match &write.kind {
            WriteKind::Message(message) => (message.rows(), message.bytes()),
            WriteKind::Stages(changes) => (changes.len(), 256 * changes.len()),
            WriteKind::Custom(_) => (1, 256),
        };
        let queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else {
            return Err(StoreError::Closed);
        };
        let held = self.shared.bytes.load(Ordering::Relaxed);
        if held > 0 && held + bytes > self.shared.most_bytes {
            return Err(StoreError::QueueFull);
        }
        let rows = rows + write.audit.len();
        let job = Job {
            write,
            done,
            rows,
            bytes,
            submitted: Instant::now(),
        };
        // Counted before it can be taken out and discounted.
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let error = match queue.try_send(job) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => StoreError::QueueFull,
            Err(mpsc::error::TrySendError::Closed(_)) => StoreError::Closed,
        };
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        Err(error)
    }

    /// Submits a write and waits for its outcome.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn write(&self, write: Write) -> Result<Outcome, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.submit(
            write,
            Box::new(move |outcome| {
                // Nobody waits any more: the write stands all the same.
                let _ = sender.send(outcome);
            }),
        )?;
        receiver.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Number of writes that are not committed yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The running tasks.
pub(super) struct CommitterTask {
    handle: JoinHandle<()>,
    dispatcher: JoinHandle<()>,
}

impl CommitterTask {
    pub(super) async fn ended(self) {
        // An error here is a panic, which the runtime has reported.
        let _ = self.handle.await;
        let _ = self.dispatcher.await;
    }
}

/// Starts the tasks. `lock` keeps other brokers out as long as the task may write.
pub(super) async fn start(
    dialect: Dialect,
    connection: AnyConnection,
    options: StoreOptions,
    lock: Arc<Mutex<Option<File>>>,
) -> Result<(Committer, CommitterTask), StoreError> {
    let writer = Writer::new(dialect, connection).await?;
    let (sender, queue) = mpsc::channel(options.queue_writes.max(1));
    let shared = Arc::new(Shared {
        queue: Mutex::new(Some(sender)),
        waiting: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        most_bytes: options.queue_bytes,
    });
    let (dispatch, dispatcher) = Dispatch::start();
    let task = CommitterTask {
        // The committer must not keep the queue open, or it would never end when the last store is dropped.
        handle: tokio::spawn(run(writer, queue, dispatch, options, Arc::downgrade(&shared), lock)),
        dispatcher,
    };
    Ok((Committer { shared }, task))
}

async fn run(
    mut writer: Writer,
    mut queue: mpsc::Receiver<Job>,
    dispatch: Dispatch,
    options: StoreOptions,
    shared: std::sync::Weak<Shared>,
    _lock: Arc<Mutex<Option<File>>>,
) {
    let mut next: Option<Job> = None;
    loop {
        let first = match next.take() {
            Some(job) => job,
            None => match queue.recv().await {
                Some(job) => job,
                None => break,
            },
        };
        let submitted = first.submitted;
        let (batch, rest) = gather(first, &mut queue, &options).await;
        next = rest;
        let rows = batch.iter().map(|job| job.rows).sum();
        let bytes = batch.iter().map(|job| job.bytes).sum::<usize>();
        let writes = batch.len();
        let waited = submitted.elapsed();
        let started = Instant::now();
        let (finished, commit, ok) = writer
            .commit(batch, dispatch.may_be_skipped(writes), options.commit_timeout)
            .await;
        if let Some(shared) = shared.upgrade() {
            shared.waiting.fetch_sub(writes, Ordering::Relaxed);
            shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        if let Some(observe) = &options.on_commit {
            let statements = started.elapsed().saturating_sub(commit);
            observe(&CommitStats {
                writes,
                rows,
                waited,
                statements,
                commit,
                ok,
            });
        }
        if ok {
            if !dispatch.run(finished).await {
                tracing::error!("the store's dispatcher has ended");
                break;
            }
            continue;
        }
        // What was queued behind it fails with it: it may rely on it, or have to come after it. First its own completions,
        // so that who is told puts nothing more into the queue that has to wait.
        let error = finished.iter().find_map(|(_, outcome)| outcome.as_ref().err().cloned());
        dispatch.settled().await;
        complete(finished);
        let error = error.unwrap_or_else(|| StoreError::Unavailable("an earlier write failed".into()));
        while let Some(job) = next.take().or_else(|| queue.try_recv().ok()) {
            if let Some(shared) = shared.upgrade() {
                shared.waiting.fetch_sub(1, Ordering::Relaxed);
                shared.bytes.fetch_sub(job.bytes, Ordering::Relaxed);
            }
            complete(vec![(job.done, Err(error.clone()))]);
        }
    }
    writer.close().await;
}

/// What shares a transaction with this write, and the next one if there was no room for it.
async fn gather(first: Job, queue: &mut mpsc::Receiver<Job>, options: &StoreOptions) -> (Vec<Job>, Option<Job>) {
    let (mut rows, mut bytes) = (first.rows, first.bytes);
    let submitted = first.submitted;
    let mut only_marks = first.is_mark();
    let mut batch = vec![first];
    // Whatever came in during the last commit is shared by the next.
    loop {
        let job = match queue.try_recv() {
            Ok(job) => job,
            // Where somebody waits, nobody waits for more to come.
            Err(_) if !only_marks || batch.len() > FEW => return (batch, None),
            Err(_) => match tokio::time::timeout(LINGER.saturating_sub(submitted.elapsed()), queue.recv()).await {
                Ok(Some(job)) => job,
                Ok(None) | Err(_) => return (batch, None),
            },
        };
        if rows + job.rows > options.batch_rows || bytes + job.bytes > options.batch_bytes {
            return (batch, Some(job));
        }
        rows += job.rows;
        bytes += job.bytes;
        only_marks &= job.is_mark();
        batch.push(job);
    }
}

impl Store {
    /// Runs statements in the committer's transaction, undone alone if they fail. `audit` is put on record if they say so.
    ///
    /// # Errors
    /// What the statements fail with, or why they could not run.
    pub async fn transaction<T, F>(&self, audit: Option<AuditEvent>, statements: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<Recorded<T>, StoreError>> + Send + 'static,
    {
        self.transaction_then(audit, statements, |_| {}).await
    }

    /// [`Store::transaction`]; once it is on disk `then` is called with the result, before anything that is written later
    /// is told of. It must be quick.
    ///
    /// # Errors
    /// Those of [`Store::transaction`].
    pub async fn transaction_then<T, F, D>(
        &self,
        audit: Option<AuditEvent>,
        statements: F,
        then: D,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<Recorded<T>, StoreError>> + Send + 'static,
        D: FnOnce(&T) + Send + 'static,
    {
        let custom: CustomWrite = Box::new(move |connection| {
            Box::pin(async move {
                let Recorded { value, audit } = statements(connection).await?;
                Ok(Recorded {
                    value: Box::new(value) as AnyValue,
                    audit,
                })
            })
        });
        let write = Write {
            kind: WriteKind::Custom(custom),
            audit: audit.into_iter().collect(),
        };
        let (sender, receiver) = oneshot::channel();
        let done = move |outcome: Result<Outcome, StoreError>| {
            let result = outcome.and_then(|outcome| match outcome {
                Outcome::Custom(value) => match value.downcast::<T>() {
                    Ok(value) => Ok(*value),
                    Err(_) => Err(StoreError::Database("a write had a result of another type".into())),
                },
                _ => Err(StoreError::Database("a write had another outcome".into())),
            });
            if let Ok(value) = &result {
                then(value);
            }
            // Nobody waits any more: the write stands all the same.
            let _ = sender.send(result);
        };
        self.committer().submit(write, Box::new(done))?;
        receiver.await.unwrap_or(Err(StoreError::Closed))
    }
}
