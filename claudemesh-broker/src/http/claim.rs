//! Joining with a code of version 2.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use claudemesh_crypto::{InviteV2, PublicKey, Signature, decode_box_key, is_invite_code, seal_root_key};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::http::{Claim, Claimed};
use claudemesh_proto::model::Timestamp;
use serde_json::json;

use super::body::{read_body, read_json};
use super::client_address;
use super::common::{audit, internal, is_usable_key, limit_address, may_invite};
use super::error::Failure;
use super::join::enrolled;
use crate::broker::now_ms;
use crate::gateway::{Ends, Gateway};
use crate::hub;
use crate::store::{InviteRow, InviteUse, MeshRow};

/// `POST /invites/:code/claim`: not signed: the code is what lets one in. Nothing is used up unless the answer is a
/// success: everything that can fail comes before the use.
pub(super) async fn claim(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path(code): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Claimed>, Failure> {
    let broker = &gateway.broker;
    limit_address(broker, "claim", client_address(&broker.config, ends, &headers))?;
    let request: Claim = read_json(&read_body(body).await?).map_err(|failure| failure.named("malformed"))?;
    let recipient = decode_box_key(&request.recipient_x25519_pubkey)
        .map_err(|_| malformed("recipient_x25519_pubkey is not the base64url of 32 bytes"))?;
    let key = request.peer_pubkey.filter(|key| is_usable_key(key.as_str()));
    let key = key.ok_or_else(|| {
        malformed("peer_pubkey is missing: the key to enrol, 64 hexadecimal characters; update this client")
    })?;

    let (mesh, invite) = find(&gateway, &code).await?;
    let root_key = open_root_key(&gateway, &mesh)?;
    let sealed_root_key = seal_root_key(&root_key, &recipient)
        .map_err(|_| malformed("recipient_x25519_pubkey is a key that anybody could open for"))?;

    let name = request.display_name.filter(|name| !name.trim().is_empty());
    let name = name.unwrap_or_else(|| format!("member-{}", key.short()));
    let member = enrolled(&mesh, &invite, key, &name);
    let id = member.id.clone();
    let joined = audit(
        &mesh.id,
        "member_joined",
        Some((&id, &member.display_name)),
        json!({ "inviteId": invite.id }),
    );
    let now = Timestamp::from_ms(now_ms());
    let (member_id, role, already_member) = match broker
        .store
        .use_invite_and_insert_member(&invite.id, member, now, Some(joined))
        .await?
    {
        InviteUse::Used => {
            hub::member_added(broker, &mesh.id, &id).await?;
            (id, invite.role, false)
        }
        InviteUse::AlreadyMember(known) => (known.id.clone(), known.role, true),
        InviteUse::Exhausted => return Err(exhausted()),
        InviteUse::Expired => return Err(expired()),
        InviteUse::Revoked => return Err(revoked()),
        InviteUse::NoSuchInvite => return Err(not_found()),
    };
    Ok(Json(Claimed {
        sealed_root_key,
        mesh_id: mesh.id,
        member_id,
        owner_pubkey: mesh.owner_pubkey,
        canonical_v2: invite.canonical_v2,
        signature: Some(invite.signature),
        issuer_pubkey: Some(invite.issuer_pubkey),
        mesh_slug: Some(mesh.slug),
        mesh_name: Some(mesh.name),
        broker_url: Some(broker.config.websocket_url(gateway.listening)),
        role: Some(role),
        already_member,
    }))
}

/// `GET /api/public/invite-code/:code`: the original gives the token of version 1 for a code. This broker has no tokens.
pub(super) async fn invite_code(Path(_code): Path<String>) -> Response {
    (StatusCode::NOT_FOUND, Json(json!({ "found": false }))).into_response()
}

/// The invite and its mesh, after all checks that need no writing, in the original's order.
async fn find(gateway: &Gateway, code: &str) -> Result<(MeshRow, InviteRow), Failure> {
    let broker = &gateway.broker;
    if !is_invite_code(code) {
        return Err(not_found());
    }
    let invite = broker.store.invite_by_code(code).await?.ok_or_else(not_found)?;
    let now = now_ms();
    if invite.revoked_at.is_some() {
        return Err(revoked());
    }
    if invite.expires_at.as_ms() <= now {
        return Err(expired());
    }
    let mesh = broker.store.mesh(&invite.mesh_id).await?;
    let mesh = mesh.filter(|mesh| mesh.archived_at.is_none()).ok_or_else(not_found)?;
    if !is_signed(&mesh, &invite) || !is_issuer(gateway, &mesh, &invite).await? {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "bad_signature",
            ErrorCode::BadSignature,
            "the invite is not signed by the owner or a present admin of the mesh",
        ));
    }
    Ok((mesh, invite))
}

/// Whether the row says what was signed.
fn is_signed(mesh: &MeshRow, invite: &InviteRow) -> bool {
    let Ok(signed) = InviteV2::parse(&invite.canonical_v2) else {
        return false;
    };
    let Ok(issuer) = invite.issuer_pubkey.as_str().parse::<PublicKey>() else {
        return false;
    };
    let Ok(signature) = invite.signature.as_str().parse::<Signature>() else {
        return false;
    };
    signed.mesh_id == mesh.id.as_str()
        && signed.invite_id == invite.id
        && signed.expires_at == invite.expires_at.as_ms().div_euclid(1_000)
        && signed.role.as_str() == invite.role.as_str()
        && signed.owner_pubkey.to_string() == mesh.owner_pubkey.as_str()
        && issuer.verify(invite.canonical_v2.as_bytes(), &signature).is_ok()
}

/// Whether who signed may invite now: an admin that was removed since may not.
async fn is_issuer(gateway: &Gateway, mesh: &MeshRow, invite: &InviteRow) -> Result<bool, Failure> {
    if invite.issuer_pubkey == mesh.owner_pubkey {
        return Ok(true);
    }
    let live = gateway.broker.hub.mesh(&gateway.broker, &mesh.id).await?;
    Ok(live.is_some_and(|live| {
        let state = live.lock();
        state
            .mesh
            .member_by_key(invite.issuer_pubkey.as_str())
            .is_some_and(may_invite)
    }))
}

fn open_root_key(gateway: &Gateway, mesh: &MeshRow) -> Result<[u8; 32], Failure> {
    let opened = gateway
        .key
        .open(&mesh.root_key.0)
        .and_then(|bytes| bytes.try_into().ok());
    opened.ok_or_else(|| internal("a mesh's root key does not open with this broker's key; was broker.key replaced?"))
}

fn malformed(message: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "malformed", ErrorCode::Malformed, message)
}

fn not_found() -> Failure {
    Failure::of(ErrorCode::NotFound, "the broker knows no such invite").named("not_found")
}

fn revoked() -> Failure {
    Failure::of(ErrorCode::InviteRevoked, "the invite was withdrawn").named("revoked")
}

fn expired() -> Failure {
    Failure::of(ErrorCode::InviteExpired, "the invite is past its time").named("expired")
}

fn exhausted() -> Failure {
    Failure::of(
        ErrorCode::InviteExhausted,
        "as many as may have joined with this invite",
    )
    .named("exhausted")
}
