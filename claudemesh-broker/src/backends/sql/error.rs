//! Why a statement was not run.

use std::time::Duration;

use claudemesh_proto::{ErrorCode, ErrorFrame};

/// Why a statement of a member was not run. Texts are for that member: nothing of other meshes or the broker is in them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// The statement is wrong: syntax, unknown tables, broken constraints.
    #[error("{0}")]
    Statement(String),
    /// The statement asks for what is not for members.
    #[error("{0}")]
    Forbidden(String),
    /// The statement ran too long and was stopped; nothing was changed.
    #[error("the statement was stopped after {} ms; ask for less, or create an index", .0.as_millis())]
    Timeout(Duration),
    /// The statement waited too long for others.
    #[error("the mesh's database is busy with other statements; try again")]
    Busy,
    /// The result or a value is too large.
    #[error("{0}")]
    TooLarge(String),
    /// The mesh's database has reached its quota.
    #[error("the mesh's database has reached its limit of {} MiB; delete what is not needed", .0 / 1024 / 1024)]
    Full(u64),
    /// The database cannot be used right now. The text is for the operator's log.
    #[error("the shared database cannot be used: {0}")]
    Unavailable(String),
}

impl SqlError {
    /// The error as a member gets it; `refused` is the code for statements that are wrong.
    #[must_use]
    pub fn to_frame(&self, refused: ErrorCode) -> ErrorFrame {
        let text = self.to_string();
        match self {
            Self::Statement(_) => ErrorFrame::new(refused, text).at("/sql"),
            Self::Forbidden(_) => ErrorFrame::new(ErrorCode::Forbidden, text).at("/sql"),
            Self::Timeout(_) => {
                let mut frame = ErrorFrame::new(ErrorCode::Timeout, text).at("/sql");
                // It would take as long again.
                frame.retryable = false;
                frame
            }
            Self::Busy => ErrorFrame::new(ErrorCode::Unavailable, text).retry_after(500),
            Self::TooLarge(_) | Self::Full(_) => ErrorFrame::new(ErrorCode::TooLarge, text).at("/sql"),
            Self::Unavailable(problem) => {
                tracing::warn!(problem, "a shared database cannot be used");
                let text = "the shared database cannot be used right now; the broker's log says why";
                ErrorFrame::new(ErrorCode::Unavailable, text).retry_after(1_000)
            }
        }
    }
}
