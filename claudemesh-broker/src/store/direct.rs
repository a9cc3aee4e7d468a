//! The way of messages and marks into SQLite: a thread with a connection of its own, without the driver in between.
//!
//! The driver hands every statement to another thread and back, and copies every parameter twice; for a message alone that
//! took longer than the disk. Here a batch is one exchange. What the driver's connection writes (everything that is not a
//! message or a mark) and what this one writes never overlap: the committer waits for each.

use super::StoreError;
use super::audit::{self, AuditHead, AuditHeads};
use super::committer::{self, Batch, Completions, Outcome, WriteKind};
use super::messages::{MessageOutcome, MessageRow, NewMessage, Numbering, StageChange, StageOutcome};
use super::messages::{kind_number, priority_number, stage_number};
use super::rows::to_json_opt;
use claudemesh_proto::model::{DeliveryStage, KeyHex, MemberId, MeshId, MessageId};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often the log is copied into the database.
const CHECKPOINT: Duration = Duration::from_millis(100);
/// When the log has so many pages after it was copied, writing waits a moment so that it can start anew.
const LONG_LOG: i64 = 8_000;

/// A batch, what the committer knows of the database, and how long the commit took.
pub(super) struct Done {
    pub(super) batch: Batch,
    pub(super) numbering: Numbering,
    pub(super) heads: AuditHeads,
    pub(super) commit: Result<Duration, StoreError>,
}

struct Request {
    batch: Batch,
    numbering: Numbering,
    heads: AuditHeads,
    /// To be run here if it is committed: handing them over takes longer.
    completions: Option<Completions>,
    reply: oneshot::Sender<Done>,
}

/// Handle to the thread; it ends when this is dropped.
pub(super) struct DirectWriter {
    requests: mpsc::Sender<Request>,
    /// Never sent: dropped with the connection.
    ended: oneshot::Receiver<()>,
}

impl DirectWriter {
    /// Opens a connection to a database whose tables are up to date.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = connect(path)?;
        // Of pages that stay in the log for long, many versions are copied at once.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cache_size", -32_000)?;
        let (requests, queue) = mpsc::channel();
        let wrote = Arc::new(AtomicBool::new(false));
        let is_long = Arc::new(AtomicBool::new(false));
        let copier = Copier {
            path: path.to_owned(),
            wrote: Arc::downgrade(&wrote),
            is_long: is_long.clone(),
        };
        let spawn = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let (open, ended) = oneshot::channel();
        let failed = |error: std::io::Error| StoreError::Unavailable(error.kind().to_string());
        let runtime = tokio::runtime::Handle::current();
        spawn("store-writer")
            .spawn(move || {
                // Completions may start tasks.
                let _entered = runtime.enter();
                write(connection, &queue, &wrote, &is_long);
                drop::<oneshot::Sender<()>>(open);
            })
            .map_err(failed)?;
        spawn("store-copier").spawn(move || copier.run()).map_err(failed)?;
        Ok(Self { requests, ended })
    }

    /// Ends the thread and waits until its connection is closed.
    pub(super) async fn close(self) {
        drop(self.requests);
        let _ = self.ended.await;
    }

    /// Hands a batch without custom writes to the thread, which also runs the `completions` if it is committed. Gives it back as an error if the thread has ended.
    pub(super) fn commit(
        &self,
        batch: Batch,
        numbering: Numbering,
        heads: AuditHeads,
        completions: Option<Completions>,
    ) -> Result<oneshot::Receiver<Done>, Box<Done>> {
        let (reply, done) = oneshot::channel();
        let request = Request {
            batch,
            numbering,
            heads,
            completions,
            reply,
        };
        match self.requests.send(request) {
            Ok(()) => Ok(done),
            Err(mpsc::SendError(request)) => Err(Box::new(Done {
                batch: request.batch,
                numbering: request.numbering,
                heads: request.heads,
                commit: Err(StoreError::Unavailable("the writing thread has ended".into())),
            })),
        }
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    for (pragma, value) in [
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("temp_store", "MEMORY"),
    ] {
        connection.pragma_update(None, pragma, value)?;
    }
    Ok(connection)
}

