//! One handler per operation, one file per family.
//!
//! A handler is `impl Handle<Request> for Broker`. The request has passed its schema, the caller's permission and the
//! rate limit before the handler sees it.

mod audit;
mod contexts;
mod files;
mod graph;
mod group_keys;
mod groups;
mod members;
mod memory;
mod mesh;
mod messaging;
mod peer_files;
mod profile;
mod skills;
mod sql;
mod state;
mod streams;
mod task_rules;
mod tasks;
mod text;
mod vectors;

pub(crate) use files::{blob_failure, busy};
pub(crate) use group_keys::catch_up;
pub(crate) use group_keys::epoch_head;
pub(crate) use tasks::{end_claims, tell_freed};

use claudemesh_proto::model::Timestamp;
use claudemesh_proto::{ErrorCode, ErrorFrame, Operation};
use serde_json::Value;

use crate::context::Context;
use crate::errors::ToErrorFrame as _;
use crate::store::{AuditEvent, StoreError};

impl Context {
    /// The audit entry that the table asks for after operation `O`; `payload` is metadata, never content.
    pub(crate) fn audit_event<O: Operation>(&self, payload: Value) -> Option<AuditEvent> {
        O::META.audit.map(|event_type| AuditEvent {
            mesh_id: self.session.mesh_id().clone(),
            event_type: event_type.to_owned(),
            actor_member_id: Some(self.session.member.clone()),
            actor_name: crate::hub::name_of(&self.session.mesh.lock(), &self.session.presence),
            payload,
            at: Timestamp::from_ms(self.now_ms),
        })
    }

    /// Saves what the caller's member leaves with, so that it is in force again after a restart.
    pub(crate) async fn save_peer_state(&self) -> Result<(), ErrorFrame> {
        let session = &self.session;
        crate::hub::save_peer_state(&self.broker, &session.mesh, &session.member, self.now_ms)
            .await
            .or_frame()
    }

    /// Puts an event on record that no write of a handler goes with.
    pub(crate) async fn record(&self, event: Option<AuditEvent>) -> Result<(), ErrorFrame> {
        let Some(event) = event else { return Ok(()) };
        crate::hub::record_event(&self.broker, event).await.or_frame()
    }
}

/// Name of the caller's member: what is written for the mesh belongs to members, not to sessions.
fn author_name(cx: &Context) -> String {
    let state = cx.session.mesh.lock();
    state
        .mesh
        .member(&cx.session.member)
        .map(|member| member.facts.name.clone())
        .unwrap_or_default()
}

/// The caller's session ended while its request was served.
pub(crate) fn session_gone() -> ErrorFrame {
    ErrorFrame::new(ErrorCode::NotConnected, "this session is no longer connected")
}

/// Shorthand for results of the store.
pub(crate) trait OrFrame<T> {
    /// The value, or the error as its caller may know it.
    fn or_frame(self) -> Result<T, ErrorFrame>;
}

impl<T> OrFrame<T> for Result<T, StoreError> {
    fn or_frame(self) -> Result<T, ErrorFrame> {
        self.map_err(|error| error.to_error_frame())
    }
}
