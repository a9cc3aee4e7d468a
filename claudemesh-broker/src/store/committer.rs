//! Group commit: one task that shares each transaction, and each `fsync`, among all writes that are waiting.

use super::audit::{self, AuditEvent, AuditHeads};
use super::dialect::{Dialect, Engine};
use super::direct::{self, DirectWriter, Done};
use super::messages::{self, MessageOutcome, NewMessage, Numbering, StageChange, StageOutcome};
use super::{Store, StoreError, StoreOptions};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::{AnyConnection, Connection as _};
use std::any::Any;
use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How long opening a new connection may take after the old one broke.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Batches whose completions have not run yet. The committer waits when there are more.
const DISPATCH_QUEUE: usize = 16;
/// Completions that are run without the dispatcher.
const FEW: usize = 4;
/// How long marks that nothing else came with wait for something to share their commit. Nobody waits for them.
const LINGER: Duration = Duration::from_millis(1);

/// Something to be written, and what to put on record about it if it is.
pub struct Write {
    /// What to write.
    pub kind: WriteKind,
    /// Audit events, in the same transaction. A message that repeats an earlier one is not put on record again.
    pub audit: Vec<AuditEvent>,
}

impl Write {
    /// A write without audit events.
    #[must_use]
    pub fn new(kind: WriteKind) -> Self {
        Self {
            kind,
            audit: Vec::new(),
        }
    }
}

/// Kinds of writes.
pub enum WriteKind {
    /// A message and its deliveries.
    Message(NewMessage),
    /// Steps of deliveries. Shared: whoever waits for the outcome has to know what it was about.
    Stages(Arc<[StageChange]>),
    /// Anything else.
    Custom(CustomWrite),
}

/// Statements of one write, run in a savepoint of the shared transaction: if they fail, they alone are undone.
pub type CustomWrite =
    Box<dyn for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<Recorded<AnyValue>, StoreError>> + Send>;

/// Result of a [`CustomWrite`], of whatever type.
pub type AnyValue = Box<dyn Any + Send>;

/// Result of a write, and whether its audit events are to be put on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded<T> {
    /// The result.
    pub value: T,
    /// Whether something happened that is put on record.
    pub audit: bool,
}

impl<T> Recorded<T> {
    /// A result whose audit events are put on record.
    pub fn audited(value: T) -> Self {
        Self { value, audit: true }
    }

    /// A result of a write that changed nothing worth a record.
    pub fn silently(value: T) -> Self {
        Self { value, audit: false }
    }
}

/// What became of a [`Write`].
pub enum Outcome {
    /// Of a message.
    Message(MessageOutcome),
    /// Of delivery steps, in their order.
    Stages(Vec<StageOutcome>),
    /// Of a custom write.
    Custom(AnyValue),
}

/// Told of the outcome, once it is on disk. Completions run one after the other in submit order, so they must be quick.
pub type Completion = Box<dyn FnOnce(Result<Outcome, StoreError>) + Send>;

/// Facts about one transaction.
#[derive(Clone, Copy, Debug)]
pub struct CommitStats {
    /// Writes in it.
    pub writes: usize,
    /// Rows in it, about.
    pub rows: usize,
    /// How long its oldest write had waited.
    pub waited: Duration,
    /// How long its statements took.
    pub statements: Duration,
    /// How long the commit took.
    pub commit: Duration,
    /// Whether it was committed.
    pub ok: bool,
}

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
    mut connection: AnyConnection,
    options: StoreOptions,
    lock: Arc<Mutex<Option<File>>>,
) -> Result<(Committer, CommitterTask), StoreError> {
    let numbering = Numbering::load(&mut connection).await?;
    let (sender, queue) = mpsc::channel(options.queue_writes.max(1));
    let shared = Arc::new(Shared {
        queue: Mutex::new(Some(sender)),
        waiting: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        most_bytes: options.queue_bytes,
    });
    let (sender_of_batches, batches) = mpsc::channel(DISPATCH_QUEUE);
    let dispatch = Dispatch {
        batches: sender_of_batches,
        waiting: Arc::new(AtomicUsize::new(0)),
    };
    let waiting = dispatch.waiting.clone();
    let direct = open_direct(&dialect)?;
    let writer = Writer {
        dialect,
        connection: Some(connection),
        direct,
        under_way: None,
        numbering,
        heads: AuditHeads::new(),
    };
    let task = CommitterTask {
        // The committer must not keep the queue open, or it would never end when the last store is dropped.
        handle: tokio::spawn(run(writer, queue, dispatch, options, Arc::downgrade(&shared), lock)),
        dispatcher: tokio::spawn(dispatch_completions(batches, waiting)),
    };
    Ok((Committer { shared }, task))
}

