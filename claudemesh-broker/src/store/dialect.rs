//! What differs between SQLite and Postgres: addresses, connection settings, and the lock that keeps a second broker out.

use super::StoreError;
use sqlx::any::AnyConnectOptions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, ConnectOptions as _, Row as _, SqlSafeStr as _};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

/// A Postgres advisory lock of this number belongs to the one broker that writes to the database.
const BROKER_LOCK: i64 = 0x636c_6d65_7368;
/// How long a starting broker waits for the lock of one that is just ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// The steps that lead to the tables of today. Steps that were published stay as they are.
macro_rules! migrations {
    ($engine:literal) => {
        migrations!(
            $engine,
            (1, "core"),
            (2, "memory"),
            (3, "tasks"),
            (4, "streams"),
            (5, "files"),
            (6, "trim"),
            (7, "skills")
        )
    };
    ($engine:literal, $(($version:literal, $name:literal)),+) => {
        [$((
            $version,
            $name,
            include_str!(concat!("../../migrations/", $engine, "/000", $version, "_", $name, ".sql")),
        )),+]
    };
}

/// Which database, and where.
#[derive(Clone)]
pub(super) struct Dialect {
    pub(super) engine: Engine,
    pub(super) options: AnyConnectOptions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite { path: PathBuf },
    Postgres,
}

impl Dialect {
    /// Understands `postgres://…`, `sqlite:<path>` and a plain path.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let mut options = AnyConnectOptions::from_str(url)?;
            // On every connection, from its first statement on.
            options
                .database_url
                .query_pairs_mut()
                .append_pair("options", "-c search_path=mesh");
            return Ok(Self {
                engine: Engine::Postgres,
                options: options.disable_statement_logging(),
            });
        }
        let path = match url.strip_prefix("sqlite:") {
            Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
            None if url.contains("://") => {
                return Err(StoreError::Config("use postgres://…, sqlite:<path> or a path".into()));
            }
            None => url,
        };
        if path.is_empty() || path.contains(":memory:") {
            return Err(StoreError::Config(
                "a file is needed: data in memory would not survive a restart".into(),
            ));
        }
        if path.contains('%') {
            return Err(StoreError::Config("the path must not contain %".into()));
        }
        let path = std::path::absolute(path).map_err(|error| StoreError::Config(error.kind().to_string()))?;
        let url = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .to_url_lossy();
        let options = AnyConnectOptions::from_url(&url)?.disable_statement_logging();
        Ok(Self {
            engine: Engine::Sqlite { path },
            options,
        })
    }

    /// Most connections for reading.
    pub(super) fn read_connections(&self) -> u32 {
        match self.engine {
            Engine::Sqlite { .. } => 4,
            Engine::Postgres => 8,
        }
    }

    /// What the process holds as long as it uses the database; the lock of Postgres is in the writer's connection.
    pub(super) fn lock_file(&self) -> Result<Option<File>, StoreError> {
        let Engine::Sqlite { path } = &self.engine else {
            return Ok(None);
        };
        lock_file(path).map(Some)
    }

    /// Opens the connection that writes. Whoever has it is the only broker on this database: on Postgres it holds the
    /// lock, so that a broker that lost its connection cannot write any more after another took over.
    pub(super) async fn connect_writer(&self) -> Result<AnyConnection, StoreError> {
        let mut connection = self.options.connect().await?;
        match self.engine {
            Engine::Sqlite { .. } => sqlite_settings(&mut connection).await?,
            Engine::Postgres => postgres_lock(&mut connection).await?,
        }
        Ok(connection)
    }

    /// Creates or updates the tables, fail-closed: tables of a newer or another program are refused.
    pub(super) async fn migrate(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        let files = match self.engine {
            Engine::Sqlite { .. } => migrations!("sqlite"),
            Engine::Postgres => {
                sqlx::query("CREATE SCHEMA IF NOT EXISTS mesh")
                    .execute(&mut *connection)
                    .await?;
                migrations!("postgres")
            }
        };
        let step = |(version, name, sql): (i64, &'static str, &'static str)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        };
        let steps: Vec<_> = files.into_iter().map(step).collect();
        Migrator::with_migrations(steps).run(connection).await?;
        Ok(())
    }
}

fn lock_file(database: &Path) -> Result<File, StoreError> {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    let cannot =
        |error: std::io::Error| StoreError::Config(format!("{}: {}", PathBuf::from(&name).display(), error.kind()));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(format!(
            "another broker has {} open: stop it, or give this one a database of its own",
            database.display()
        ))),
        Err(TryLockError::Error(error)) => Err(cannot(error)),
    }
}

pub(super) async fn sqlite_settings(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    // Foreign keys and a busy timeout of five seconds are the driver's defaults.
    for pragma in [
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        "PRAGMA busy_timeout = 5000",
        "PRAGMA cache_size = -8000",
        // The journals of statements: on disk they cost a write for every page that changes.
        "PRAGMA temp_store = MEMORY",
        // 40 MB: a page that changes in many transactions is copied into the database once.
        "PRAGMA wal_autocheckpoint = 10000",
    ] {
        sqlx::query(pragma).fetch_all(&mut *connection).await?;
    }
    Ok(())
}

async fn postgres_lock(connection: &mut AnyConnection) -> Result<(), StoreError> {
    let started = tokio::time::Instant::now();
    loop {
        let row = sqlx::query("SELECT pg_try_advisory_lock($1) AS locked")
            .bind(BROKER_LOCK)
            .fetch_one(&mut *connection)
            .await?;
        if row.try_get::<bool, _>(0)? {
            return Ok(());
        }
        if started.elapsed() > LOCK_PATIENCE {
            return Err(StoreError::Locked(
                "another broker uses this Postgres database: stop it, or give this one a database of its own".into(),
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
