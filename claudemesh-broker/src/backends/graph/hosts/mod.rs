//! Engines in processes of the broker's program, or on threads, and whose turn it is.

mod engine;
mod host;
mod worker;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claudemesh_proto::model::MeshId;
use claudemesh_proto::ops::GraphResult;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub use worker::serve_if_asked;

use super::{Cypher, GraphError, GraphLimits, GraphStore};
use crate::backends::per_mesh::PerMesh;
pub(super) use engine::{Engine, Job, Place, Setup};
use host::Host;

/// How many queries of one mesh read at once.
const READERS: usize = 2;
/// How many queries of all meshes run at once.
const RUNNING: usize = 16;
/// How long an engine that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(120);
/// Bytes of the stack of an engine's thread; the engine takes more for queries that are nested deep.
const STACK: usize = 4 * 1024 * 1024;

/// The engines of all meshes.
#[derive(Debug)]
pub(super) struct Hosts {
    limits: GraphLimits,
    program: Option<PathBuf>,
    open: PerMesh<Graph>,
    running: Arc<Semaphore>,
}

/// The engines of one mesh.
#[derive(Debug)]
struct Graph {
    /// Whoever has it is the only one who writes.
    writing: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

/// Engines that do nothing.
#[derive(Debug, Default)]
struct Idle {
    writer: Option<Host>,
    readers: Vec<Host>,
}

impl Hosts {
    /// None yet.
    pub(super) fn new(limits: GraphLimits) -> Self {
        Self {
            limits,
            program: worker::program(),
            open: PerMesh::new(limits.open),
            running: Arc::new(Semaphore::new(RUNNING)),
        }
    }

    /// Engines run in processes of this program.
    pub(super) fn served_by(&mut self, program: &Path) {
        self.program = Some(program.to_owned());
    }

    /// The mesh's engines.
    fn graph(&self, mesh: &MeshId) -> Arc<Graph> {
        self.open.get(mesh, || Graph {
            writing: Arc::new(Semaphore::new(1)),
            reading: Arc::new(Semaphore::new(READERS)),
            idle: Mutex::default(),
        })
    }

    /// Runs a query in its turn. `place` says where the mesh's graph is.
    pub(super) async fn run(
        &self,
        mesh: &MeshId,
        place: impl FnOnce() -> Place,
        cypher: Cypher,
        writes: bool,
    ) -> Result<GraphResult, GraphError> {
        let graph = self.graph(mesh);
        let turn = self.turn(if writes { &graph.writing } else { &graph.reading });
        let _turn = timeout(self.limits.time, turn).await.map_err(|_| GraphError::Busy)??;
        let mut host = match graph.take(writes) {
            Some(host) => host,
            None => {
                let setup = Setup {
                    place: place(),
                    limits: self.limits,
                };
                Host::start(self.program.as_deref(), setup).await?
            }
        };
        let result = host.run(Job { cypher, writes }).await;
        if host.is_usable() {
            graph.keep(host, writes);
        }
        result
    }

    /// Waits for a turn in the mesh, in order, and then for one among all meshes.
    async fn turn(&self, kind: &Arc<Semaphore>) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), GraphError> {
        let closed = |_| GraphError::Unavailable("it is closed".to_owned());
        let turn = kind.clone().acquire_owned().await.map_err(closed)?;
        let place = self.running.clone().acquire_owned().await.map_err(closed)?;
        Ok((turn, place))
    }

    /// Ends engines that nobody has used for a while.
    pub(super) fn sweep(&self) {
        for graph in self.open.all() {
            let mut idle = graph.idle();
            idle.writer.take_if(|host| host.idle() > IDLE);
            idle.readers.retain(|host| host.idle() <= IDLE);
        }
    }

    /// Ends all engines; there will be no others.
    pub(super) fn close(&self) {
        self.running.close();
        drop(self.open.take_all());
    }
}

/// Graphs that engines serve.
pub(super) trait Hosted: fmt::Debug + Send + Sync {
    /// The engines.
    fn hosts(&self) -> &Hosts;

    /// Where the mesh's graph is.
    fn place(&self, mesh: &MeshId) -> Place;
}

impl<T: Hosted> GraphStore for T {
    fn query<'a>(&'a self, mesh: &'a MeshId, cypher: Cypher) -> BoxFuture<'a, Result<GraphResult, GraphError>> {
        self.hosts().run(mesh, || self.place(mesh), cypher, false).boxed()
    }

    fn execute<'a>(&'a self, mesh: &'a MeshId, cypher: Cypher) -> BoxFuture<'a, Result<GraphResult, GraphError>> {
        self.hosts().run(mesh, || self.place(mesh), cypher, true).boxed()
    }

    fn sweep(&self) {
        self.hosts().sweep();
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async { self.hosts().close() }.boxed()
    }
}

impl Graph {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, writes: bool) -> Option<Host> {
        let mut idle = self.idle();
        if writes { idle.writer.take() } else { idle.readers.pop() }
    }

    fn keep(&self, host: Host, writes: bool) {
        let mut idle = self.idle();
        if writes {
            idle.writer = Some(host);
        } else {
            idle.readers.push(host);
        }
    }
}
