//! Vectors: texts with their embeddings, in named collections of a mesh.
//!
//! | | embedded | Qdrant |
//! |---|---|---|
//! | a mesh has | a SQLite file | collections `mesh_<mesh id>_<name>` |
//! | a search | compares with every vector, held in memory within a limit | asks the server's index |
//!
//! Both keep to the same limits, filters and rights, and pass the same tests. A collection exists as long as it has vectors.

mod error;
mod filter;
#[cfg(feature = "qdrant")]
mod qdrant;
mod scan;
mod sqlite;
mod unit;

use std::fmt;

use claudemesh_proto::model::{MemberId, MeshId, Timestamp};
use claudemesh_proto::ops::VectorCollection;
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

pub use error::VectorError;
pub use filter::{Filter, FilterError, tags};
#[cfg(feature = "qdrant")]
pub use qdrant::QdrantVectors;
pub use sqlite::SqliteVectors;
pub use unit::UnitVector;

/// What belongs to a text, as JSON.
pub type Metadata = BTreeMap<String, Value>;

/// Bounds of every collection and search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorLimits {
    /// Most vectors of a mesh.
    pub mesh_vectors: u64,
    /// Most collections of a mesh.
    pub mesh_collections: u64,
    /// Most bytes of a mesh's file. Embedded only.
    pub quota: u64,
    /// Most bytes of vectors in memory, of all meshes; a collection must fit in it. Embedded only.
    pub memory: u64,
    /// Most files that are kept open. Embedded only.
    pub open: usize,
    /// How long a search may take, and how long any request may wait for its turn.
    pub time: Duration,
}

impl Default for VectorLimits {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            mesh_vectors: 200_000,
            mesh_collections: 200,
            quota: 4096 * MIB,
            memory: 1024 * MIB,
            open: 32,
            // Original clients wait five seconds.
            time: Duration::from_secs(4),
        }
    }
}

/// A vector to store.
#[derive(Clone, Debug, PartialEq)]
pub struct NewVector {
    /// Its id.
    pub id: Uuid,
    /// Whether a caller chose the id, so that there may be a vector with it.
    pub is_chosen: bool,
    /// Its direction.
    pub vector: UnitVector,
    /// Its text.
    pub text: String,
    /// What belongs to the text.
    pub metadata: Metadata,
    /// What of it searches can filter by: [`tags`] of `metadata`.
    pub tags: Vec<String>,
    /// Name of the member that stores it.
    pub by_name: String,
    /// When.
    pub at: Timestamp,
}

/// Who stores or deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The member.
    pub member: MemberId,
    /// Whether it may change what others stored.
    pub manages: bool,
    /// Members whose vectors it must not learn of.
    pub hidden: Vec<MemberId>,
}

impl Actor {
    /// Whether it may replace or delete what `author` stored. An author that it must not learn of has stored nothing.
    pub(crate) fn may_change(&self, author: &MemberId, name: &str) -> Result<(), VectorError> {
        if self.manages || self.member == *author {
            Ok(())
        } else if self.hidden.contains(author) {
            Err(VectorError::NoVector)
        } else {
            Err(VectorError::NotYours {
                by_name: name.to_owned(),
            })
        }
    }
}

/// What was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whether it replaced a vector.
    pub replaced: bool,
}

/// What to search for.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The direction.
    pub vector: UnitVector,
    /// Most results.
    pub limit: usize,
    /// Which vectors count.
    pub filter: Filter,
    /// Members whose vectors do not count.
    pub hidden: Vec<MemberId>,
}

/// One result.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Id of the vector.
    pub id: Uuid,
    /// Cosine of the angle to the query, from -1 to 1.
    pub score: f32,
    /// Its text.
    pub text: String,
    /// Its metadata.
    pub metadata: Metadata,
    /// The member that stored it.
    pub by_member: MemberId,
    /// The name that this member had.
    pub by_name: String,
    /// When.
    pub at: Timestamp,
}

/// The vectors of all meshes.
///
/// A mesh reaches its own collections and nothing else. What is stored is on disk, and found by the next search.
pub trait VectorBackend: fmt::Debug + Send + Sync {
    /// What keeps the vectors: `sqlite` or `qdrant`.
    fn engine(&self) -> &'static str;

    /// Stores a vector; the first one creates its collection. Of several first ones that come at once, the dimension of
    /// exactly one counts.
    fn store<'a>(
        &'a self,
        mesh: &'a MeshId,
        collection: &'a str,
        new: NewVector,
        actor: &'a Actor,
    ) -> BoxFuture<'a, Result<Stored, VectorError>>;

    /// The vectors closest to the query among those that the filter lets through, closest first.
    fn search<'a>(
        &'a self,
        mesh: &'a MeshId,
        collection: &'a str,
        query: Query,
    ) -> BoxFuture<'a, Result<Vec<Hit>, VectorError>>;

    /// Deletes a vector, and with the last one its collection.
    fn delete<'a>(
        &'a self,
        mesh: &'a MeshId,
        collection: &'a str,
        id: Uuid,
        actor: &'a Actor,
    ) -> BoxFuture<'a, Result<(), VectorError>>;

    /// The collections with vectors of members that are not hidden, by name. Creates nothing.
    fn collections<'a>(
        &'a self,
        mesh: &'a MeshId,
        hidden: &'a [MemberId],
    ) -> BoxFuture<'a, Result<Vec<VectorCollection>, VectorError>>;

    /// Closes what is open.
    fn close(&self) -> BoxFuture<'_, ()>;
}
