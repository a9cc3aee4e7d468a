//! What a client keeps on disk where the program asked for it: messages on their way out, messages that the program has
//! and did not confirm, which messages it had, and acknowledgements that the broker does not have.
//!
//! | file of the directory | what |
//! |---|---|
//! | `journal` | one record per thing that happened; rewritten when most of it is history |
//! | `lock` | held while a client uses the directory |
//!
//! A record is in the file before anything is done that relies on it, so a killed process loses nothing. A task syncs the
//! file, for all records that were written in the meantime at once: only then is an acknowledgement told to the broker,
//! or a message sent, so a power failure loses nothing either. Each record is sealed under a key that comes from the
//! member's secret key: no text and no name is readable on the disk.

mod flush;
mod index;
mod log;
mod pool;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use flush::run;
pub(crate) use index::REMEMBERED;
pub(crate) use pool::open_in_pool;
pub(crate) use record::{Queued, Taken, Text};

use crate::pending::lock;
use crate::{ClientError, Identity};
use claudemesh_crypto::SecretKey;
use claudemesh_proto::model::{ClientStage, MessageId, Priority};
use claudemesh_proto::ops::MessageAck;
use index::Index;
use log::{Log, OpenError, Span, private};
use record::{Record, SessionSecret};
use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

const LOCK: &str = "lock";
/// The file is rewritten when it is longer than this, and at least four times as long as what is of use in it.
const REWRITE_BYTES: u64 = 4 << 20;

/// What an earlier run left.
#[derive(Default)]
pub(crate) struct Restored {
    /// Key of the session that sealed `outgoing`, if there is any.
    pub(crate) session: Option<SecretKey>,
    /// The last number that it used for each recipient or label.
    pub(crate) numbers: Vec<(String, Priority, u64)>,
    /// Messages that the broker may not have, the oldest first.
    pub(crate) outgoing: Vec<Queued>,
    /// Messages that the program was given and did not confirm, the oldest first.
    pub(crate) unconfirmed: Vec<Taken>,
    /// Acknowledgements that the broker may not have.
    pub(crate) acks: Vec<MessageAck>,
    /// Ids of messages that were given to the program, the oldest first.
    pub(crate) known: Vec<MessageId>,
    /// What a person should know.
    pub(crate) warnings: Vec<String>,
}

struct State {
    /// `None` after [`Journal::release`].
    open: Option<Open>,
    index: Index,
    /// Records that could not be written and do not have to be there at once.
    backlog: VecDeque<Record>,
    /// Acknowledgements that wait for the disk.
    held: VecDeque<(u64, MessageAck)>,
    /// Length at which the file is written anew.
    rewrite_at: u64,
}

struct Open {
    log: Log,
    _lock: File,
}

/// The journal of one client.
pub(crate) struct Journal {
    directory: PathBuf,
    state: Mutex<State>,
    /// How many records were written.
    written: AtomicU64,
    /// How many of them are on disk.
    durable: AtomicU64,
    /// Of how many of them everything has been let go that waits for the disk.
    flushed: watch::Sender<u64>,
    work: Notify,
}

impl Journal {
    /// Opens the journal of a directory, which is created if it is not there.
    ///
    /// # Errors
    /// [`ClientError::Journal`] when another client uses the directory, when it belongs to another member or mesh, or cannot
    /// be read and written.
    pub(crate) fn open(directory: &Path, identity: &Identity) -> Result<(Self, Restored), ClientError> {
        let failed = |error| ClientError::journal(directory, &error);
        create_private_directory(directory).map_err(failed)?;
        match try_lock(directory).map_err(failed)? {
            Some(held) => Self::open_locked(directory, held, identity),
            None => Err(ClientError::Journal {
                message: format!(
                    "{} is used by another running client; give each its own directory",
                    directory.display()
                ),
                retryable: false,
            }),
        }
    }

