//! A connection that does what the guard allows, for as long as the limits allow.

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::guard;
pub(super) use super::guard::Access;
use crate::backends::sql::{SqlError, SqlLimits};

/// How many steps of a statement pass between two looks at the clock.
const STEPS: i32 = 2_000;
/// Bytes of a page: SQLite's default.
const PAGE: u64 = 4096;
/// Most bytes of a statement, parameters not counted.
const SQL_BYTES: i32 = 512 * 1024;

/// A connection to a mesh's file.
pub(super) struct Guarded {
    connection: Connection,
    watch: Arc<Watch>,
    limits: SqlLimits,
}

/// What the connection's hooks and its user share.
#[derive(Debug)]
struct Watch {
    began: Instant,
    /// When the running statement is stopped, in microseconds after `began`.
    deadline: AtomicU64,
    stopped: AtomicBool,
    /// The statement is one of ours.
    is_trusted: AtomicBool,
    /// What the guard did not allow.
    refused: Mutex<Option<String>>,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guarded")
    }
}

impl Deref for Guarded {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Watch {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn judge(&self, access: Access, context: &AuthContext<'_>) -> Authorization {
        if self.is_trusted.load(Ordering::Relaxed) {
            return Authorization::Allow;
        }
        let judged = guard::judge(access, context);
        if let Err(what) = &judged {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.get_or_insert_with(|| what.clone());
        }
        guard::answer(&judged)
    }
}

impl Guarded {
    /// Opens a mesh's file; creates it for writing.
    pub(super) fn open(path: &Path, access: Access, limits: SqlLimits) -> Result<Self, SqlError> {
        Self::try_open(path, access, limits).map_err(|error| SqlError::Unavailable(error.to_string()))
    }

    fn try_open(path: &Path, access: Access, limits: SqlLimits) -> rusqlite::Result<Self> {
        // No URI: a path is a path.
        let flags = match access {
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            Access::Write => {
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX
            }
        };
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(limits.time)?;
        connection.set_prepared_statement_cache_capacity(0);
        match access {
            Access::Read => connection.pragma_update(None, "query_only", "ON")?,
            Access::Write => {
                connection.pragma_update(None, "journal_mode", "WAL")?;
                connection.pragma_update(None, "synchronous", "FULL")?;
                connection.pragma_update(None, "foreign_keys", "ON")?;
                connection.pragma_update(None, "journal_size_limit", 16 * 1024 * 1024)?;
                let pages = i64::try_from((limits.quota / PAGE).max(1)).unwrap_or(i64::MAX);
                connection.pragma_update(None, "max_page_count", pages)?;
            }
        }
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        connection.pragma_update(None, "cache_size", -4_000)?;
        // The tables of SQLite itself cannot be written, whatever else is allowed.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false)?;
        // "text" is a name, never a text: a mistyped column is an error.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
        let bytes = i32::try_from(limits.bytes).unwrap_or(i32::MAX);
        for (limit, value) in [
            (Limit::SQLITE_LIMIT_LENGTH, bytes.max(SQL_BYTES)),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, SQL_BYTES),
            (Limit::SQLITE_LIMIT_COLUMN, 200),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 100),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
            (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 100),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 10),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            connection.set_limit(limit, value)?;
        }
        let watch = Arc::new(Watch {
            began: Instant::now(),
            deadline: AtomicU64::new(u64::MAX),
            stopped: AtomicBool::new(false),
            is_trusted: AtomicBool::new(false),
            refused: Mutex::default(),
        });
        let clock = watch.clone();
        connection.progress_handler(
            STEPS,
            Some(move || {
                let is_over = clock.now() > clock.deadline.load(Ordering::Relaxed);
                if is_over {
                    clock.stopped.store(true, Ordering::Relaxed);
                }
                is_over
            }),
        )?;
        let judge = watch.clone();
        connection.authorizer(Some(move |context: AuthContext<'_>| judge.judge(access, &context)))?;
        Ok(Self {
            connection,
            watch,
            limits,
        })
    }

    /// The bounds of a statement.
    pub(super) fn limits(&self) -> SqlLimits {
        self.limits
    }

    /// Whether no transaction is open.
    pub(super) fn is_clean(&self) -> bool {
        self.connection.is_autocommit()
    }

    /// Runs a member's statement within its time.
    pub(super) fn guarded<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, SqlError> {
        let watch = &self.watch;
        let time = u64::try_from(self.limits.time.as_micros()).unwrap_or(u64::MAX);
        watch.stopped.store(false, Ordering::Relaxed);
        watch
            .deadline
            .store(watch.now().saturating_add(time), Ordering::Relaxed);
        *watch.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let result = work(&self.connection);
        watch.deadline.store(u64::MAX, Ordering::Relaxed);
        result.map_err(|error| self.explain(error))
    }

    /// Runs a statement of ours.
    pub(super) fn trusted<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, SqlError> {
        self.watch.is_trusted.store(true, Ordering::Relaxed);
        let result = self.guarded(work);
        self.watch.is_trusted.store(false, Ordering::Relaxed);
        result
    }

    fn explain(&self, error: rusqlite::Error) -> SqlError {
        if self.watch.stopped.load(Ordering::Relaxed) {
            return SqlError::Timeout(self.limits.time);
        }
        let refused = self.watch.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(what) = refused {
            return SqlError::Forbidden(format!("the shared database does not allow this: {what}"));
        }
        match error {
            rusqlite::Error::SqliteFailure(code, text) => {
                let text = text.unwrap_or_else(|| code.to_string());
                match code.code {
                    ErrorCode::DiskFull => SqlError::Full(self.limits.quota),
                    ErrorCode::TooBig => SqlError::TooLarge(format!(
                        "a value or the statement is too large: a value has at most {} bytes",
                        self.limits.bytes
                    )),
                    ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => SqlError::Busy,
                    ErrorCode::ReadOnly => {
                        SqlError::Forbidden("mesh_query only reads; use mesh_execute for changes".to_owned())
                    }
                    ErrorCode::AuthorizationForStatementDenied => {
                        SqlError::Forbidden("the shared database does not allow this statement".to_owned())
                    }
                    ErrorCode::CannotOpen
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::OutOfMemory
                    | ErrorCode::PermissionDenied
                    | ErrorCode::SystemIoFailure => SqlError::Unavailable(text),
                    _ => SqlError::Statement(text),
                }
            }
            rusqlite::Error::MultipleStatement => {
                SqlError::Statement("one statement per call, please; send the others in calls of their own".to_owned())
            }
            rusqlite::Error::NulError(_) => SqlError::Statement("the statement holds a NUL character".to_owned()),
            other => SqlError::Statement(other.to_string()),
        }
    }
}