fn write(mut connection: Connection, queue: &mpsc::Receiver<Request>, wrote: &AtomicBool, is_long: &AtomicBool) {
    while let Ok(request) = queue.recv() {
        let Request {
            mut batch,
            mut numbering,
            mut heads,
            completions,
            reply,
        } = request;
        let commit = transaction(&mut connection, &mut batch, &mut numbering, &mut heads);
        if let (Ok(_), Some(completions)) = (&commit, completions) {
            committer::finish(&completions, &mut batch);
        }
        wrote.store(true, Ordering::Relaxed);
        let done = Done {
            batch,
            numbering,
            heads,
            commit,
        };
        // Nobody waits any more: the committer gave up on it, and reads again what is in the database.
        let _ = reply.send(done);
        if is_long.swap(false, Ordering::Relaxed)
            && let Err(error) = checkpoint(&connection)
        {
            tracing::debug!(%error, "the log was not copied");
        }
    }
    // The next start has less to read.
    if let Err(error) = checkpoint(&connection) {
        tracing::debug!(%error, "the log was not copied");
    }
}

/// Copies the log into the database beside the writer: done by the writer, it is a pause of a tenth of a second.
struct Copier {
    path: PathBuf,
    wrote: std::sync::Weak<AtomicBool>,
    is_long: Arc<AtomicBool>,
}

impl Copier {
    fn run(self) {
        let connection = match connect(&self.path) {
            Ok(connection) => connection,
            Err(error) => return tracing::warn!(%error, "the log is copied when the store is closed"),
        };
        loop {
            std::thread::sleep(CHECKPOINT);
            let Some(wrote) = self.wrote.upgrade() else { return };
            if !wrote.swap(false, Ordering::Relaxed) {
                continue;
            }
            match checkpoint(&connection) {
                Ok(pages) => self.is_long.store(pages > LONG_LOG, Ordering::Relaxed),
                Err(error) => tracing::debug!(%error, "the log was not copied"),
            }
        }
    }
}

/// Copies what it can without waiting for anybody, and gives the number of pages in the log.
fn checkpoint(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}

/// Runs a batch. After an error nothing of it is in the database.
fn transaction(
    connection: &mut Connection,
    batch: &mut Batch,
    numbering: &mut Numbering,
    heads: &mut AuditHeads,
) -> Result<Duration, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Messages first: no step can be of a message that is not stored.
    for (write, outcome) in batch.writes.iter().zip(&mut batch.outcomes) {
        if let Some(WriteKind::Message(message)) = write {
            *outcome = Some(insert(&transaction, numbering, message)?.map(Outcome::Message));
        }
    }
    for (write, outcome) in batch.writes.iter().zip(&mut batch.outcomes) {
        if let Some(WriteKind::Stages(changes)) = write {
            let changed: Result<Vec<_>, _> = changes.iter().map(|change| advance(&transaction, change)).collect();
            *outcome = Some(Ok(Outcome::Stages(changed?)));
        }
    }
    let new_heads = record(&transaction, heads, batch)?;
    let started = Instant::now();
    transaction.commit()?;
    audit::keep(heads, new_heads);
    Ok(started.elapsed())
}

type Checked<T> = Result<Result<T, StoreError>, StoreError>;