    fn open_locked(directory: &Path, held: File, identity: &Identity) -> Result<(Self, Restored), ClientError> {
        let opened = Log::open(directory, &identity.member, identity.mesh_id.as_str());
        let (log, found) = opened.map_err(|error| match error {
            OpenError::Io(error) => ClientError::journal(directory, &error),
            OpenError::Foreign => ClientError::Journal {
                message: format!(
                    "{} belongs to another member or mesh; give each identity its own directory",
                    directory.display()
                ),
                retryable: false,
            },
            OpenError::Unknown => ClientError::Journal {
                message: format!(
                    "{} holds no journal that this version can read; move it away, or use another directory",
                    directory.display()
                ),
                retryable: false,
            },
        })?;
        let mut restored = Restored::default();
        if found.damaged > 0 {
            restored.warnings.push(format!(
                "{} records of the journal in {} are damaged: messages may be missing or come twice",
                found.damaged,
                directory.display()
            ));
        }
        if found.torn > 0 {
            tracing::info!(bytes = found.torn, "cut an incomplete record off the journal");
        }
        let mut index = Index::default();
        for (span, record) in &found.records {
            index.apply(record, *span);
        }
        let mut records: HashMap<Span, Record> = found.records.into_iter().collect();
        for span in index.outgoing() {
            if let Some(Record::Queued(queued)) = records.remove(&span) {
                restored.outgoing.push(*queued);
            }
        }
        for span in index.unconfirmed() {
            if let Some(Record::Taken(taken)) = records.remove(&span) {
                restored.unconfirmed.push(*taken);
            }
        }
        if !restored.outgoing.is_empty() {
            restored.session = index.session().cloned();
            restored.numbers = index.numbers();
        }
        restored.acks = index.acks().cloned().collect();
        restored.known = index.known();
        let journal = Self {
            directory: directory.to_owned(),
            state: Mutex::new(State {
                open: Some(Open { log, _lock: held }),
                index,
                backlog: VecDeque::new(),
                held: VecDeque::new(),
                rewrite_at: REWRITE_BYTES,
            }),
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            flushed: watch::Sender::new(0),
            work: Notify::new(),
        };
        Ok((journal, restored))
    }

    /// A session begins: it seals what is queued from now on, and counts from the beginning.
    ///
    /// # Errors
    /// [`ClientError::Journal`] when the disk does not take it.
    pub(crate) fn begin(&self, session: &SecretKey) -> Result<(), ClientError> {
        let record = Record::Session(SessionSecret(session.clone()));
        self.write(&mut lock(&self.state), &record).map(drop)
    }

    /// A message is to be sent, or was sealed again. Gives its place: it may be sent when [`Journal::durable`] has come so
    /// far.
    ///
    /// # Errors
    /// [`ClientError::Journal`] when the disk does not take it; it must not be sent then.
    pub(crate) fn queued(&self, queued: Queued) -> Result<u64, ClientError> {
        self.write(&mut lock(&self.state), &Record::Queued(Box::new(queued)))
    }

    /// A message needs not be sent any more.
    pub(crate) fn sent(&self, id: &str) {
        self.note(&mut lock(&self.state), Record::Sent(id.to_owned()));
    }

    /// The program is about to be given a message. Its acknowledgement is told when this is on disk.
    ///
    /// # Errors
    /// [`ClientError::Journal`] when the disk does not take it; the program must not be given the message then.
    pub(crate) fn taken(&self, taken: Taken) -> Result<(), ClientError> {
        let ack = MessageAck {
            message_id: taken.received.message_id.clone(),
            stage: ClientStage::Delivered,
            adapter: None,
        };
        let mut state = lock(&self.state);
        let place = self.write(&mut state, &Record::Taken(Box::new(taken)))?;
        state.held.push_back((place, ack));
        Ok(())
    }

    /// A stage is to be told to the broker, when this is on disk.
    pub(crate) fn acked(&self, ack: MessageAck) {
        let mut state = lock(&self.state);
        self.note(&mut state, Record::Acked(ack.clone()));
        let place = self.written.load(Ordering::Acquire) + state.backlog.len() as u64;
        state.held.push_back((place, ack));
    }

    /// The broker has these acknowledgements.
    pub(crate) fn settled(&self, acks: &[MessageAck]) {
        let settled = acks.iter().map(|ack| (ack.message_id.clone(), ack.stage));
        self.note(&mut lock(&self.state), Record::Settled(settled.collect()));
    }

    /// The program is done with a message. `false` if it was before, or does not have it.
    pub(crate) fn confirmed(&self, id: &MessageId) -> bool {
        let mut state = lock(&self.state);
        let unconfirmed = state.index.is_unconfirmed(id);
        if unconfirmed {
            self.note(&mut state, Record::Confirmed(id.clone()));
        }
        unconfirmed
    }

    /// How many messages the program has and did not confirm.
    pub(crate) fn unconfirmed(&self) -> usize {
        lock(&self.state).index.unconfirmed_count()
    }