type Finished = (Completion, Result<Outcome, StoreError>);

/// The completions of a batch, for whoever is first to have its outcomes or to give up on them.
pub(super) type Completions = Arc<Mutex<Vec<Completion>>>;

/// Takes them; empty if somebody else has.
fn take_completions(completions: &Completions) -> Vec<Completion> {
    std::mem::take(&mut *completions.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Takes the completions of a batch that is on disk, each with its outcome.
fn with_outcomes(completions: &Completions, batch: &mut Batch) -> Vec<Finished> {
    let outcomes = std::mem::take(&mut batch.outcomes).into_iter();
    take_completions(completions)
        .into_iter()
        .zip(outcomes.chain(std::iter::repeat_with(|| None)))
        .map(|(done, outcome)| {
            let missing = || Err(StoreError::Database("a write had no outcome".into()));
            (done, outcome.unwrap_or_else(missing))
        })
        .collect()
}

/// Runs the completions of a batch that is on disk.
pub(super) fn finish(completions: &Completions, batch: &mut Batch) {
    complete(with_outcomes(completions, batch));
}

/// Completions beside the next commit. A few are run at once where nothing is before them: handing them to another task
/// takes longer.
struct Dispatch {
    batches: mpsc::Sender<Vec<Finished>>,
    waiting: Arc<AtomicUsize>,
}

impl Dispatch {
    /// Whether so few completions may be run by whoever has the outcomes.
    fn may_be_skipped(&self, completions: usize) -> bool {
        completions <= FEW && self.waiting.load(Ordering::Acquire) == 0
    }

    /// Waits until everything before is told of.
    async fn settled(&self) {
        while self.waiting.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(LINGER).await;
        }
    }

    /// `false`: the task has ended.
    async fn run(&self, batch: Vec<Finished>) -> bool {
        if self.may_be_skipped(batch.len()) {
            complete(batch);
            return true;
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.batches.send(batch).await.is_ok()
    }
}

async fn dispatch_completions(mut batches: mpsc::Receiver<Vec<Finished>>, waiting: Arc<AtomicUsize>) {
    while let Some(batch) = batches.recv().await {
        complete(batch);
        waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

fn complete(batch: Vec<Finished>) {
    for (done, outcome) in batch {
        if std::panic::catch_unwind(AssertUnwindSafe(move || done(outcome))).is_err() {
            tracing::error!("a completion of the store panicked");
        }
    }
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
        let (mut rows, mut bytes) = (first.rows, first.bytes);
        let submitted = first.submitted;
        let mut only_marks = first.is_mark();
        let mut batch = vec![first];
        // Whatever came in during the last commit is shared by the next.
        loop {
            let job = match queue.try_recv() {
                Ok(job) => job,
                // Where somebody waits, nobody waits for more to come.
                Err(_) if !only_marks || batch.len() > FEW => break,
                Err(_) => match tokio::time::timeout(LINGER.saturating_sub(submitted.elapsed()), queue.recv()).await {
                    Ok(Some(job)) => job,
                    Ok(None) | Err(_) => break,
                },
            };
            if rows + job.rows > options.batch_rows || bytes + job.bytes > options.batch_bytes {
                next = Some(job);
                break;
            }
            rows += job.rows;
            bytes += job.bytes;
            only_marks &= job.is_mark();
            batch.push(job);
        }
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
    if let Some(direct) = writer.direct.take() {
        direct.close().await;
    }
    if let Some(connection) = writer.connection.take() {
        // The data is on disk; a failing goodbye changes nothing.
        let _ = connection.close().await;
    }
}

/// The short way for messages and marks, where there is one.
fn open_direct(dialect: &Dialect) -> Result<Option<DirectWriter>, StoreError> {
    match &dialect.engine {
        Engine::Sqlite { path } => DirectWriter::open(path).map(Some),
        Engine::Postgres => Ok(None),
    }
}

struct Writer {
    dialect: Dialect,
    connection: Option<AnyConnection>,
    direct: Option<DirectWriter>,
    /// A batch on the short way that did not answer in time. Nothing else is written before it has ended.
    under_way: Option<oneshot::Receiver<Done>>,
    numbering: Numbering,
    heads: AuditHeads,
}

/// The parts of a batch, by place.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) writes: Vec<Option<WriteKind>>,
    pub(super) audit: Vec<Vec<AuditEvent>>,
    pub(super) outcomes: Vec<Option<Result<Outcome, StoreError>>>,
}

impl Batch {
    /// What is put on record.
    pub(super) fn events(&self) -> Vec<&AuditEvent> {
        let happened = |outcome: &Option<Result<Outcome, StoreError>>| match outcome {
            Some(Ok(Outcome::Message(outcome))) => !outcome.duplicate,
            Some(Ok(_)) => true,
            Some(Err(_)) | None => false,
        };
        let writes = self.audit.iter().zip(&self.outcomes);
        writes
            .filter(|(_, outcome)| happened(outcome))
            .flat_map(|(audit, _)| audit)
            .collect()
    }
}

impl Writer {
    /// Commits a batch, and gives each completion its outcome. If they `may_complete`, completions may have run already.
    async fn commit(
        &mut self,
        jobs: Vec<Job>,
        may_complete: bool,
        timeout: Duration,
    ) -> (Vec<Finished>, Duration, bool) {
        let writes = jobs.len();
        let mut completions = Vec::with_capacity(writes);
        let mut batch = Batch {
            writes: Vec::with_capacity(jobs.len()),
            audit: Vec::with_capacity(jobs.len()),
            outcomes: Vec::with_capacity(jobs.len()),
        };
        for job in jobs {
            completions.push(job.done);
            batch.writes.push(Some(job.write.kind));
            batch.audit.push(job.write.audit);
            batch.outcomes.push(None);
        }
        let completions = Arc::new(Mutex::new(completions));
        let early = may_complete.then(|| completions.clone());
        let result = match self.connected().await {
            Ok(()) => match self.directly(&mut batch, early, timeout).await {
                Some(result) => result,
                None => match tokio::time::timeout(timeout, self.transaction(&mut batch)).await {
                    Ok(result) => result,
                    Err(_) => Err(StoreError::Unavailable("it did not answer in time".into())),
                },
            },
            Err(error) => Err(error),
        };
        let (commit, failed) = match result {
            Ok(commit) => (commit, None),
            Err(error) => {
                tracing::warn!(%error, writes, "a transaction failed");
                // Whatever state the connection is in, it is not used again.
                self.connection = None;
                (Duration::ZERO, Some(error))
            }
        };
        let ok = failed.is_none();
        let finished = match failed {
            Some(error) => {
                let told = take_completions(&completions).into_iter();
                told.map(|done| (done, Err(error.clone()))).collect()
            }
            None => with_outcomes(&completions, &mut batch),
        };
        (finished, commit, ok)
    }

    /// Opens a new connection if the last one broke. Another broker may have written meanwhile: what is known of the
    /// database is read again.
    async fn connected(&mut self) -> Result<(), StoreError> {
        if self.connection.is_some() {
            return Ok(());
        }
        let under_way = &mut self.under_way;
        let dialect = &self.dialect;
        let open = async {
            if let Some(done) = under_way {
                // Whatever came of it is in the database.
                let _ = done.await;
                *under_way = None;
            }
            let mut connection = dialect.connect_writer().await?;
            let numbering = Numbering::load(&mut connection).await?;
            Ok((connection, numbering))
        };
        let opened = tokio::time::timeout(RECONNECT_TIMEOUT, open).await;
        let (connection, numbering) = match opened {
            Ok(Ok(opened)) => opened,
            // Its broken session may hold the lock for a while.
            Ok(Err(StoreError::Locked(text))) => return Err(StoreError::Unavailable(text)),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(StoreError::Unavailable("no connection in time".into())),
        };
        self.heads.clear();
        self.numbering = Numbering {
            next_seq: numbering.next_seq.max(self.numbering.next_seq),
            ..numbering
        };
        // A disk that was full or away may have left the other connection in any state too.
        self.direct = open_direct(&self.dialect)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Runs the batch on the short way, if there is one and it takes it. `None`: the long way has to be taken.
    async fn directly(
        &mut self,
        batch: &mut Batch,
        early: Option<Completions>,
        timeout: Duration,
    ) -> Option<Result<Duration, StoreError>> {
        let direct = self.direct.as_ref()?;
        if !direct::takes(batch, &self.numbering) {
            return None;
        }
        let heads = std::mem::take(&mut self.heads);
        let sent = direct.commit(std::mem::take(batch), self.numbering, heads, early);
        let done = match sent {
            Ok(mut answer) => match tokio::time::timeout(timeout, &mut answer).await {
                Ok(Ok(done)) => done,
                Ok(Err(_)) => return Some(Err(StoreError::Unavailable("the writing thread has ended".into()))),
                Err(_) => {
                    self.under_way = Some(answer);
                    return Some(Err(StoreError::Unavailable("it did not answer in time".into())));
                }
            },
            Err(back) => *back,
        };
        *batch = done.batch;
        self.numbering = done.numbering;
        self.heads = done.heads;
        match done.commit {
            Err(error) if !error.is_retryable() => {
                // One write is guilty: the long way finds out which.
                tracing::debug!(%error, "a batch is written one by one");
                batch.outcomes.iter_mut().for_each(|outcome| *outcome = None);
                None
            }
            result => Some(result),
        }
    }

    /// Runs the batch in one transaction and gives the time of its commit. An error is the whole batch's.
    async fn transaction(&mut self, batch: &mut Batch) -> Result<Duration, StoreError> {
        let Self {
            connection,
            numbering,
            heads,
            ..
        } = self;
        let Some(connection) = connection else {
            return Err(StoreError::Closed);
        };
        let is_custom = |write: &Option<WriteKind>| matches!(write, Some(WriteKind::Custom(_)));
        if !batch.writes.iter().any(is_custom) {
            // In the hope that nothing fails: savepoints copy every page that changes.
            let mut transaction = connection.begin().await?;
            match all_together(&mut transaction, numbering, heads, batch).await {
                Ok(new_heads) => {
                    let started = Instant::now();
                    transaction.commit().await?;
                    audit::keep(heads, new_heads);
                    return Ok(started.elapsed());
                }
                Err(error) if error.is_retryable() => return Err(error),
                // Again, one by one where it has to be: these writes can be repeated.
                Err(_) => transaction.rollback().await?,
            }
            batch.outcomes.iter_mut().for_each(|outcome| *outcome = None);
        }
        let mut transaction = connection.begin().await?;
        let mut place = 0;
        while place < batch.writes.len() {
            if matches!(batch.writes[place], Some(WriteKind::Custom(_))) {
                run_custom(&mut transaction, batch, place).await?;
                place += 1;
                continue;
            }
            let end = (place..batch.writes.len())
                .find(|place| matches!(batch.writes[*place], Some(WriteKind::Custom(_))))
                .unwrap_or(batch.writes.len());
            run_bulk(&mut transaction, numbering, batch, place, end).await?;
            place = end;
        }
        let new_heads = audit::append(&mut transaction, heads, &batch.events()).await?;
        let started = Instant::now();
        transaction.commit().await?;
        audit::keep(heads, new_heads);
        Ok(started.elapsed())
    }
}

/// Runs a batch of messages and stages. After an error nothing of the transaction may be kept.
async fn all_together(
    connection: &mut AnyConnection,
    numbering: &mut Numbering,
    heads: &AuditHeads,
    batch: &mut Batch,
) -> Result<AuditHeads, StoreError> {
    let end = batch.writes.len();
    run_together(connection, numbering, batch, 0, end, true).await?;
    audit::append(connection, heads, &batch.events()).await
}

async fn run_custom(connection: &mut AnyConnection, batch: &mut Batch, place: usize) -> Result<(), StoreError> {
    let Some(WriteKind::Custom(custom)) = batch.writes[place].take() else {
        return Ok(());
    };
    let mut savepoint = connection.begin().await?;
    let result = AssertUnwindSafe(async { custom(&mut savepoint).await })
        .catch_unwind()
        .await;
    batch.outcomes[place] = Some(match result {
        Ok(Ok(recorded)) => {
            savepoint.commit().await?;
            if !recorded.audit {
                batch.audit[place].clear();
            }
            Ok(Outcome::Custom(recorded.value))
        }
        Ok(Err(error)) => {
            savepoint.rollback().await?;
            Err(error)
        }
        Err(_) => {
            savepoint.rollback().await?;
            Err(StoreError::Database("a write panicked".into()))
        }
    });
    Ok(())
}

/// Runs messages and stages together; if a statement fails, one by one, to find the guilty one.
async fn run_bulk(
    connection: &mut AnyConnection,
    numbering: &mut Numbering,
    batch: &mut Batch,
    start: usize,
    end: usize,
) -> Result<(), StoreError> {
    let mut savepoint = connection.begin().await?;
    match run_together(&mut savepoint, numbering, batch, start, end, false).await {
        Ok(()) => savepoint.commit().await?,
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => {
            savepoint.rollback().await?;
            if end - start == 1 {
                batch.outcomes[start] = Some(Err(error));
                return Ok(());
            }
            for place in start..end {
                let mut savepoint = connection.begin().await?;
                match run_together(&mut savepoint, numbering, batch, place, place + 1, false).await {
                    Ok(()) => savepoint.commit().await?,
                    Err(error) if error.is_retryable() => return Err(error),
                    Err(error) => {
                        savepoint.rollback().await?;
                        batch.outcomes[place] = Some(Err(error));
                    }
                }
            }
        }
    }
    Ok(())
}

async fn run_together(
    connection: &mut AnyConnection,
    numbering: &mut Numbering,
    batch: &mut Batch,
    start: usize,
    end: usize,
    in_the_hope: bool,
) -> Result<(), StoreError> {
    let mut new = Vec::new();
    let mut new_places = Vec::new();
    let mut changes = Vec::new();
    let mut change_places = Vec::new();
    for place in start..end {
        match &batch.writes[place] {
            Some(WriteKind::Message(message)) => {
                new.push(message);
                new_places.push(place);
            }
            Some(WriteKind::Stages(stages)) => {
                changes.extend(stages.iter());
                change_places.push((place, stages.len()));
            }
            Some(WriteKind::Custom(_)) | None => {}
        }
    }
    // Messages first: no step can be of a message that is not stored.
    if !new.is_empty() {
        let outcomes = messages::insert_messages(connection, numbering, &new).await?;
        for (place, outcome) in new_places.into_iter().zip(outcomes) {
            batch.outcomes[place] = Some(outcome.map(Outcome::Message));
        }
    }
    if !change_places.is_empty() {
        let outcomes = if in_the_hope {
            messages::apply_stages_in_the_hope(connection, &changes).await?
        } else {
            messages::apply_stages(connection, &changes).await?
        };
        let mut outcomes = outcomes.into_iter();
        for (place, len) in change_places {
            batch.outcomes[place] = Some(Ok(Outcome::Stages(outcomes.by_ref().take(len).collect())));
        }
    }
    Ok(())
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
