//! Joining with a token of version 1. The token is a secret of the mesh: it is neither stored nor logged.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use claudemesh_crypto::{InviteError, InviteV1, random_id};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::http::{Join, Joined};
use claudemesh_proto::model::{KeyHex, MemberId, MeshId, Permissions, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::body::{read_body, read_value, typed};
use super::client_address;
use super::common::{audit, is_usable_key, limit_address};
use super::error::Failure;
use crate::Broker;
use crate::broker::now_ms;
use crate::gateway::{Ends, Gateway};
use crate::hub;
use crate::store::{InviteRow, InviteUse, MeshRow, NewMember};

/// `POST /join`: not signed, as in the original: the token is what lets one in.
pub(super) async fn join(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Joined>, Failure> {
    let broker = &gateway.broker;
    limit_address(broker, "join", client_address(&broker.config, ends, &headers))?;
    let request = read(&read_body(body).await?)?;
    let (mesh, invite) = find(broker, &request).await?;
    let member = enrolled(&mesh, &invite, request.peer_pubkey, &request.display_name);
    let id = member.id.clone();
    let joined = audit(
        &mesh.id,
        "member_joined",
        Some((&id, &member.display_name)),
        json!({ "inviteId": invite.id }),
    );
    let now = Timestamp::from_ms(now_ms());
    let used = broker
        .store
        .use_invite_and_insert_member(&invite.id, member, now, Some(joined))
        .await;
    match used.map_err(|error| Failure::from(error).named("member_insert_failed"))? {
        InviteUse::Used => {
            hub::member_added(broker, &mesh.id, &id).await?;
            Ok(Json(Joined {
                ok: true,
                member_id: id,
                already_member: false,
            }))
        }
        InviteUse::AlreadyMember(known) => Ok(Json(Joined {
            ok: true,
            member_id: known.id.clone(),
            already_member: true,
        })),
        InviteUse::Exhausted => Err(refused(
            "invite_exhausted",
            ErrorCode::InviteExhausted,
            "as many as may have joined with this invite",
        )),
        InviteUse::Expired => Err(expired()),
        InviteUse::Revoked => Err(revoked()),
        InviteUse::NoSuchInvite => Err(unknown_invite()),
    }
}

/// The original's first two checks, then the schema.
fn read(body: &[u8]) -> Result<Join, Failure> {
    let mut value = read_value(body)?;
    let is_given = |name: &str| match value.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    };
    if !["invite_token", "invite_payload", "peer_pubkey", "display_name"]
        .into_iter()
        .all(is_given)
    {
        return Err(refused(
            "invite_token, invite_payload, peer_pubkey, display_name required",
            ErrorCode::InvalidRequest,
            "the request lacks a member",
        ));
    }
    let key = value["peer_pubkey"]
        .as_str()
        .map(str::to_ascii_lowercase)
        .unwrap_or_default();
    if !is_usable_key(&key) {
        return Err(refused(
            "peer_pubkey must be 64 hex chars (32 bytes)",
            ErrorCode::Malformed,
            "peer_pubkey is not an ed25519 public key",
        ));
    }
    value["peer_pubkey"] = Value::String(key);
    typed(value)
}

/// The invite that the token belongs to, after all checks that need no writing, in the original's order.
async fn find(broker: &Arc<Broker>, request: &Join) -> Result<(MeshRow, InviteRow), Failure> {
    let now = now_ms();
    let bad_signature = || {
        refused(
            "invite_bad_signature",
            ErrorCode::BadSignature,
            "the invite's signature does not verify",
        )
    };
    let payload: InviteV1 = serde_json::from_value(request.invite_payload.clone()).map_err(|_| bad_signature())?;
    let is_over = match payload.verify(now.div_euclid(1_000)) {
        Ok(_) => false,
        Err(InviteError::Expired { .. }) => true,
        Err(_) => return Err(bad_signature()),
    };
    let mesh = broker.store.mesh(&MeshId::from(payload.mesh_id.as_str())).await?;
    let Some(mesh) = mesh.filter(|mesh| mesh.archived_at.is_none()) else {
        return Err(refused(
            "mesh_not_found",
            ErrorCode::NotFound,
            "there is no such mesh on this broker",
        ));
    };
    if !payload.owner_pubkey.eq_ignore_ascii_case(mesh.owner_pubkey.as_str()) {
        return Err(refused(
            "invite_owner_mismatch",
            ErrorCode::BadSignature,
            "another key than the owner's signed",
        ));
    }
    let hash: String = Sha256::digest(&request.invite_token)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let Some(invite) = broker.store.invite_by_token_hash(&hash).await? else {
        return Err(unknown_invite());
    };
    if invite.mesh_id != mesh.id {
        return Err(refused(
            "invite_mesh_mismatch",
            ErrorCode::Malformed,
            "the invite is for another mesh",
        ));
    }
    if invite.revoked_at.is_some() {
        return Err(revoked());
    }
    if is_over || invite.expires_at.as_ms() <= now {
        return Err(expired());
    }
    Ok((mesh, invite))
}

/// The member that an invite makes of a key. Its standing comes from the broker's row, not from what the joiner sent.
pub(super) fn enrolled(mesh: &MeshRow, invite: &InviteRow, pubkey: KeyHex, name: &str) -> NewMember {
    let preset = &invite.preset;
    NewMember {
        id: MemberId(random_id()),
        mesh_id: mesh.id.clone(),
        pubkey,
        display_name: preset.display_name.clone().unwrap_or_else(|| name.to_owned()),
        role: invite.role,
        is_owner: false,
        role_tag: preset.role_tag.clone(),
        default_groups: preset.groups.clone(),
        message_mode: preset.message_mode.unwrap_or_default(),
        permissions: Permissions::default(),
        dashboard_user_id: None,
        joined_at: Timestamp::from_ms(now_ms()),
    }
}

fn refused(error: &str, code: ErrorCode, message: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, error, code, message)
}

fn unknown_invite() -> Failure {
    refused(
        "invite_not_found",
        ErrorCode::NotFound,
        "the broker knows no such invite",
    )
}

fn revoked() -> Failure {
    refused("invite_revoked", ErrorCode::InviteRevoked, "the invite was withdrawn")
}

fn expired() -> Failure {
    refused(
        "invite_expired",
        ErrorCode::InviteExpired,
        "the invite is past its time",
    )
}
