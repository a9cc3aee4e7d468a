//! Rules of a mesh.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use claudemesh_proto::http::{PatchSettings, SettingsPatched};
use claudemesh_proto::model::MeshPolicy;
use claudemesh_proto::{ErrorCode, Permission, RateClass};
use serde_json::json;

use super::common::{audit_by, forbidden, limit_member};
use super::error::Failure;
use crate::gateway::Gateway;
use crate::hub;
use crate::security::signed::Signed;

/// `PATCH /mesh/:id/settings`, signed by the owner or an admin.
pub(super) async fn edit(
    State(gateway): State<Arc<Gateway>>,
    Path(mesh): Path<String>,
    signed: Signed,
) -> Result<Json<SettingsPatched>, Failure> {
    let broker = &gateway.broker;
    let caller = signed.member(broker, &mesh).await?;
    limit_member(broker, &caller, RateClass::Write)?;
    if !caller.member.may(Permission::Manage) {
        return Err(forbidden("only the owner and admins may change the rules").named("admin access required"));
    }
    let request: PatchSettings = signed.json()?;
    let Some(self_editable) = request.self_editable else {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "no settings to update",
            ErrorCode::InvalidRequest,
            "the request changes nothing",
        ));
    };
    let policy = MeshPolicy { self_editable };
    let event = audit_by(&caller, "settings_updated", json!({ "selfEditable": self_editable }));
    broker.store.update_policy(&caller.mesh.id, policy, Some(event)).await?;
    hub::policy_changed(broker, &caller.mesh.id, policy).await;
    Ok(Json(SettingsPatched { ok: true, policy }))
}