fn insert(connection: &Connection, numbering: &mut Numbering, new: &NewMessage) -> Checked<MessageOutcome> {
    let seq = numbering.next_seq;
    numbering.next_seq += 1;
    let row = &*new.message;
    let mut statement = connection.prepare_cached(
        "INSERT INTO message (seq, id, mesh_id, sender_member_id, sender_session_pubkey, sender_name, sender_pubkey, \
         target_kind, target_spec, priority, nonce, ciphertext, meta, sealed, subtype, session_hint, created_at, \
         expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) \
         ON CONFLICT DO NOTHING",
    )?;
    let inserted = statement.execute(params![
        seq,
        row.id.as_str(),
        row.mesh_id.as_str(),
        row.sender_member_id.as_str(),
        row.sender_session_pubkey.as_ref().map(KeyHex::as_str),
        row.sender_name,
        row.sender_pubkey,
        kind_number(row.target.kind),
        row.target.spec,
        priority_number(row.priority),
        row.nonce.as_str(),
        row.ciphertext.as_str(),
        to_json_opt(row.meta.as_ref())?,
        to_json_opt(row.sealed.as_ref())?,
        row.subtype,
        row.session_hint.as_ref().map(KeyHex::as_str),
        row.created_at.as_ms(),
        row.expires_at.as_ms(),
    ])?;
    if inserted == 0 {
        return repetition(connection, row);
    }
    let mut statement = connection.prepare_cached(
        "INSERT INTO delivery (mesh_id, message_id, recipient_member_id, sender_member_id, seq, priority, stage, \
         created_at, ended_at, reason, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    let (priority, created, expires) = (
        priority_number(row.priority),
        row.created_at.as_ms(),
        row.expires_at.as_ms(),
    );
    for recipient in &new.recipients {
        let stage = match recipient.refused {
            None => DeliveryStage::Accepted,
            Some(_) => DeliveryStage::Refused,
        };
        statement.execute(params![
            row.mesh_id.as_str(),
            row.id.as_str(),
            recipient.member_id.as_str(),
            row.sender_member_id.as_str(),
            seq,
            priority,
            stage_number(stage),
            created,
            recipient.refused.as_ref().map(|_| created),
            recipient.refused,
            expires,
        ])?;
    }
    Ok(Ok(new.outcome(seq)))
}

/// The answer to a message whose id is taken. Keys that are not ids do not come this way: see [`takes`].
fn repetition(connection: &Connection, row: &MessageRow) -> Checked<MessageOutcome> {
    let mut statement = connection.prepare_cached(
        "SELECT m.seq, COUNT(d.seq), COUNT(CASE WHEN d.stage = 5 THEN 1 END), \
         COUNT(CASE WHEN d.stage = 0 THEN 1 END) FROM message m \
         LEFT JOIN delivery d ON d.seq = m.seq \
         WHERE m.mesh_id = ?1 AND m.sender_member_id = ?2 AND m.id = ?3 GROUP BY m.seq",
    )?;
    let key = params![row.mesh_id.as_str(), row.sender_member_id.as_str(), row.id.as_str()];
    let earlier = statement.query_row(key, |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, u32>(1)?,
            row.get::<_, u32>(2)?,
            row.get::<_, u32>(3)?,
        ))
    });
    let is_key = row.client_id.is_some();
    let Some((seq, all, refused, pending)) = earlier.optional()?.filter(|_| is_key) else {
        return Ok(Err(StoreError::Conflict(
            "another message of this mesh has this id".into(),
        )));
    };
    Ok(Ok(MessageOutcome {
        seq,
        message_id: MessageId(row.id.0.clone()),
        duplicate: true,
        recipients: all - refused,
        refused,
        pending,
    }))
}

