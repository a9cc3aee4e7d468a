//! Errors of the client.

use claudemesh_proto::{ErrorCode, ErrorFrame, OperationMeta};
use std::borrow::Cow;
use std::time::Duration;
use thiserror::Error;

/// Why a call failed. [`ClientError::code`] is the same closed set as on the wire.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The broker refused, or this client did with the same codes (`no_such_peer`, `ambiguous_target`).
    #[error("{0}")]
    Refused(Box<ErrorFrame>),
    /// There is no connection, and none came up in time.
    #[error("not connected to the broker: {reason}")]
    NotConnected {
        /// Why.
        reason: String,
        /// Whether the request may have reached the broker before the connection was lost.
        sent: bool,
    },
    /// No answer in time. The request may have taken effect.
    #[error("{what}: no answer within {} ms", .after.as_millis())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// The outbox is full: the broker acknowledges slower than the program sends, or is away.
    #[error("the outbox holds {capacity} messages that the broker has not acknowledged; wait until some are")]
    QueueFull {
        /// How many messages it holds.
        capacity: usize,
    },
    /// The client was closed by the program.
    #[error("the client is closed")]
    Closed,
    /// Sealing, opening or a signature failed.
    #[error("{message}")]
    Crypto {
        /// What failed, and what to do.
        message: String,
    },
    /// The broker's HTTP side could not be reached, or answered with no error of ours.
    #[error("{message}")]
    Http {
        /// Status of the answer, if there was one.
        status: Option<u16>,
        /// What failed.
        message: String,
    },
    /// An argument is missing, unknown or out of range.
    #[error("{field}: {message}")]
    InvalidArgument {
        /// The argument.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The broker sent something that does not have its documented shape.
    #[error("unexpected answer of the broker: {message}")]
    Protocol {
        /// What was unexpected.
        message: String,
    },
    /// The directory of a persistent client is in use, belongs to somebody else, or cannot be written.
    #[error("{message}")]
    Journal {
        /// What is wrong, and what to do.
        message: String,
        /// Whether it may work later: the disk is full.
        retryable: bool,
    },
    /// The broker is of an older version that does not serve this.
    #[error("this broker does not serve {what} (it speaks protocol 1); ask its operator to update it")]
    Unsupported {
        /// What was asked of it.
        what: String,
    },
}

impl ClientError {
    /// What went wrong, for programs.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(frame) => frame.code.clone(),
            Self::NotConnected { .. } | Self::Closed => ErrorCode::NotConnected,
            Self::Timeout { .. } => ErrorCode::Timeout,
            Self::QueueFull { .. } => ErrorCode::QueueFull,
            Self::InvalidArgument { .. } => ErrorCode::InvalidRequest,
            Self::Unsupported { .. } => ErrorCode::UnknownType,
            Self::Crypto { .. } | Self::Protocol { .. } => ErrorCode::Internal,
            Self::Journal { retryable: true, .. } => ErrorCode::Unavailable,
            Self::Journal { retryable: false, .. } => ErrorCode::Conflict,
            Self::Http { status, .. } => match status {
                None | Some(500..=599) => ErrorCode::Unavailable,
                Some(401) => ErrorCode::Unauthorized,
                Some(403) => ErrorCode::Forbidden,
                Some(404) => ErrorCode::NotFound,
                Some(409) => ErrorCode::Conflict,
                Some(429) => ErrorCode::RateLimited,
                Some(_) => ErrorCode::InvalidRequest,
            },
        }
    }

    /// What went wrong, for people, without the code.
    #[must_use]
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Self::Refused(frame) => Cow::Borrowed(&frame.message),
            other => Cow::Owned(other.to_string()),
        }
    }

    /// Whether the same call may succeed later without being changed.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Refused(frame) => frame.retryable,
            Self::Closed => false,
            Self::Journal { retryable, .. } => *retryable,
            other => other.code().is_retryable(),
        }
    }

    /// How long the broker asks to wait before the next try.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(frame) => frame.retry_after_ms.map(Duration::from_millis),
            _ => None,
        }
    }

    /// Names that the caller may have meant.
    #[must_use]
    pub fn suggestions(&self) -> &[String] {
        match self {
            Self::Refused(frame) => &frame.suggestions,
            _ => &[],
        }
    }

    /// Exit code of a command that ends with this error: see [`ErrorCode::exit_code`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.code().exit_code()
    }

    /// Whether connecting again is of no use.
    #[must_use]
    pub(crate) fn is_permanent_refusal(&self) -> bool {
        let Self::Refused(frame) = self else { return false };
        matches!(
            frame.code,
            ErrorCode::Unauthorized
                | ErrorCode::Revoked
                | ErrorCode::Archived
                | ErrorCode::BadSignature
                | ErrorCode::Malformed
                | ErrorCode::WrongOrigin
                | ErrorCode::InvalidRequest
        )
    }

    /// An error with a wire code, made by this client.
    pub(crate) fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Refused(Box::new(ErrorFrame::new(code, message)))
    }

    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidArgument {
            field: field.into(),
            message: message.into(),
        }
    }

    pub(crate) fn crypto(error: impl std::fmt::Display) -> Self {
        Self::Crypto {
            message: error.to_string(),
        }
    }

    pub(crate) fn not_connected(reason: impl Into<String>) -> Self {
        Self::NotConnected {
            reason: reason.into(),
            sent: false,
        }
    }

    pub(crate) fn unserializable(meta: &OperationMeta, error: &serde_json::Error) -> Self {
        Self::invalid(meta.name, format!("cannot be written as JSON: {error}"))
    }

    pub(crate) fn bad_reply(meta: &OperationMeta, error: &serde_json::Error) -> Self {
        Self::Protocol {
            message: format!("{}: {error}", meta.reply_type),
        }
    }
}

impl From<ErrorFrame> for ClientError {
    fn from(frame: ErrorFrame) -> Self {
        Self::Refused(Box::new(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_exit_codes_follow_the_table() {
        let error = ClientError::from(ErrorFrame::new(ErrorCode::RateLimited, "slow down").retry_after(250));
        assert!(error.retryable());
        assert_eq!(error.retry_after(), Some(Duration::from_millis(250)));
        assert_eq!(error.exit_code(), ErrorCode::RateLimited.exit_code());
        assert_eq!(ClientError::invalid("to", "is empty").code(), ErrorCode::InvalidRequest);
        assert!(!ClientError::Closed.retryable());
    }
}
