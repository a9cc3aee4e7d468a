//! Status reports of host programs' hooks.

use std::sync::Arc;

use claudemesh_proto::ErrorFrame;
use claudemesh_proto::http::{HookStatus, HookStatusResult};
use claudemesh_proto::model::{KeyHex, Timestamp};

use super::run_outputs;
use crate::Broker;
use crate::broker::now as both_clocks;
use crate::errors::ToErrorFrame as _;
use crate::store::PendingStatus;

/// Applies a hook's report to the sessions of the member whose key signed it, in every mesh in which that key is
/// enrolled. With no matching session it is kept for one that connects within ten seconds.
///
/// # Errors
/// `unavailable` while the store cannot be written.
pub async fn hook_status(
    broker: &Arc<Broker>,
    member_key: &KeyHex,
    report: HookStatus,
) -> Result<HookStatusResult, ErrorFrame> {
    let now = both_clocks();
    let mut found = None;
    for mesh in broker.hub.all() {
        let mut guard = mesh.lock();
        let state = &mut *guard;
        let Some(member) = state
            .mesh
            .member_by_key(member_key.as_str())
            .map(|member| member.facts.id.clone())
        else {
            continue;
        };
        let session = state
            .mesh
            .hook_match(&member, &report.cwd, report.pid, report.session_id.as_deref());
        let Some(presence) = session.map(|session| session.facts.presence.clone()) else {
            continue;
        };
        state.mesh.hook_status(&presence, report.status, now);
        if let Some(view) = state.mesh.session_view(&presence) {
            state.delivery.session_changed(now, view, &state.mesh);
        }
        run_outputs(broker, &mesh, state, now.wall_ms);
        found = Some(presence);
    }
    if let Some(presence) = found {
        return Ok(HookStatusResult {
            ok: true,
            presence_id: Some(presence.0),
            pending: false,
        });
    }
    let members = broker
        .store
        .members_with_key(member_key)
        .await
        .map_err(|error| error.to_error_frame())?;
    for member in members.into_iter().filter(|member| member.revoked_at.is_none()) {
        let pending = PendingStatus {
            mesh_id: member.mesh_id,
            member_id: member.id,
            pid: report.pid.unwrap_or_default(),
            cwd: report.cwd.clone(),
            session_id: report.session_id.clone(),
            status: report.status,
            created_at: Timestamp::from_ms(now.wall_ms),
        };
        broker
            .store
            .insert_pending_status(pending)
            .await
            .map_err(|error| error.to_error_frame())?;
    }
    Ok(HookStatusResult {
        ok: true,
        presence_id: None,
        pending: true,
    })
}
