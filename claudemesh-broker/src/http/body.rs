//! Bodies of requests: bounded in size and time, and checked against their schema.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::StatusCode;
use claudemesh_proto::ErrorCode;
use claudemesh_proto::limits::MAX_HTTP_BODY_BYTES;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::error::Failure;
use crate::gateway::{Schema, read};

/// How long a client may take to send its body.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Reads a body.
///
/// # Errors
/// `too_large`, `timeout`.
pub(crate) async fn read_body(body: Body) -> Result<Bytes, Failure> {
    let read = timeout(TIMEOUT, to_bytes(body, MAX_HTTP_BODY_BYTES)).await;
    let read = read.map_err(|_| {
        Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            ErrorCode::Timeout,
            "the body did not arrive in time",
        )
    })?;
    read.map_err(|_| {
        let message = format!("a body has at most {MAX_HTTP_BODY_BYTES} bytes");
        Failure::of(ErrorCode::TooLarge, message).named("payload too large")
    })
}

/// Any JSON.
///
/// # Errors
/// `malformed`.
pub(crate) fn read_value(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::of(ErrorCode::Malformed, format!("the body is not JSON: {error}")))
}

/// JSON of this type, checked against its schema.
///
/// # Errors
/// `malformed`, `invalid_request`.
pub(crate) fn read_json<T: DeserializeOwned + JsonSchema + 'static>(body: &[u8]) -> Result<T, Failure> {
    typed(read_value(body)?)
}

/// A value of this type, checked against its schema.
///
/// # Errors
/// `invalid_request`.
pub(crate) fn typed<T: DeserializeOwned + JsonSchema + 'static>(value: Value) -> Result<T, Failure> {
    schema::<T>().check(&value)?;
    Ok(read(value)?)
}

/// The schema of a type, compiled on first use.
fn schema<T: JsonSchema + 'static>() -> Arc<Schema> {
    static SCHEMAS: OnceLock<Mutex<HashMap<TypeId, Arc<Schema>>>> = OnceLock::new();
    let mut schemas = SCHEMAS
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    schemas
        .entry(TypeId::of::<T>())
        .or_insert_with(|| Arc::new(Schema::of::<T>()))
        .clone()
}
