//! Status reports of host programs' hooks.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::http::HookStatus;
use serde_json::Value;

use super::body::{read_value, typed};
use super::common::limited;
use super::error::Failure;
use crate::broker::now_ms;
use crate::gateway::Gateway;
use crate::hub;
use crate::security::signed::Signed;

/// `POST /hook/set-status`: changes sessions of the member whose key signed, and of nobody else.
pub(super) async fn set_status(State(gateway): State<Arc<Gateway>>, signed: Signed) -> Result<Response, Failure> {
    let broker = &gateway.broker;
    broker.metrics.hook_received();
    let value = read_value(signed.body())?;
    let is_given = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty())
    };
    if !is_given("cwd") || !is_given("status") {
        // The original's hooks are answered with 200 whatever they send.
        let failure = Failure::new(
            StatusCode::OK,
            "cwd and status required",
            ErrorCode::InvalidRequest,
            "a report names the session's directory and its status",
        );
        return Ok(failure.into_response());
    }
    let report: HookStatus = typed(value)?;
    if broker.store.members_with_key(&signed.key).await?.is_empty() {
        return Err(Failure::of(
            ErrorCode::Unauthorized,
            "the signing key is not a member of any mesh here",
        ));
    }
    let bucket = format!("{}:{}:{}", signed.key, report.pid.unwrap_or_default(), report.cwd);
    broker
        .limiter
        .check_key("hook", &bucket, broker.config.hook_rate, now_ms())
        .map_err(|refused| {
            broker.metrics.hook_limited();
            limited(refused)
        })?;
    signed.take(broker)?;
    Ok(Json(hub::hook_status(broker, &signed.key, report).await?).into_response())
}
