//! From settings to a running broker, and its graceful end.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backends::blob::{BlobStore, DirectoryBlobs};
use crate::backends::embedder::{EmbedError, Embedder, HttpEmbedder};
use crate::backends::graph::GraphStore;
use crate::backends::graph::embedded::GraphFiles;
use crate::backends::mesh_file;
use crate::backends::sql::postgres::PostgresSql;
use crate::backends::sql::sqlite::SqliteSql;
use crate::backends::sql::{SharedSql, SqlError};
use crate::backends::vector::{SqliteVectors, VectorBackend};
use crate::broker::now_ms;
use crate::cluster::InProcess;
use crate::config::{Config, ConfigError, DatabaseUrl, SharedSqlEngine};
use crate::features;
use crate::files::Files;
use crate::gateway::Gateway;
use crate::hub::{self, Hub};
use crate::metrics::Metrics;
use crate::outbound::CloseReason;
use crate::relay::Relay;
use crate::security::broker_key::{BrokerKey, BrokerKeyError};
use crate::security::rate_limit::RateLimiter;
use crate::security::replay::ReplayGuard;
use crate::store::{CommitStats, Store, StoreError, StoreOptions};
use crate::{Broker, door, http, jobs};

/// How often buckets are swept and the store is looked after.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// How often a store that is lost is tried.
const PROBE: Duration = Duration::from_millis(500);

