//! graphdblite with one graph.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use claudemesh_proto::ops::GraphResult;
use graph_sqlite::bounds;
use graphdblite::{Config, Database, GraphError as EngineError, SyncMode};
use rusqlite::ErrorCode;

use super::json;
use crate::backends::graph::hosts::{Engine, Job};
use crate::backends::graph::records::Records;
use crate::backends::graph::{GraphError, GraphLimits};

/// Bytes of a page: SQLite's default.
const PAGE: u64 = 4096;

/// How long opening a file waits between two tries.
const AGAIN: Duration = Duration::from_millis(10);

/// A graph in a file.
pub(in crate::backends::graph) struct FileEngine {
    path: PathBuf,
    limits: GraphLimits,
    database: Option<Database>,
}

impl Engine for FileEngine {
    fn run(&mut self, job: &Job) -> Result<GraphResult, GraphError> {
        let limits = self.limits;
        let params = json::params(&job.cypher.params)?;
        // A reader creates nothing: a graph that is not there is an empty one, and is looked for again the next time.
        let is_there = self.database.is_some() || job.writes || self.path.exists();
        let mut database = match self.database.take() {
            Some(database) => database,
            None if is_there => self.open()?,
            None => Database::open_memory().map_err(unavailable)?,
        };
        bounds::set_deadline(Instant::now().checked_add(limits.time));
        let done = catch_unwind(AssertUnwindSafe(|| {
            in_transaction(&mut database, job, &params, limits).map_err(|error| match error {
                Failure::Engine(error) => explain(&error, job.writes, limits),
                Failure::Ours(error) => error,
            })
        }));
        bounds::set_deadline(None);
        match done {
            Ok(result) => {
                self.database = is_there.then_some(database);
                result
            }
            // The connection is closed with whatever it was doing.
            Err(_) => Err(GraphError::Query(
                "the graph's engine failed at this query; nothing was changed".to_owned(),
            )),
        }
    }
}

impl FileEngine {
    /// Opens nothing yet.
    pub(in crate::backends::graph) fn new(path: PathBuf, limits: GraphLimits) -> Self {
        Self {
            path,
            limits,
            database: None,
        }
    }

    /// Opening writes a little: it may have to wait for a change that is under way, or for another engine that opens the
    /// same file, and then SQLite does not always wait by itself.
    fn open(&self) -> Result<Database, GraphError> {
        let deadline = Instant::now().checked_add(self.limits.time);
        loop {
            match self.try_open() {
                Err(error) if !is_busy_error(&error) => return Err(unavailable(error)),
                Err(_) if deadline.is_some_and(|deadline| Instant::now() > deadline) => return Err(GraphError::Busy),
                Err(_) => sleep(AGAIN),
                Ok(database) => return Ok(database),
            }
        }
    }

    fn try_open(&self) -> Result<Database, EngineError> {
        let limits = self.limits;
        let config = Config {
            busy_timeout_ms: u32::try_from(limits.time.as_millis()).unwrap_or(u32::MAX),
            synchronous: SyncMode::Full,
            max_materialized_bytes: limits.memory / 4,
            cache_size: -8_000,
            // A file that is cut short would end the process.
            mmap_size: 0,
            ..Config::default()
        };
        let pages = u32::try_from((limits.quota / PAGE).max(1)).unwrap_or(u32::MAX);
        bounds::set_max_pages(Some(pages));
        let database = Database::open_with_config(&self.path, config);
        bounds::set_max_pages(None);
        database
    }
}

fn is_busy_error(error: &EngineError) -> bool {
    matches!(error, EngineError::Storage { source, .. } if is_busy(source.sqlite_error_code()))
}

fn is_busy(code: Option<ErrorCode>) -> bool {
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn unavailable(error: EngineError) -> GraphError {
    GraphError::Unavailable(error.to_string())
}

enum Failure {
    Engine(EngineError),
    Ours(GraphError),
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

fn in_transaction(
    database: &mut Database,
    job: &Job,
    params: &std::collections::HashMap<String, graphdblite::Value>,
    limits: GraphLimits,
) -> Result<GraphResult, Failure> {
    if job.writes {
        database.begin_write()?;
    } else {
        database.begin_read()?;
    }
    let done = database
        .execute_with_params(&job.cypher.text, Some(params))
        .map_err(Failure::Engine)
        .and_then(|records| match collect(&records, limits) {
            // The change stands; what does not fit is only not shown.
            Err(GraphError::TooLarge(_)) if job.writes => Ok(Records::none()),
            collected => collected.map_err(Failure::Ours),
        })
        .and_then(|result| {
            database.commit()?;
            Ok(result)
        });
    if done.is_err() && database.in_transaction() {
        // The engine has given up already if this fails.
        let _ended = database.rollback();
    }
    done
}

fn collect(records: &[graphdblite::Record], limits: GraphLimits) -> Result<GraphResult, GraphError> {
    let mut collected = Records::new(limits);
    for record in records {
        let values = record
            .iter()
            .map(|(name, value)| Ok((name.clone(), json::value(value)?)));
        if !collected.push(values.collect::<Result<_, GraphError>>()?)? {
            break;
        }
    }
    Ok(collected.shown())
}

fn explain(error: &EngineError, writes: bool, limits: GraphLimits) -> GraphError {
    if bounds::was_stopped() {
        return GraphError::Timeout(limits.time);
    }
    match error {
        EngineError::Query(error) => {
            let place = error
                .span()
                .map(|span| format!(" (line {}, column {})", span.line, span.col));
            let hint = error.hint().map(|hint| format!("; {hint}"));
            GraphError::Query(format!(
                "{}{}{}",
                plain(error.message()),
                hint.unwrap_or_default(),
                place.unwrap_or_default()
            ))
        }
        EngineError::Transaction { .. } if !writes => GraphError::read_only(),
        EngineError::SizeLimit { what, limit, hint, .. } => {
            let hint = hint.as_deref().filter(|hint| !hint.contains("Config"));
            let hint = hint.unwrap_or("use LIMIT, or match less");
            GraphError::TooLarge(format!("too much: {what} is limited to {limit}; {hint}"))
        }
        EngineError::Storage { source, .. } => match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => GraphError::Full(format!("{} MiB", limits.quota / 1024 / 1024)),
            code if is_busy(code) => GraphError::Busy,
            Some(ErrorCode::TooBig) => GraphError::TooLarge("a value is too large".to_owned()),
            _ => GraphError::Unavailable(source.to_string()),
        },
        error @ (EngineError::Serialization { .. } | EngineError::SchemaMismatch { .. }) => {
            GraphError::Unavailable(error.to_string())
        }
        error => GraphError::Query(plain(&error.to_string())),
    }
}

/// The parser draws the place below the query's text; only what it expected is of use in a message. Names in it may be long.
fn plain(message: &str) -> String {
    let expected = message.rsplit_once("\n  = ").map_or(message, |(_, expected)| expected);
    expected.trim().chars().take(300).collect()
}
