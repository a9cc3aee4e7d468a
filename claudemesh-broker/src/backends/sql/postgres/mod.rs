//! A schema and a role for each mesh in a Postgres database.
//!
//! The role logs in with connections of its own, so there is nothing to get back to with `RESET ROLE`: the server itself keeps
//! the broker's tables and other meshes out of reach. Its password is made anew by every broker process and is stored nowhere.

mod connections;
mod functions;
mod guard;
mod lexer;
mod role;
mod run;

use std::collections::HashMap;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use claudemesh_proto::model::MeshId;
use claudemesh_proto::ops::{SqlResult, SqlTable};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgPool};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

use super::{SharedSql, SqlError, SqlLimits, Statement, schema_name};
use connections::{Connections, Taken};
use role::{Admin, Login};
use run::Mode;

/// How many statements of one mesh read at once.
const READERS: usize = 2;

/// The shared databases on a Postgres server.
#[derive(Debug)]
pub struct PostgresSql {
    limits: SqlLimits,
    admin: Admin,
    connections: Connections,
    meshes: Mutex<HashMap<MeshId, Arc<MeshSql>>>,
}

/// One mesh.
#[derive(Debug)]
struct MeshSql {
    schema: String,
    login: OnceCell<Login>,
    /// Whoever has it is the only one who writes.
    writing: Arc<tokio::sync::Mutex<()>>,
    reading: Arc<Semaphore>,
}

impl PostgresSql {
    /// Schemas in the database at `url`, whose user may create roles and schemas. Connects when it is first used.
    ///
    /// # Errors
    /// [`SqlError::Unavailable`] if the address cannot be read.
    pub fn new(url: &str, limits: SqlLimits) -> Result<Self, SqlError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| SqlError::Unavailable("the database address has an unknown or malformed part".to_owned()))?
            .disable_statement_logging()
            .statement_cache_capacity(4);
        Ok(Self {
            limits,
            admin: Admin::new(options.clone()),
            connections: Connections::new(options, limits),
            meshes: Mutex::default(),
        })
    }

    fn mesh(&self, mesh: &MeshId) -> Arc<MeshSql> {
        let mut meshes = self.meshes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(MeshSql {
                schema: schema_name(mesh),
                login: OnceCell::new(),
                writing: Arc::default(),
                reading: Arc::new(Semaphore::new(READERS)),
            })
        };
        meshes.entry(mesh.clone()).or_insert_with(new).clone()
    }

    async fn login<'a>(&self, mesh: &'a MeshSql) -> Result<&'a Login, SqlError> {
        mesh.login.get_or_try_init(|| self.admin.prepare(&mesh.schema)).await
    }

    /// A connection with an open transaction. One that was kept may have ended meanwhile, with the server or before it: then
    /// there is another one.
    async fn begin(&self, login: &Login, mode: Mode) -> Result<Taken, SqlError> {
        loop {
            let mut connection = self.in_turn(self.connections.take(login)).await??;
            match run::begin(connection.get(), mode, self.limits).await {
                Ok(()) => return Ok(connection),
                Err(SqlError::Unavailable(_)) if connection.was_kept() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for a turn.
    async fn in_turn<T>(&self, turn: impl Future<Output = T>) -> Result<T, SqlError> {
        timeout(self.limits.time, turn).await.map_err(|_| SqlError::Busy)
    }
}

impl SharedSql for PostgresSql {
    fn engine(&self) -> &'static str {
        "postgres"
    }

    fn query<'a>(&'a self, mesh: &'a MeshId, statement: Statement) -> BoxFuture<'a, Result<SqlResult, SqlError>> {
        async move {
            let mesh = self.mesh(mesh);
            // Before anything else: what is refused costs no connection.
            let functions = self.admin.functions().await?;
            let sql = run::read_only(&statement, functions, &mesh.schema)?;
            let _turn = self.in_turn(mesh.reading.acquire()).await?;
            let login = self.login(&mesh).await?;
            let mut connection = self.begin(login, Mode::ReadOnly).await?;
            let result = run::query(connection.get(), &sql, self.limits).await;
            connection.settle(result, self.limits)
        }
        .boxed()
    }

    fn execute<'a>(&'a self, mesh: &'a MeshId, statement: Statement) -> BoxFuture<'a, Result<SqlResult, SqlError>> {
        async move {
            let mesh = self.mesh(mesh);
            let functions = self.admin.functions().await?;
            let (sql, kind) = run::changing(&statement, functions, &mesh.schema)?;
            let _turn = self.in_turn(mesh.writing.lock()).await?;
            let login = self.login(&mesh).await?;
            let mut connection = self.begin(login, Mode::ReadWrite).await?;
            let result = run::execute(connection.get(), &sql, kind, &mesh.schema, self.limits).await;
            connection.settle(result, self.limits)
        }
        .boxed()
    }

    fn schema<'a>(&'a self, mesh: &'a MeshId) -> BoxFuture<'a, Result<Vec<SqlTable>, SqlError>> {
        async move { self.admin.tables(&schema_name(mesh)).await }.boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.connections.close();
            self.admin.close().await;
        }
        .boxed()
    }
}

/// An error of the server, as the operator may see it.
fn unavailable(error: &sqlx::Error) -> SqlError {
    let text = match error {
        sqlx::Error::Database(error) => format!("{} ({})", error.message(), error.code().unwrap_or_default()),
        sqlx::Error::Io(error) => error.kind().to_string(),
        sqlx::Error::Configuration(_) => "its address has an unknown or malformed part".to_owned(),
        sqlx::Error::Tls(_) => "TLS failed".to_owned(),
        sqlx::Error::PoolTimedOut => "no connection became free in time".to_owned(),
        _ => "the connection broke".to_owned(),
    };
    SqlError::Unavailable(text)
}

/// A small pool of the broker's own user.
fn admin_pool(options: PgConnectOptions) -> PgPool {
    sqlx::postgres::PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(std::time::Duration::from_secs(5))
        .idle_timeout(std::time::Duration::from_secs(60))
        .connect_lazy_with(options)
}
