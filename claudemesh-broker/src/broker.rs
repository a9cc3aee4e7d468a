//! The broker as a whole: its settings, store, live meshes and counters.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backends::embedder::Embedder;
use crate::backends::graph::GraphStore;
use crate::backends::sql::SharedSql;
use crate::backends::vector::VectorBackend;
use crate::cluster::Fanout;
use crate::config::Config;
use crate::files::Files;
use crate::hub::Hub;
use crate::mesh::Now;
use crate::metrics::Metrics;
use crate::relay::Relay;
use crate::security::rate_limit::RateLimiter;
use crate::security::replay::ReplayGuard;
use crate::store::Store;

/// Everything that handlers share.
pub struct Broker {
    /// Settings.
    pub config: Config,
    /// The relational store.
    pub store: Store,
    /// Live meshes.
    pub hub: Arc<Hub>,
    /// Carries the events of streams.
    pub fanout: Box<dyn Fanout>,
    /// The shared SQL databases.
    pub sql: Box<dyn SharedSql>,
    /// Vectors.
    pub vectors: Box<dyn VectorBackend>,
    /// Makes vectors from texts.
    pub embedder: Option<Box<dyn Embedder>>,
    /// The graphs of meshes.
    pub graph: Box<dyn GraphStore>,
    /// Shared files.
    pub files: Files,
    /// Questions of sessions to each other.
    pub relay: Relay,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Limits per member and class.
    pub limiter: RateLimiter,
    /// Proofs that were used already.
    pub replay: ReplayGuard,
    /// When the process started.
    pub started: Instant,
    /// Cancelled when the broker stops.
    pub stopping: CancellationToken,
    /// Tasks that must end before the process does.
    pub tasks: TaskTracker,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The time by both clocks: for the rules of `mesh`.
#[must_use]
pub fn now() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    Now {
        wall_ms: now_ms(),
        steady_ms: i64::try_from(START.elapsed().as_millis()).unwrap_or(i64::MAX),
    }
}

/// Milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
