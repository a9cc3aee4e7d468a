//! What is written, and what becomes of it.

use crate::store::StoreError;
use crate::store::audit::AuditEvent;
use crate::store::messages::{MessageOutcome, NewMessage, StageChange, StageOutcome};
use futures_util::future::BoxFuture;
use sqlx::AnyConnection;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

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
