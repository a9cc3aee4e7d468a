//! Health and counters.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use claudemesh_proto::http::Health;

use super::common::internal;
use super::error::Failure;
use crate::Broker;
use crate::gateway::Gateway;

/// `GET /health`, `GET /health/ready`: whether the broker can serve, which needs a store that can be read and written.
pub(super) async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let broker = &gateway.broker;
    let up = broker.store.ping().await.is_ok() && broker.store.is_available();
    broker.metrics.set_database_up(up);
    let is_ready = up && !broker.stopping.is_cancelled();
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(health(broker, is_ready, up))).into_response()
}

/// `GET /health/live`: the process runs, whatever the state of its store.
pub(super) async fn live(State(gateway): State<Arc<Gateway>>) -> Json<Health> {
    let up = gateway.broker.store.is_available();
    Json(health(&gateway.broker, true, up))
}

/// `GET /metrics`
pub(super) async fn metrics(State(gateway): State<Arc<Gateway>>) -> Result<Response, Failure> {
    let text = gateway
        .broker
        .metrics
        .text()
        .map_err(|_| internal("metrics cannot be formatted"))?;
    Ok((
        [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        text,
    )
        .into_response())
}

fn health(broker: &Broker, is_ready: bool, up: bool) -> Health {
    Health {
        status: if is_ready { "ok" } else { "degraded" }.to_owned(),
        db: if up { "up" } else { "down" }.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_sha: broker.config.git_sha.clone(),
        uptime: broker.started.elapsed().as_secs(),
    }
}
