//! Failed requests.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use claudemesh_proto::http::HttpError;
use claudemesh_proto::{ErrorCode, ErrorFrame};

use crate::errors::ToErrorFrame as _;
use crate::store::StoreError;

/// The answer to a request that failed: the original's two members, and the typed error.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    body: HttpError,
}

impl Failure {
    /// A failure with a word or text of the original's, and what it is for programs and people of ours.
    pub(crate) fn new(status: StatusCode, error: &str, code: ErrorCode, message: impl Into<String>) -> Self {
        let body = HttpError {
            ok: false,
            error: error.to_owned(),
            code: Some(code),
            message: Some(message.into()),
            retry_after_ms: None,
        };
        Self { status, body }
    }

    /// A failure with the status of its code.
    pub(crate) fn of(code: ErrorCode, message: impl Into<String>) -> Self {
        ErrorFrame::new(code, message).into()
    }

    /// The same failure under a word of the original's.
    pub(crate) fn named(mut self, error: &str) -> Self {
        error.clone_into(&mut self.body.error);
        self
    }

    /// Says how long to wait.
    pub(crate) fn retry_after(mut self, ms: u64) -> Self {
        self.body.retry_after_ms = Some(ms);
        self
    }
}

impl From<ErrorFrame> for Failure {
    fn from(frame: ErrorFrame) -> Self {
        let status = StatusCode::from_u16(frame.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = HttpError {
            ok: false,
            error: frame.message.clone(),
            code: Some(frame.code),
            message: Some(frame.message),
            retry_after_ms: frame.retry_after_ms,
        };
        Self { status, body }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        error.to_error_frame().into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let seconds = self.body.retry_after_ms.map(|ms| ms.div_ceil(1_000).to_string());
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(value) = seconds.and_then(|seconds| seconds.parse().ok()) {
            response.headers_mut().insert(axum::http::header::RETRY_AFTER, value);
        }
        response
    }
}