/// Advances one delivery.
fn advance(connection: &Connection, change: &StageChange) -> Result<StageOutcome, StoreError> {
    let (seq, sender) = match &change.place {
        Some(place) => (place.seq, place.sender.clone()),
        None => {
            let mut statement = connection.prepare_cached(
                "SELECT d.seq, d.sender_member_id FROM message m JOIN delivery d ON d.seq = m.seq \
                 WHERE m.mesh_id = ?1 AND m.id = ?2 AND d.recipient_member_id = ?3",
            )?;
            let key = params![
                change.mesh_id.as_str(),
                change.message_id.as_str(),
                change.recipient.as_str()
            ];
            let found = statement.query_row(key, |row| Ok((row.get(0)?, MemberId(row.get(1)?))));
            match found.optional()? {
                Some(found) => found,
                None => return Ok(StageOutcome::default()),
            }
        }
    };
    // Ends without success are for what was not delivered; after `read` nothing follows.
    let mut statement = connection.prepare_cached(
        "UPDATE delivery SET stage = ?3, \
         delivered_at = CASE WHEN ?3 <= 3 THEN COALESCE(delivered_at, ?4) ELSE delivered_at END, \
         surfaced_at = CASE WHEN ?3 IN (2, 3) THEN COALESCE(surfaced_at, ?4) ELSE surfaced_at END, \
         read_at = CASE WHEN ?3 = 3 THEN ?4 ELSE read_at END, \
         ended_at = CASE WHEN ?3 >= 3 THEN ?4 ELSE ended_at END, \
         adapter = COALESCE(?5, adapter), reason = COALESCE(?6, reason) \
         WHERE seq = ?1 AND recipient_member_id = ?2 AND stage < ?3 AND ((?3 <= 3 AND stage < 3) OR stage = 0)",
    )?;
    let changed = statement.execute(params![
        seq,
        change.recipient.as_str(),
        stage_number(change.stage),
        change.at.as_ms(),
        change.adapter,
        change.reason,
    ])?;
    Ok(StageOutcome {
        sender: Some(sender),
        changed: changed > 0,
    })
}

/// Puts on record what happened, and gives the new ends of the chains.
fn record(connection: &Connection, heads: &AuditHeads, batch: &Batch) -> Result<AuditHeads, StoreError> {
    let mut new = AuditHeads::new();
    let mut statement = connection.prepare_cached(
        "INSERT INTO audit_log \
         (mesh_id, id, event_type, actor_member_id, actor_name, payload, prev_hash, hash, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for event in batch.events() {
        let head = match new.get(&event.mesh_id).or_else(|| heads.get(&event.mesh_id)) {
            Some(head) => head.clone(),
            None => load_head(connection, &event.mesh_id)?,
        };
        let (next, payload) = audit::link(&head, event);
        statement.execute(params![
            event.mesh_id.as_str(),
            next.id,
            event.event_type,
            event.actor_member_id.as_ref().map(MemberId::as_str),
            event.actor_name,
            payload,
            head.hash,
            next.hash,
            event.at.as_ms(),
        ])?;
        new.insert(event.mesh_id.clone(), next);
    }
    Ok(new)
}

fn load_head(connection: &Connection, mesh: &MeshId) -> Result<AuditHead, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT id, hash FROM audit_log WHERE mesh_id = ?1 ORDER BY id DESC LIMIT 1")?;
    let head = statement.query_row([mesh.as_str()], |row| {
        Ok(AuditHead {
            id: row.get(0)?,
            hash: row.get(1)?,
        })
    });
    Ok(head.optional()?.unwrap_or_else(AuditHead::genesis))
}

/// Whether a batch can go this way: it has no custom writes, and no idempotency key that is not an id can be in it or in
/// the database.
pub(super) fn takes(batch: &Batch, numbering: &Numbering) -> bool {
    !numbering.separate_keys
        && batch.writes.iter().all(|write| match write {
            Some(WriteKind::Message(message)) => message.message.separate_key().is_none(),
            Some(WriteKind::Stages(_)) => true,
            Some(WriteKind::Custom(_)) | None => false,
        })
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(code, text) => {
                let text = text.unwrap_or_else(|| code.to_string());
                if code.code == rusqlite::ErrorCode::ConstraintViolation {
                    return Self::Conflict(text);
                }
                Self::of_sqlite(code.extended_code, format!("{text} ({})", code.extended_code))
            }
            other => Self::Database(other.to_string()),
        }
    }
}
