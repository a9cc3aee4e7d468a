//! From the store's errors to errors that cross the wire.

use claudemesh_proto::{ErrorCode, ErrorFrame};

use crate::store::StoreError;

/// Says what a caller may know of an error.
pub(crate) trait ToErrorFrame {
    /// The error as a frame: details of the database stay in the log.
    fn to_error_frame(&self) -> ErrorFrame;
}

impl ToErrorFrame for StoreError {
    fn to_error_frame(&self) -> ErrorFrame {
        match self {
            Self::QueueFull => ErrorFrame::new(
                ErrorCode::QueueFull,
                "the broker's write queue is full; try again when earlier requests are answered",
            )
            .retry_after(250),
            Self::Conflict(text) => ErrorFrame::new(ErrorCode::Conflict, text.clone()),
            Self::NotFound(what) => ErrorFrame::new(ErrorCode::NotFound, format!("{what} does not exist in this mesh")),
            Self::Limit(text) => ErrorFrame::new(ErrorCode::TooLarge, text.clone()),
            error if error.is_retryable() => {
                // That the store is lost is told once, not for each request.
                tracing::debug!(%error, "the store is not available");
                ErrorFrame::new(
                    ErrorCode::Unavailable,
                    "the broker cannot reach its store; try again in a moment",
                )
                .retry_after(1000)
            }
            error => {
                tracing::error!(%error, "the store failed");
                ErrorFrame::new(ErrorCode::Internal, "the broker could not do this; its log says why")
            }
        }
    }
}