/// Why a broker did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another program listens there.
    #[error("{0} is in use by another program; stop it, or choose another port with BROKER_PORT")]
    PortInUse(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory {path}: {source}; choose another one with BROKER_DATA_DIR")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The settings are for another build.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The broker's key cannot be used.
    #[error(transparent)]
    Key(#[from] BrokerKeyError),
    /// The store for files cannot be used.
    #[error("cannot use the store for files: {0}")]
    Blobs(String),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The shared databases cannot be used.
    #[error(transparent)]
    SharedSql(#[from] SqlError),
    /// The vectors cannot be used.
    #[error("cannot use the vectors: {0}")]
    Vectors(String),
    /// The embedder cannot be used.
    #[error(transparent)]
    Embedder(#[from] EmbedError),
}

/// A broker that listens. Dropping it stops it without waiting; [`RunningBroker::shutdown`] is graceful.
#[derive(Debug)]
pub struct RunningBroker {
    /// The broker.
    pub broker: Arc<Broker>,
    /// Where it listens.
    pub addr: SocketAddr,
    server: JoinHandle<()>,
}

impl Broker {
    /// Opens the store and listens.
    ///
    /// # Errors
    /// [`StartError`], with nothing left running.
    pub async fn start(config: Config) -> Result<RunningBroker, StartError> {
        let address = SocketAddr::new(config.host, config.port);
        // First what fails most often, and is cheapest to undo.
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => StartError::PortInUse(address),
            _ => StartError::Bind { address, source },
        })?;
        let addr = listener
            .local_addr()
            .map_err(|source| StartError::Bind { address, source })?;
        make_directory(&config.data_dir)?;
        let key = match &config.encryption_key {
            Some(key) => BrokerKey::from_bytes(key),
            None => BrokerKey::load_or_create(&config.data_dir)?,
        };
        let metrics = Arc::new(Metrics::new(&config.git_sha));
        let store = open_store(&config, metrics.clone()).await?;
        metrics.set_database_up(true);
        let sql = open_shared_sql(&config)?;
        let vectors = open_vectors(&config)?;
        let embedder = open_embedder(&config)?;
        let graph = open_graphs(&config)?;
        let hub = Arc::new(Hub::default());
        let blobs = open_blobs(&config)?;
        let url_key = key.derive(b"claudemesh/file-url/1");
        let files = Files::new(blobs, url_key, config.link_base(addr));
        let broker = Arc::new(Self {
            store,
            sql,
            vectors,
            embedder,
            graph,
            fanout: Box::new(InProcess::new(hub.clone())),
            hub,
            files,
            relay: Relay::default(),
            metrics,
            limiter: RateLimiter::new(config.rate_limits),
            replay: ReplayGuard::default(),
            started: Instant::now(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config,
        });
        jobs::start(&broker);
        broker.tasks.spawn(keep_house(broker.clone()));
        let router = http::router(Arc::new(Gateway::new(broker.clone(), addr, key)));
        let server = tokio::spawn(door::serve(listener, router, broker.clone()));
        tracing::info!(address = %addr, features = features::listed(), "listening");
        Ok(RunningBroker { broker, addr, server })
    }
}

impl RunningBroker {
    /// Address for clients on this machine.
    #[must_use]
    pub fn websocket_url(&self) -> String {
        self.broker.config.websocket_url(self.addr)
    }

    /// Stops gracefully: no new connections, clients are told and closed with 1001, what was accepted is on disk.
    /// Takes at most the configured time, plus what the store needs for its last commit.
    pub async fn shutdown(mut self) {
        let broker = self.broker.clone();
        tracing::info!("stopping");
        broker.stopping.cancel();
        broker.tasks.close();
        let farewell = async {
            while !broker.tasks.is_empty() {
                // Again and again: a handshake may have been under way.
                hub::close_all(&broker, CloseReason::ShuttingDown);
                let _all_done = timeout(Duration::from_millis(100), broker.tasks.wait()).await;
            }
            let _ended = (&mut self.server).await;
        };
        if timeout(broker.config.shutdown_timeout, farewell).await.is_err() {
            tracing::warn!("some connections did not end in time");
            self.server.abort();
        }
        broker.sql.close().await;
        broker.vectors.close().await;
        broker.graph.close().await;
        broker.store.close().await;
        tracing::info!("stopped");
    }
}

impl Drop for RunningBroker {
    fn drop(&mut self) {
        self.broker.stopping.cancel();
    }
}

fn make_directory(path: &Path) -> Result<(), StartError> {
    mesh_file::make_directory(path).map_err(|source| StartError::DataDir {
        path: path.to_owned(),
        source,
    })
}

/// For settings that a program has made itself; those of the environment are refused as they are read.
#[cfg(not(all(feature = "neo4j", feature = "qdrant", feature = "s3")))]
fn missing(variable: &'static str, feature: &'static str) -> StartError {
    ConfigError::Feature { variable, feature }.into()
}

/// Where the bytes of shared files are.
fn open_blobs(config: &Config) -> Result<Arc<dyn BlobStore>, StartError> {
    match config.files.s3.clone() {
        None => Ok(Arc::new(DirectoryBlobs::new(config.data_dir.join("files")))),
        #[cfg(feature = "s3")]
        Some(settings) => {
            let blobs = crate::backends::blob::S3Blobs::new(settings);
            Ok(Arc::new(blobs.map_err(|error| StartError::Blobs(error.to_string()))?))
        }
        #[cfg(not(feature = "s3"))]
        Some(_) => Err(missing("S3_ENDPOINT", "s3")),
    }
}

async fn open_store(config: &Config, metrics: Arc<Metrics>) -> Result<Store, StoreError> {
    let url = match &config.database_url {
        Some(url) => url.clone(),
        None => DatabaseUrl::from(format!("sqlite:{}", config.data_dir.join("claudemesh.db").display()).as_str()),
    };
    let on_commit = move |stats: &CommitStats| metrics.committed(stats.writes, stats.commit);
    let options = StoreOptions {
        on_commit: Some(Arc::new(on_commit)),
        ..StoreOptions::default()
    };
    Store::open_with(url.expose(), options).await
}

fn open_shared_sql(config: &Config) -> Result<Box<dyn SharedSql>, StartError> {
    let server = config.database_url.as_ref().filter(|url| url.is_postgres());
    let limits = config.shared_sql_limits;
    match (config.shared_sql, server) {
        (None | Some(SharedSqlEngine::Postgres), Some(url)) => Ok(Box::new(PostgresSql::new(url.expose(), limits)?)),
        _ => {
            let path = config.data_dir.join("sql");
            let databases = SqliteSql::new(&path, limits).map_err(|source| StartError::DataDir { path, source })?;
            Ok(Box::new(databases))
        }
    }
}

/// Where vectors are.
fn open_vectors(config: &Config) -> Result<Box<dyn VectorBackend>, StartError> {
    let limits = config.vectors.limits;
    match &config.vectors.qdrant {
        None => {
            let path = config.data_dir.join("vectors");
            let vectors = SqliteVectors::new(&path, limits).map_err(|source| StartError::DataDir { path, source })?;
            Ok(Box::new(vectors))
        }
        #[cfg(feature = "qdrant")]
        Some(settings) => {
            let vectors = crate::backends::vector::QdrantVectors::new(settings, limits);
            Ok(Box::new(
                vectors.map_err(|error| StartError::Vectors(error.to_string()))?,
            ))
        }
        #[cfg(not(feature = "qdrant"))]
        Some(_) => Err(missing("QDRANT_URL", "qdrant")),
    }
}

fn open_embedder(config: &Config) -> Result<Option<Box<dyn Embedder>>, StartError> {
    let Some(settings) = config.vectors.embedder.clone() else {
        return Ok(None);
    };
    Ok(Some(Box::new(HttpEmbedder::new(settings)?)))
}

fn open_graphs(config: &Config) -> Result<Box<dyn GraphStore>, StartError> {
    match config.graph.neo4j.clone() {
        None => {
            let path = config.data_dir.join("graph");
            let graphs = GraphFiles::new(&path, config.graph.limits);
            Ok(Box::new(graphs.map_err(|source| StartError::DataDir { path, source })?))
        }
        #[cfg(feature = "neo4j")]
        Some(settings) => {
            let graphs = crate::backends::graph::neo4j::Neo4jGraphs::new(settings, config.graph.limits);
            Ok(Box::new(graphs))
        }
        #[cfg(not(feature = "neo4j"))]
        Some(_) => Err(missing("NEO4J_URL", "neo4j")),
    }
}

/// Forgets idle buckets and looks whether the store works; when it is lost, until it is there again.
async fn keep_house(broker: Arc<Broker>) {
    loop {
        tokio::select! {
            () = broker.stopping.cancelled() => return,
            () = broker.store.lost() => until_found(&broker).await,
            () = sleep(HOUSEKEEPING) => {
                broker.limiter.sweep(now_ms());
                broker.graph.sweep();
                // What fails here is told by the branch above.
                let _lost = broker.store.probe().await;
            }
        }
    }
}

async fn until_found(broker: &Arc<Broker>) {
    broker.metrics.set_database_up(false);
    tracing::warn!("the store is lost: requests that need it are refused until it can be read and written again");
    let began = Instant::now();
    let mut told = began;
    while let Err(error) = broker.store.probe().await {
        if told.elapsed() >= HOUSEKEEPING {
            told = Instant::now();
            tracing::warn!(%error, seconds = began.elapsed().as_secs(), "the store is still lost");
        }
        tokio::select! {
            () = broker.stopping.cancelled() => return,
            () = sleep(PROBE) => {}
        }
    }
    broker.metrics.set_database_up(true);
    tracing::info!(seconds = began.elapsed().as_secs_f32(), "the store is there again");
    hub::read_again(broker);
}
