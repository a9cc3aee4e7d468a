//! Parts that several endpoints share.

use std::net::IpAddr;

use axum::http::StatusCode;
use claudemesh_crypto::PublicKey;
use claudemesh_proto::model::{MemberId, MeshId, Timestamp};
use claudemesh_proto::{ErrorCode, RateClass};
use serde_json::Value;

use super::error::Failure;
use crate::Broker;
use crate::broker::now_ms;
use crate::mesh::MemberState;
use crate::security::rate_limit::Limited;
use crate::security::signed::Caller;
use crate::store::AuditEvent;

/// Limits what one address may do without being a member.
pub(super) fn limit_address(broker: &Broker, purpose: &'static str, address: IpAddr) -> Result<(), Failure> {
    let checked = broker
        .limiter
        .check_key(purpose, &address.to_string(), broker.config.enrol_rate, now_ms());
    checked.map_err(limited)
}

/// Limits what a member may do.
pub(super) fn limit_member(broker: &Broker, caller: &Caller, class: RateClass) -> Result<(), Failure> {
    broker
        .limiter
        .check(&caller.member.facts.id, class, now_ms())
        .map_err(|refused| {
            broker.metrics.rate_limited(class);
            limited(refused)
        })
}

/// The answer to a request above a limit.
pub(super) fn limited(refused: Limited) -> Failure {
    let ms = refused.retry_after_ms;
    Failure::of(
        ErrorCode::RateLimited,
        format!("too many requests; try again in {ms} ms"),
    )
    .named("rate limited")
    .retry_after(ms)
}

/// A refusal for want of a right.
pub(super) fn forbidden(message: &str) -> Failure {
    Failure::of(ErrorCode::Forbidden, message)
}

/// A failure of the broker itself; its reason is in the log.
pub(super) fn internal(what: &str) -> Failure {
    tracing::error!("{what}");
    Failure::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal error",
        ErrorCode::Internal,
        "the broker's log says why",
    )
}

/// Whether the member may create, list and withdraw invites.
pub(super) fn may_invite(member: &MemberState) -> bool {
    member.effective_permissions().can_invite == Some(true)
}

/// Whether the text is a key that signatures can be verified with.
pub(super) fn is_usable_key(text: &str) -> bool {
    text.parse::<PublicKey>().is_ok_and(|key| key.to_box_key().is_ok())
}

/// An entry of the audit log.
pub(super) fn audit(mesh: &MeshId, event: &str, actor: Option<(&MemberId, &str)>, payload: Value) -> AuditEvent {
    AuditEvent {
        mesh_id: mesh.clone(),
        event_type: event.to_owned(),
        actor_member_id: actor.map(|(id, _)| id.clone()),
        actor_name: actor.map(|(_, name)| name.to_owned()),
        payload,
        at: Timestamp::from_ms(now_ms()),
    }
}

/// An entry of the audit log about what a caller did.
pub(super) fn audit_by(caller: &Caller, event: &str, payload: Value) -> AuditEvent {
    let facts = &caller.member.facts;
    audit(&caller.mesh.id, event, Some((&facts.id, &facts.name)), payload)
}
