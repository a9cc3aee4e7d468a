//! Why a vector was not stored, found or deleted.

use std::time::Duration;

use claudemesh_proto::{ErrorCode, ErrorFrame};

use super::VectorLimits;

/// Why a vector was not stored, found or deleted. Texts are for the member that asks: nothing of other meshes or the broker
/// is in them, except where noted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// There is no such collection.
    #[error("there is no collection {0:?} in this mesh; its first vector_store creates it")]
    NoCollection(String),
    /// There is no such vector.
    #[error("there is no vector with this id in the collection: use the whole id that vector_search shows")]
    NoVector,
    /// The vector has another length than those of the collection.
    #[error(
        "the collection {collection:?} holds vectors of {expected} dimensions, this one has {found}; use the same model \
        as for the others, or another collection"
    )]
    Dimension {
        /// Name of the collection.
        collection: String,
        /// Length of its vectors.
        expected: usize,
        /// Length of this one.
        found: usize,
    },
    /// Somebody else stored it.
    #[error("{by_name} stored this vector: only its author and the mesh's owner and admins may replace or delete it")]
    NotYours {
        /// Name of the author.
        by_name: String,
    },
    /// A limit is reached. The text names it and what to do.
    #[error("{0}")]
    Limit(String),
    /// Others are in the way.
    #[error("the mesh's vectors are busy with other requests; try again")]
    Busy,
    /// The search took too long.
    #[error("the search was stopped after {} ms; filter, or use smaller collections", .0.as_millis())]
    Timeout(Duration),
    /// The backend cannot be used right now. The text is for the operator's log.
    #[error("the vectors cannot be used: {0}")]
    Unavailable(String),
}

impl VectorError {
    /// One more vector than a mesh may have.
    pub(super) fn too_many_vectors(limits: &VectorLimits) -> Self {
        Self::Limit(format!(
            "the mesh holds {} vectors, which is its limit; delete what is not needed, or ask the operator to raise \
             MAX_VECTORS_PER_MESH",
            limits.mesh_vectors
        ))
    }

    /// One more collection than a mesh may have.
    pub(super) fn too_many_collections(limits: &VectorLimits) -> Self {
        Self::Limit(format!(
            "the mesh has {} vector collections, which is its limit; use one of them, or ask the operator to raise \
             MAX_VECTOR_COLLECTIONS_PER_MESH",
            limits.mesh_collections
        ))
    }

    /// The error of somebody who chose an id that is taken, also by a member of whom it must not learn.
    pub(super) fn taken(self) -> Self {
        match self {
            Self::NoVector => Self::NotYours {
                by_name: "another member".to_owned(),
            },
            error => error,
        }
    }

    /// The error as a member gets it.
    #[must_use]
    pub fn to_frame(&self) -> ErrorFrame {
        let text = self.to_string();
        match self {
            Self::NoCollection(_) => ErrorFrame::new(ErrorCode::NotFound, text).at("/collection"),
            Self::NoVector => ErrorFrame::new(ErrorCode::NotFound, text).at("/id"),
            Self::Dimension { .. } => ErrorFrame::new(ErrorCode::VectorError, text).at("/vector"),
            Self::NotYours { .. } => ErrorFrame::new(ErrorCode::Forbidden, text).at("/id"),
            Self::Limit(_) => ErrorFrame::new(ErrorCode::TooLarge, text),
            Self::Busy => ErrorFrame::new(ErrorCode::Unavailable, text).retry_after(500),
            Self::Timeout(_) => {
                let mut frame = ErrorFrame::new(ErrorCode::Timeout, text);
                // It would take as long again.
                frame.retryable = false;
                frame
            }
            Self::Unavailable(problem) => {
                tracing::warn!(problem, "the vectors cannot be used");
                let text = "the broker cannot use its vectors right now; its log says why";
                ErrorFrame::new(ErrorCode::Unavailable, text).retry_after(1_000)
            }
        }
    }
}
