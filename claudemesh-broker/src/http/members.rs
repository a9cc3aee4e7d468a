//! Members of a mesh.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use claudemesh_proto::http::{Done, MemberPatched, Members, PatchMember};
use claudemesh_proto::model::{Member, MemberId, SelfEditable};
use claudemesh_proto::{ErrorCode, Permission, RateClass};
use serde_json::{Map, Value, json};

use super::common::{audit_by, forbidden, limit_member};
use super::error::Failure;
use crate::gateway::Gateway;
use crate::hub::{self, LiveMesh};
use crate::mesh::MemberState;
use crate::security::signed::{Caller, Signed};
use crate::store::MemberPatch;

/// `GET /mesh/:id/members`, signed by any member.
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Path(mesh): Path<String>,
    signed: Signed,
) -> Result<Json<Members>, Failure> {
    let caller = signed.member(&gateway.broker, &mesh).await?;
    limit_member(&gateway.broker, &caller, RateClass::Read)?;
    let members = caller.mesh.lock().mesh.member_list(&caller.member.facts.id);
    Ok(Json(Members { ok: true, members }))
}

/// `PATCH /mesh/:id/member/:memberId`
pub(super) async fn edit(
    State(gateway): State<Arc<Gateway>>,
    Path((mesh, member)): Path<(String, String)>,
    signed: Signed,
) -> Result<Json<MemberPatched>, Failure> {
    let broker = &gateway.broker;
    let caller = signed.member(broker, &mesh).await?;
    limit_member(broker, &caller, RateClass::Write)?;
    let request: PatchMember = signed.json()?;
    let id = MemberId(member);
    // Members of other meshes are not found here, whatever their id is.
    let target = find(&caller.mesh, &id)?;
    check(&caller, &target, &request)?;
    let changes = changes(&request);
    let PatchMember {
        display_name,
        role_tag,
        groups,
        message_mode,
        permission,
        permissions,
    } = request;
    let patch = MemberPatch {
        display_name,
        role: permission,
        role_tag: role_tag.map(|tag| Some(tag).filter(|tag| !tag.is_empty())),
        default_groups: groups,
        message_mode,
        permissions,
        dashboard_user_id: None,
    };
    let mut fields: Vec<&str> = changes.keys().map(String::as_str).collect();
    fields.extend(permission.map(|_| "permission"));
    fields.extend(permissions.map(|_| "permissions"));
    let event = audit_by(&caller, "member_updated", json!({ "memberId": id, "fields": fields }));
    broker
        .store
        .update_member(&caller.mesh.id, &id, patch, Some(event))
        .await?;
    let changes = Value::Object(changes);
    hub::member_updated(broker, &caller.mesh.id, &id, changes.clone()).await?;
    let member = shown(&caller, &id)?;
    Ok(Json(MemberPatched {
        ok: true,
        member,
        changes,
    }))
}

/// `DELETE /mesh/:id/member/:memberId`
pub(super) async fn remove(
    State(gateway): State<Arc<Gateway>>,
    Path((mesh, member)): Path<(String, String)>,
    signed: Signed,
) -> Result<Json<Done>, Failure> {
    let broker = &gateway.broker;
    let caller = signed.member(broker, &mesh).await?;
    limit_member(broker, &caller, RateClass::Write)?;
    hub::remove_member(broker, &caller.mesh, &caller.member.facts.id, &MemberId(member), None).await?;
    Ok(Json(Done { ok: true }))
}

fn find(mesh: &LiveMesh, id: &MemberId) -> Result<MemberState, Failure> {
    let member = mesh.lock().mesh.member(id).cloned();
    member.ok_or_else(|| Failure::of(ErrorCode::NotFound, "no such member in this mesh"))
}

/// Admins edit everybody, members what the mesh lets them edit of themselves. The owner's row is the owner's, and only
/// the owner makes and unmakes admins.
fn check(caller: &Caller, target: &MemberState, request: &PatchMember) -> Result<(), Failure> {
    let (me, other) = (&caller.member.facts, &target.facts);
    let PatchMember {
        display_name,
        role_tag,
        groups,
        message_mode,
        permission,
        permissions,
    } = request;
    let profile = [
        ("displayName", display_name.is_some()),
        ("roleTag", role_tag.is_some()),
        ("groups", groups.is_some()),
        ("messageMode", message_mode.is_some()),
    ];
    let standing = [
        ("permission", permission.is_some()),
        ("permissions", permissions.is_some()),
    ];
    if !profile.iter().chain(&standing).any(|(_, given)| *given) {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "no fields to update",
            ErrorCode::InvalidRequest,
            "the request changes nothing",
        ));
    }
    if let Some(name) = display_name
        && name.trim().is_empty()
    {
        return Err(Failure::of(ErrorCode::InvalidRequest, "displayName must not be blank"));
    }
    if caller.member.may(Permission::Manage) || me.is_owner {
        if me.is_owner {
            return match permission {
                Some(role) if other.is_owner && *role != other.role => Err(forbidden("the owner stays an admin")),
                _ => Ok(()),
            };
        }
        if other.is_owner {
            return Err(forbidden("only the owner may edit the owner"));
        }
        let changes_admin = permission.is_some_and(|role| role != other.role)
            || (permissions.is_some() && other.role == claudemesh_proto::model::Role::Admin);
        if changes_admin {
            return Err(forbidden("only the owner may make, unmake or restrict admins"));
        }
        // An admin hands on no right that it does not have.
        if let Some(wanted) = permissions {
            let own = caller.member.effective_permissions();
            let exceeds = (wanted.can_invite == Some(true) && own.can_invite != Some(true))
                || (wanted.can_manage_permissions == Some(true))
                || (wanted.can_delete_mesh == Some(true));
            if exceeds {
                return Err(forbidden(
                    "only the owner may let others manage permissions or archive the mesh",
                ));
            }
        }
        return Ok(());
    }
    if me.id != other.id {
        return Err(forbidden("only admins and the member itself may edit a member")
            .named("not authorized — only admins or self can edit"));
    }
    let SelfEditable {
        display_name,
        role_tag,
        groups,
        message_mode,
    } = caller.mesh.lock().mesh.facts().policy.self_editable;
    let allowed = [display_name, role_tag, groups, message_mode, false, false];
    let given = profile.iter().chain(&standing);
    let refused: Vec<&str> = given
        .zip(allowed)
        .filter(|((_, given), allowed)| *given && !allowed)
        .map(|((name, _), _)| *name)
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    let text = format!("admin-managed fields: {}", refused.join(", "));
    Err(forbidden(&text))
}

/// The profile fields that were given, as the member's sessions are told.
fn changes(request: &PatchMember) -> Map<String, Value> {
    let mut changes = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            changes.insert(name.to_owned(), value);
        }
    };
    add("displayName", request.display_name.as_ref().map(|name| json!(name)));
    add(
        "roleTag",
        request
            .role_tag
            .as_ref()
            .map(|tag| if tag.is_empty() { Value::Null } else { json!(tag) }),
    );
    add("groups", request.groups.as_ref().map(|groups| json!(groups)));
    add("messageMode", request.message_mode.map(|mode| json!(mode)));
    changes
}

fn shown(caller: &Caller, id: &MemberId) -> Result<Member, Failure> {
    let members = caller.mesh.lock().mesh.member_list(&caller.member.facts.id);
    let member = members.into_iter().find(|member| member.id == *id);
    member.ok_or_else(|| Failure::of(ErrorCode::NotFound, "member not found after update"))
}
