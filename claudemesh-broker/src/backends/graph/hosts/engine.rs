//! What runs a query: an engine with one graph.

use claudemesh_proto::ops::GraphResult;
use serde::{Deserialize, Serialize};

use crate::backends::graph::embedded::FileEngine;
use crate::backends::graph::{Cypher, GraphError, GraphLimits};

/// Which graph, and its bounds. Not printable: there may be a password in it.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::backends::graph) struct Setup {
    /// Where the graph is.
    pub(in crate::backends::graph) place: Place,
    /// Its bounds.
    pub(in crate::backends::graph) limits: GraphLimits,
}

/// Where a graph is.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::backends::graph) enum Place {
    /// In a file of its own.
    File(std::path::PathBuf),
    /// On a Neo4j server.
    #[cfg(feature = "neo4j")]
    Neo4j(crate::backends::graph::neo4j::Server),
}

/// A query to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::backends::graph) struct Job {
    /// The query.
    pub(in crate::backends::graph) cypher: Cypher,
    /// Whether it may change something.
    pub(in crate::backends::graph) writes: bool,
}

/// An engine with one graph. Blocking, and always on the same thread.
pub(in crate::backends::graph) trait Engine {
    /// Runs a query.
    fn run(&mut self, job: &Job) -> Result<GraphResult, GraphError>;
}

impl Setup {
    /// The engine for it. Opens nothing yet.
    pub(super) fn engine(self) -> Box<dyn Engine> {
        match self.place {
            Place::File(path) => Box::new(FileEngine::new(path, self.limits)),
            #[cfg(feature = "neo4j")]
            Place::Neo4j(server) => Box::new(crate::backends::graph::neo4j::ServerEngine::new(server, self.limits)),
        }
    }
}
