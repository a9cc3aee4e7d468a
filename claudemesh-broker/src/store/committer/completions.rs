//! Telling those who wait what became of their writes.

use super::writer::Batch;
use super::{Completion, FEW, Outcome};
use crate::store::StoreError;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Batches whose completions have not run yet. The committer waits when there are more.
const DISPATCH_QUEUE: usize = 16;

pub(super) type Finished = (Completion, Result<Outcome, StoreError>);

/// The completions of a batch, for whoever is first to have its outcomes or to give up on them.
pub(in crate::store) type Completions = Arc<Mutex<Vec<Completion>>>;

/// Takes them; empty if somebody else has.
pub(super) fn take_completions(completions: &Completions) -> Vec<Completion> {
    std::mem::take(&mut *completions.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Takes the completions of a batch that is on disk, each with its outcome.
pub(super) fn with_outcomes(completions: &Completions, batch: &mut Batch) -> Vec<Finished> {
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
pub(in crate::store) fn finish(completions: &Completions, batch: &mut Batch) {
    complete(with_outcomes(completions, batch));
}

/// Completions beside the next commit. A few are run at once where nothing is before them: handing them to another task
/// takes longer.
pub(super) struct Dispatch {
    batches: mpsc::Sender<Vec<Finished>>,
    /// Batches that were handed over and are not told of.
    waiting: watch::Sender<usize>,
}

impl Dispatch {
    /// Starts the task that runs completions; it ends after this is dropped.
    pub(super) fn start() -> (Self, JoinHandle<()>) {
        let (batches, queue) = mpsc::channel(DISPATCH_QUEUE);
        let waiting = watch::Sender::new(0);
        let task = tokio::spawn(dispatch_completions(queue, waiting.clone()));
        (Self { batches, waiting }, task)
    }

    /// Whether so few completions may be run by whoever has the outcomes.
    pub(super) fn may_be_skipped(&self, completions: usize) -> bool {
        completions <= FEW && *self.waiting.borrow() == 0
    }

    /// Waits until everything before is told of.
    pub(super) async fn settled(&self) {
        // The sender is here: it cannot be closed.
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting == 0).await;
    }

    /// `false`: the task has ended.
    pub(super) async fn run(&self, batch: Vec<Finished>) -> bool {
        if self.may_be_skipped(batch.len()) {
            complete(batch);
            return true;
        }
        self.waiting.send_modify(|waiting| *waiting += 1);
        self.batches.send(batch).await.is_ok()
    }
}

async fn dispatch_completions(mut batches: mpsc::Receiver<Vec<Finished>>, waiting: watch::Sender<usize>) {
    while let Some(batch) = batches.recv().await {
        complete(batch);
        waiting.send_modify(|waiting| *waiting -= 1);
    }
}

pub(super) fn complete(batch: Vec<Finished>) {
    for (done, outcome) in batch {
        if std::panic::catch_unwind(AssertUnwindSafe(move || done(outcome))).is_err() {
            tracing::error!("a completion of the store panicked");
        }
    }
}
