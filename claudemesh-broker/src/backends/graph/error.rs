//! Why a query was not run.

use std::time::Duration;

use claudemesh_proto::{ErrorCode, ErrorFrame};
use serde::{Deserialize, Serialize};

/// Why a query of a member was not run. Texts are for that member: nothing of other meshes or the broker is in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The query is wrong: syntax, unknown names, values that do not fit. The text says where.
    #[error("{0}")]
    Query(String),
    /// A parameter cannot be used.
    #[error("{problem}")]
    Param {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The query asks for what is not for members.
    #[error("{0}")]
    Forbidden(String),
    /// The query ran too long and was stopped; nothing was changed.
    #[error("the query was stopped after {} ms; ask for less", .0.as_millis())]
    Timeout(Duration),
    /// The query waited too long for others.
    #[error("the mesh's graph is busy with other queries; try again")]
    Busy,
    /// The result or a value is too large, or the query needs too much on its way.
    #[error("{0}")]
    TooLarge(String),
    /// The mesh's graph has reached its limit.
    #[error("the mesh's graph has reached its limit of {0}; delete what is not needed")]
    Full(String),
    /// The graph cannot be used right now. The text is for the operator's log.
    #[error("the graph cannot be used: {0}")]
    Unavailable(String),
}

impl GraphError {
    /// That a query of the reading kind would change something.
    pub(super) fn read_only() -> Self {
        Self::Forbidden("graph_query only reads; use graph_execute for changes".to_owned())
    }

    /// The error as a member gets it.
    #[must_use]
    pub fn to_frame(&self) -> ErrorFrame {
        let text = self.to_string();
        match self {
            Self::Query(_) => ErrorFrame::new(ErrorCode::GraphError, text).at("/cypher"),
            Self::Param { name, .. } => ErrorFrame::new(ErrorCode::GraphError, text).at(format!("/params/{name}")),
            Self::Forbidden(_) => ErrorFrame::new(ErrorCode::Forbidden, text).at("/cypher"),
            Self::Timeout(_) => {
                let mut frame = ErrorFrame::new(ErrorCode::Timeout, text).at("/cypher");
                // It would take as long again.
                frame.retryable = false;
                frame
            }
            Self::Busy => ErrorFrame::new(ErrorCode::Unavailable, text).retry_after(500),
            Self::TooLarge(_) | Self::Full(_) => ErrorFrame::new(ErrorCode::TooLarge, text).at("/cypher"),
            Self::Unavailable(problem) => {
                tracing::warn!(problem, "a graph cannot be used");
                let text = "the graph cannot be used right now; the broker's log says why";
                ErrorFrame::new(ErrorCode::Unavailable, text).retry_after(1_000)
            }
        }
    }
}
