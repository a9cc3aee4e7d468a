//! The graph of each mesh: nodes and relationships, asked and changed with Cypher.
//!
//! | | embedded | Neo4j |
//! |---|---|---|
//! | a mesh has | a file | a database (Enterprise), or a label on each of its nodes (Community) |
//! | reads | a read transaction of the engine, which refuses changes | a transaction in access mode `READ` |
//! | what runs away | its process is ended | the server ends the transaction |
//!
//! Both keep to the same [`GraphLimits`] and the same tests.

pub mod embedded;
mod error;
mod hosts;
#[cfg(feature = "neo4j")]
pub mod neo4j;
mod records;
mod values;

pub use error::GraphError;
pub use hosts::serve_if_asked;

use std::fmt;
use std::time::Duration;

use claudemesh_proto::limits::{MAX_GRAPH_RECORDS, MAX_GRAPH_RESULT_BYTES};
use claudemesh_proto::model::MeshId;
use claudemesh_proto::ops::GraphResult;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Bounds of every query and graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphLimits {
    /// How long a query may run, and how long it may wait for its turn before.
    pub time: Duration,
    /// Most records of a result.
    pub records: usize,
    /// Most bytes of a result's records as JSON.
    pub bytes: usize,
    /// Most bytes of a mesh's file (embedded).
    pub quota: u64,
    /// Most bytes of memory that a query takes (embedded, in a process of its own).
    pub memory: u64,
    /// Most graphs that are kept open (embedded), or connections (Neo4j).
    pub open: usize,
    /// Most nodes and most relationships of a mesh (Neo4j).
    pub elements: u64,
}

impl Default for GraphLimits {
    fn default() -> Self {
        Self {
            // Original clients wait five seconds.
            time: Duration::from_secs(4),
            records: MAX_GRAPH_RECORDS,
            bytes: MAX_GRAPH_RESULT_BYTES,
            quota: 256 * 1024 * 1024,
            memory: 512 * 1024 * 1024,
            open: 16,
            elements: 1_000_000,
        }
    }
}

/// A query of a member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cypher {
    /// Its text.
    pub text: String,
    /// Values of `$name`.
    pub params: Map<String, Value>,
}

/// The graphs of all meshes.
///
/// A mesh reaches its own nodes and relationships and nothing else. Changes of one mesh run one at a time; meshes do not wait
/// for each other, as long as not too many work at once.
pub trait GraphStore: fmt::Debug + Send + Sync {
    /// Runs one query that only reads. That is enforced by the engine.
    fn query<'a>(&'a self, mesh: &'a MeshId, cypher: Cypher) -> BoxFuture<'a, Result<GraphResult, GraphError>>;

    /// Runs one statement that may change the graph; all of it or nothing.
    fn execute<'a>(&'a self, mesh: &'a MeshId, cypher: Cypher) -> BoxFuture<'a, Result<GraphResult, GraphError>>;

    /// Gives back what was not used for a while.
    fn sweep(&self) {}

    /// Closes what is open.
    fn close(&self) -> BoxFuture<'_, ()>;
}
