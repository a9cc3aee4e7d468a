//! What can go wrong in the store.

use sqlx::error::ErrorKind;

/// Why the store could not do what it was asked. Texts name tables and limits, never addresses with passwords or values.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be reached or did not answer in time. Nothing is lost; a write may or may not have happened.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The committer's queue is full.
    #[error("too many writes are waiting for the database")]
    QueueFull,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// It exists already, or what the write relies on does not exist.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The thing does not exist in this mesh.
    #[error("{0} does not exist")]
    NotFound(&'static str),
    /// A limit of the store would be exceeded.
    #[error("limit reached: {0}")]
    Limit(String),
    /// Another broker uses this database.
    #[error("{0}")]
    Locked(String),
    /// The address of the database cannot be used.
    #[error("the database address cannot be used: {0}")]
    Config(String),
    /// The tables could not be brought up to date.
    #[error("the database tables could not be brought up to date: {0}")]
    Migration(String),
    /// A row holds what this program never writes, or the database file is damaged.
    #[error("the database holds damaged data: {0}")]
    Corrupt(String),
    /// The database refused a statement: a defect of this program.
    #[error("the database refused a statement: {0}")]
    Database(String),
}

impl StoreError {
    /// Whether the same request may succeed later without being changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::QueueFull)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => from_database(error.as_ref()),
            sqlx::Error::Io(error) => Self::Unavailable(error.kind().to_string()),
            sqlx::Error::PoolTimedOut => Self::Unavailable("no connection became free in time".into()),
            sqlx::Error::Tls(_) => Self::Unavailable("TLS failed".into()),
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) => Self::Unavailable("the connection broke".into()),
            sqlx::Error::Configuration(_) => Self::Config("it has an unknown or malformed part".into()),
            sqlx::Error::ColumnDecode { index, .. } => Self::Corrupt(format!("column {index} has another type")),
            sqlx::Error::ColumnNotFound(name) => Self::Database(format!("no column {name}")),
            sqlx::Error::RowNotFound => Self::Corrupt("a row is missing".into()),
            _ => Self::Database("the driver failed".into()),
        }
    }
}

fn from_database(error: &dyn sqlx::error::DatabaseError) -> StoreError {
    match error.kind() {
        ErrorKind::UniqueViolation | ErrorKind::ForeignKeyViolation | ErrorKind::CheckViolation => {
            let text = error
                .constraint()
                .map_or_else(|| error.message().to_owned(), str::to_owned);
            return StoreError::Conflict(text);
        }
        _ => {}
    }
    let code = error.code().unwrap_or_default();
    let text = format!("{} ({code})", error.message());
    if code.len() == 5 {
        // SQLSTATE classes: connection, resources, operator intervention, system error, serialization.
        return match &code[..2] {
            "08" | "53" | "57" | "58" | "40" | "55" | "28" | "3D" => StoreError::Unavailable(text),
            "XX" => StoreError::Corrupt(text),
            _ => StoreError::Database(text),
        };
    }
    match code.parse() {
        Ok(code) => StoreError::of_sqlite(code, text),
        Err(_) => StoreError::Database(text),
    }
}

impl StoreError {
    /// Of a result code of SQLite; the primary code is the low byte of an extended one.
    pub(super) fn of_sqlite(code: i32, text: String) -> Self {
        match code & 0xff {
            // BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL
            5 | 6 | 7 | 8 | 9 | 10 | 13 | 14 | 15 => Self::Unavailable(text),
            // CORRUPT, NOTADB
            11 | 26 => Self::Corrupt(text),
            _ => Self::Database(text),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError as E;
        match error {
            E::Execute(error) => error.into(),
            E::ExecuteMigration(error, version) => Self::Migration(format!("step {version}: {}", Self::from(error))),
            E::VersionMissing(version) => Self::Migration(format!(
                "a newer broker has used this database (step {version}); update this program"
            )),
            E::VersionMismatch(version) => Self::Migration(format!("step {version} was applied in another form")),
            E::Dirty(version) => Self::Migration(format!("step {version} was applied in part only")),
            other => Self::Migration(other.to_string()),
        }
    }
}
