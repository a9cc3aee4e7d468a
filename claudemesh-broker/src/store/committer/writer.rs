//! Writing a batch in one transaction, and finding the guilty one where it fails.

use super::completions::{Completions, Finished, take_completions, with_outcomes};
use super::{Job, Outcome, WriteKind};
use crate::store::StoreError;
use crate::store::audit::{self, AuditEvent, AuditHeads};
use crate::store::dialect::{Dialect, Engine};
use crate::store::direct::{self, DirectWriter, Done};
use crate::store::messages::{self, Numbering};
use futures_util::FutureExt as _;
use sqlx::{AnyConnection, Connection as _};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long opening a new connection may take after the old one broke.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The short way for messages and marks, where there is one.
fn open_direct(dialect: &Dialect) -> Result<Option<DirectWriter>, StoreError> {
    match &dialect.engine {
        Engine::Sqlite { path } => DirectWriter::open(path).map(Some),
        Engine::Postgres => Ok(None),
    }
}

pub(super) struct Writer {
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
pub(in crate::store) struct Batch {
    pub(in crate::store) writes: Vec<Option<WriteKind>>,
    pub(in crate::store) audit: Vec<Vec<AuditEvent>>,
    pub(in crate::store) outcomes: Vec<Option<Result<Outcome, StoreError>>>,
}

impl Batch {
    /// What is put on record.
    pub(in crate::store) fn events(&self) -> Vec<&AuditEvent> {
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
    /// A writer on a connection that nobody else writes with.
    pub(super) async fn new(dialect: Dialect, mut connection: AnyConnection) -> Result<Self, StoreError> {
        let numbering = Numbering::load(&mut connection).await?;
        let direct = open_direct(&dialect)?;
        Ok(Self {
            dialect,
            connection: Some(connection),
            direct,
            under_way: None,
            numbering,
            heads: AuditHeads::new(),
        })
    }

    /// Ends the connections.
    pub(super) async fn close(self) {
        if let Some(direct) = self.direct {
            direct.close().await;
        }
        if let Some(connection) = self.connection {
            // The data is on disk; a failing goodbye changes nothing.
            let _ = connection.close().await;
        }
    }

    /// Commits a batch, and gives each completion its outcome. If they `may_complete`, completions may have run already.
    pub(super) async fn commit(
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
