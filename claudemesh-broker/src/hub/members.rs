//! Changes of members and of the mesh itself, from wherever they come: operations or HTTP.

use std::sync::Arc;

use claudemesh_proto::frame::TaskAction;
use claudemesh_proto::model::{DeliveryStage, MemberId, MeshId, MeshPolicy, PresenceId, Role, Timestamp};
use claudemesh_proto::{ErrorCode, ErrorFrame, Permission};
use serde_json::{Value, json};

use super::events::system_event;
use super::rows::member_facts;
use super::{LiveMesh, run_outputs, send_receipts};
use crate::Broker;
use crate::broker::{now as both_clocks, now_ms};
use crate::errors::ToErrorFrame as _;
use crate::outbound::CloseReason;
use crate::store::{AuditEvent, Revoked};

/// Takes a new or changed member over from the store, if the mesh is loaded.
///
/// # Errors
/// `unavailable` while the store cannot be read.
pub async fn member_added(broker: &Arc<Broker>, mesh: &MeshId, member: &MemberId) -> Result<(), ErrorFrame> {
    let Some(live) = broker.hub.loaded(mesh) else {
        return Ok(());
    };
    let row = broker
        .store
        .member(mesh, member)
        .await
        .map_err(|error| error.to_error_frame())?;
    let Some(row) = row.filter(|row| row.revoked_at.is_none()) else {
        return Ok(());
    };
    live.lock().mesh.upsert_member(member_facts(row), None);
    Ok(())
}

/// Takes an edited member over and tells its sessions what changed.
///
/// # Errors
/// `unavailable` while the store cannot be read.
pub async fn member_updated(
    broker: &Arc<Broker>,
    mesh: &MeshId,
    member: &MemberId,
    changes: Value,
) -> Result<(), ErrorFrame> {
    member_added(broker, mesh, member).await?;
    let Some(live) = broker.hub.loaded(mesh) else {
        return Ok(());
    };
    let state = live.lock();
    let sessions: Vec<_> = state.sessions().filter(|session| session.member == *member).collect();
    let event = system_event(mesh, "profile_updated", changes);
    state.send(sessions.iter().map(|session| &session.presence), &event);
    Ok(())
}

/// Puts new rules of the mesh in force.
pub async fn policy_changed(broker: &Arc<Broker>, mesh: &MeshId, policy: MeshPolicy) {
    if let Some(live) = broker.hub.loaded(mesh) {
        live.lock().mesh.facts_mut().policy = policy;
    }
}

/// Removes a member: its sessions end, what waits for it ends as `revoked`, its key is refused from now on. A session that
/// asked for it itself (`answering`) ends when it has its answer.
///
/// # Errors
/// `not_found`, `forbidden` (only the owner may remove admins, nobody the owner), `unavailable`.
pub async fn remove_member(
    broker: &Arc<Broker>,
    mesh: &Arc<LiveMesh>,
    actor: &MemberId,
    member: &MemberId,
    answering: Option<&PresenceId>,
) -> Result<(), ErrorFrame> {
    let now = now_ms();
    let audit = {
        let state = mesh.lock();
        let Some(subject) = state.mesh.member(member) else {
            return Err(ErrorFrame::new(ErrorCode::NotFound, "no such member in this mesh").at("/memberId"));
        };
        let Some(acting) = state.mesh.member(actor) else {
            return Err(ErrorFrame::new(
                ErrorCode::Revoked,
                "you are no longer a member of this mesh",
            ));
        };
        if subject.facts.is_owner {
            return Err(ErrorFrame::new(
                ErrorCode::Forbidden,
                "the owner cannot be removed; the owner can archive the mesh instead",
            ));
        }
        let allowed = member == actor
            || acting.facts.is_owner
            || (state.mesh.permission(actor, Permission::Manage) && subject.facts.role != Role::Admin);
        if !allowed {
            let text = "only the owner may remove admins, and only the owner and admins may remove others";
            return Err(ErrorFrame::new(ErrorCode::Forbidden, text));
        }
        AuditEvent {
            mesh_id: mesh.id.clone(),
            event_type: "member_removed".to_owned(),
            actor_member_id: Some(actor.clone()),
            actor_name: Some(acting.facts.name.clone()),
            payload: json!({ "memberId": member, "pubkey": subject.facts.key }),
            at: Timestamp::from_ms(now),
        }
    };
    let revoked = broker
        .store
        .revoke_member(&mesh.id, member, Timestamp::from_ms(now), Some(audit))
        .await;
    let Revoked { ended, freed } = revoked.map_err(|error| error.to_error_frame())?.unwrap_or_default();
    let mut guard = mesh.lock();
    let state = &mut *guard;
    let name = state
        .mesh
        .member(member)
        .map(|member| member.facts.name.clone())
        .unwrap_or_default();
    send_receipts(state, &ended, DeliveryStage::Revoked, now);
    state.delivery.member_removed(both_clocks(), member);
    let Some(removed) = state.mesh.remove_member(member) else {
        return Ok(());
    };
    for presence in &removed.sessions {
        match state.detach(presence) {
            Some(session) if answering == Some(presence) => session.outbound.close_after_next(CloseReason::Revoked),
            Some(session) => session.outbound.close(CloseReason::Revoked),
            None => {}
        }
    }
    crate::ops::tell_freed(state, &freed, TaskAction::Released);
    let data = json!({ "name": name, "memberId": member, "pubkey": removed.member.facts.key });
    let everyone = state.mesh.everyone(None);
    state.send(&everyone, &system_event(&mesh.id, "member_removed", data));
    run_outputs(broker, mesh, state, now);
    Ok(())
}

/// Ends every session of an archived mesh. The store has it archived already.
pub async fn archive(broker: &Arc<Broker>, mesh: &MeshId) {
    let Some(live) = broker.hub.loaded(mesh) else { return };
    let mut state = live.lock();
    state.archived = true;
    for session in state.sessions() {
        session.outbound.close(CloseReason::Archived);
    }
}
