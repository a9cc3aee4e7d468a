//! A SQLite file for each mesh.

mod connection;
mod guard;
mod run;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use claudemesh_proto::model::MeshId;
use claudemesh_proto::ops::{SqlResult, SqlTable};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{SharedSql, SqlError, SqlLimits, Statement};
use crate::backends::mesh_file;
use crate::backends::per_mesh::PerMesh;
use connection::{Access, Guarded};

/// How many statements of one mesh read at once.
const READERS: usize = 2;
/// How many statements of all meshes run at once: each takes a thread.
const RUNNING: usize = 16;

/// The shared databases in a directory.
#[derive(Debug)]
pub struct SqliteSql {
    directory: PathBuf,
    limits: SqlLimits,
    open: PerMesh<Database>,
    running: Arc<Semaphore>,
}

/// The connections to one mesh's file.
#[derive(Debug)]
struct Database {
    path: PathBuf,
    limits: SqlLimits,
    /// Whoever has it is the only one who writes.
    writer: Arc<tokio::sync::Mutex<Option<Guarded>>>,
    reading: Arc<Semaphore>,
    idle_readers: Mutex<Vec<Guarded>>,
}

impl SqliteSql {
    /// Databases in `directory`, which is created.
    ///
    /// # Errors
    /// If the directory cannot be created.
    pub fn new(directory: impl Into<PathBuf>, limits: SqlLimits) -> std::io::Result<Self> {
        let directory = directory.into();
        mesh_file::make_directory(&directory)?;
        Ok(Self {
            directory,
            limits,
            open: PerMesh::new(limits.open),
            running: Arc::new(Semaphore::new(RUNNING)),
        })
    }

    fn path(&self, mesh: &MeshId) -> PathBuf {
        mesh_file::path(&self.directory, mesh)
    }

    /// The mesh's database.
    fn database(&self, mesh: &MeshId) -> Arc<Database> {
        self.open.get(mesh, || Database {
            path: self.path(mesh),
            limits: self.limits,
            writer: Arc::default(),
            reading: Arc::new(Semaphore::new(READERS)),
            idle_readers: Mutex::default(),
        })
    }

    /// Runs `work` on a thread of its own, in its turn.
    async fn on_thread<T: Send + 'static>(
        &self,
        turn: impl Future<Output = Result<T, SqlError>>,
        work: impl FnOnce(T) -> Result<SqlResult, SqlError> + Send + 'static,
    ) -> Result<SqlResult, SqlError> {
        let waiting = async {
            let turn = turn.await?;
            let place = self.running.clone().acquire_owned().await.map_err(|_| closed())?;
            Ok((turn, place))
        };
        let (turn, place) = timeout(self.limits.time, waiting).await.map_err(|_| SqlError::Busy)??;
        let working = tokio::task::spawn_blocking(move || {
            let _place = place;
            work(turn)
        });
        working
            .await
            .unwrap_or_else(|error| Err(SqlError::Unavailable(error.to_string())))
    }

    async fn read(
        &self,
        database: Arc<Database>,
        work: impl FnOnce(&Guarded) -> Result<SqlResult, SqlError> + Send + 'static,
    ) -> Result<SqlResult, SqlError> {
        let reading = database.reading.clone();
        let turn = async move { reading.acquire_owned().await.map_err(|_| closed()) };
        self.on_thread(turn, move |permit| {
            let _permit = permit;
            let connection = database.reader()?;
            let result = work(&connection);
            database.idle().push(connection);
            result
        })
        .await
    }
}

fn closed() -> SqlError {
    SqlError::Unavailable("it is closed".to_owned())
}

impl Database {
    fn idle(&self) -> MutexGuard<'_, Vec<Guarded>> {
        self.idle_readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> Result<Guarded, SqlError> {
        let idle = self.idle().pop();
        match idle {
            Some(connection) => Ok(connection),
            None => {
                if !self.path.exists() {
                    // A reader creates nothing.
                    drop(Guarded::open(&self.path, Access::Write, self.limits)?);
                }
                Guarded::open(&self.path, Access::Read, self.limits)
            }
        }
    }
}

impl SharedSql for SqliteSql {
    fn engine(&self) -> &'static str {
        "sqlite"
    }

    fn query<'a>(&'a self, mesh: &'a MeshId, statement: Statement) -> BoxFuture<'a, Result<SqlResult, SqlError>> {
        let database = self.database(mesh);
        self.read(database, move |connection| run::query(connection, &statement))
            .boxed()
    }

    fn execute<'a>(&'a self, mesh: &'a MeshId, statement: Statement) -> BoxFuture<'a, Result<SqlResult, SqlError>> {
        let database = self.database(mesh);
        let writer = database.writer.clone();
        // Those who wait get their turn in the order in which they came.
        let turn = async move { Ok(writer.lock_owned().await) };
        self.on_thread(turn, move |mut writer| {
            let connection = match writer.take() {
                Some(connection) => connection,
                None => Guarded::open(&database.path, Access::Write, database.limits)?,
            };
            let result = run::execute(&connection, &statement);
            // Whatever happened, the next statement starts without an open transaction.
            if connection.is_clean() {
                *writer = Some(connection);
            }
            result
        })
        .boxed()
    }

    fn schema<'a>(&'a self, mesh: &'a MeshId) -> BoxFuture<'a, Result<Vec<SqlTable>, SqlError>> {
        async move {
            if !self.path(mesh).exists() {
                return Ok(Vec::new());
            }
            let (send, tables) = std::sync::mpsc::sync_channel(1);
            let work = move |connection: &Guarded| {
                let _sent = send.send(run::schema(connection)?);
                Ok(SqlResult::default())
            };
            self.read(self.database(mesh), work).await?;
            tables
                .try_recv()
                .map_err(|error| SqlError::Unavailable(error.to_string()))
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.running.close();
            drop(self.open.take_all());
        }
        .boxed()
    }
}