    /// Up to which place everything is on disk.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Waits until everything that was written before is on disk and what waited for that is let go, or the journal is
    /// closed.
    pub(crate) async fn flushed(&self) {
        let target = self.written.load(Ordering::Acquire);
        let mut flushed = self.flushed.subscribe();
        let _ = flushed.wait_for(|flushed| *flushed >= target).await;
    }

    /// Puts everything on disk and gives the directory free. Nothing is written after that.
    pub(crate) fn release(&self) {
        if let Err(error) = self.sync() {
            tracing::warn!(%error, "the end of the journal may not survive a power failure");
        }
        lock(&self.state).open = None;
        self.flushed.send_replace(u64::MAX);
    }

    /// Writes a record that has to be there before anything else is done.
    fn write(&self, state: &mut State, record: &Record) -> Result<u64, ClientError> {
        let place = self
            .append(state, record)
            .map_err(|error| ClientError::journal(&self.directory, &error))?;
        self.work.notify_one();
        Ok(place)
    }

    /// Writes a record that may come late: without it, something is repeated that does no harm.
    fn note(&self, state: &mut State, record: Record) {
        if state.open.is_none() {
            tracing::debug!("the journal is closed: something may be repeated");
            return;
        }
        state.index.apply(&record, Span::default());
        state.backlog.push_back(record);
        // What cannot be written now is tried again by the task that syncs.
        let _ = self.catch_up(state);
        self.work.notify_one();
    }

    fn append(&self, state: &mut State, record: &Record) -> io::Result<u64> {
        self.catch_up(state)?;
        let log = state.log()?;
        let span = log.append(record)?;
        state.index.apply(record, span);
        Ok(self.written.fetch_add(1, Ordering::AcqRel) + 1)
    }

    fn catch_up(&self, state: &mut State) -> io::Result<()> {
        while let Some(record) = state.backlog.pop_front() {
            if let Err(error) = state.log().and_then(|log| log.append(&record)) {
                state.backlog.push_front(record);
                return Err(error);
            }
            self.written.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Puts everything that was written on disk. Blocks.
    fn sync(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.open.is_none() {
            return Ok(());
        }
        self.catch_up(&mut state)?;
        let log = state.log()?;
        if log.len() >= state.rewrite_at {
            return self.rewrite(&mut state);
        }
        let file = state.log()?.file();
        let target = self.written.load(Ordering::Acquire);
        drop(state);
        match file.sync_data() {
            Ok(()) => {
                self.durable.fetch_max(target, Ordering::AcqRel);
            }
            Err(error) => {
                // What a failed sync has left in the file is not known: it is written anew.
                tracing::warn!(%error, "the journal is written anew");
                self.rewrite(&mut lock(&self.state))?;
            }
        }
        Ok(())
    }

    /// Leaves out what is of no use any more.
    fn rewrite(&self, state: &mut State) -> io::Result<()> {
        let (first, keep, last) = (state.index.snapshot(), state.index.live(), state.index.after());
        let log = state.log()?;
        let moved = log.rewrite(&first, &keep, &last)?;
        let length = log.len();
        state.index.moved(moved);
        state.rewrite_at = REWRITE_BYTES.max(length.saturating_mul(4));
        self.durable
            .fetch_max(self.written.load(Ordering::Acquire), Ordering::AcqRel);
        Ok(())
    }

    /// Acknowledgements whose records are on disk.
    fn due(&self) -> Vec<MessageAck> {
        let durable = self.durable();
        let held = &mut lock(&self.state).held;
        let count = held.iter().take_while(|(place, _)| *place <= durable).count();
        held.drain(..count).map(|(_, ack)| ack).collect()
    }
}

impl State {
    fn log(&mut self) -> io::Result<&mut Log> {
        let closed = || io::Error::new(io::ErrorKind::NotConnected, "the client is closed");
        self.open.as_mut().map(|open| &mut open.log).ok_or_else(closed)
    }
}

impl ClientError {
    /// A journal that cannot be read or written now.
    fn journal(directory: &Path, error: &io::Error) -> Self {
        Self::Journal {
            message: format!(
                "the journal in {} cannot be used: {error}; check that the disk has room and that the directory is yours",
                directory.display()
            ),
            retryable: true,
        }
    }
}

/// Takes the lock of a directory; `None` if somebody else has it.
fn try_lock(directory: &Path) -> io::Result<Option<File>> {
    let file = open_lock(directory)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open_lock(directory: &Path) -> io::Result<File> {
    private(OpenOptions::new().write(true).create(true).truncate(false)).open(directory.join(LOCK))
}

#[cfg(unix)]
fn create_private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn create_private_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}
