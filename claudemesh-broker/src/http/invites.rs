//! Invites of a mesh. The broker stores what lets it recognise an invite, never what is secret about it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use claudemesh_crypto::{InviteV2, PublicKey, Signature};
use claudemesh_proto::http::{CreateInvite, Done, Invite, InviteCreated, Invites};
use claudemesh_proto::model::{Role, Timestamp};
use claudemesh_proto::{ErrorCode, RateClass};
use serde_json::json;

use super::common::{audit_by, forbidden, limit_member, may_invite};
use super::error::Failure;
use crate::broker::now_ms;
use crate::gateway::Gateway;
use crate::security::signed::{Caller, Signed};
use crate::store::{NewInvite, StoreError};

/// Longest life of an invite, in seconds.
const LONGEST: i64 = 366 * 24 * 3_600;

/// `POST /mesh/:id/invites`
pub(super) async fn create(
    State(gateway): State<Arc<Gateway>>,
    Path(mesh): Path<String>,
    signed: Signed,
) -> Result<Json<InviteCreated>, Failure> {
    let broker = &gateway.broker;
    let caller = inviting(&gateway, &mesh, &signed).await?;
    limit_member(broker, &caller, RateClass::Write)?;
    let request: CreateInvite = signed.json()?;
    let now = now_ms();
    check(&caller, &request, now)?;
    let expires_at = Timestamp::from_ms(request.expires_at * 1_000);
    let facts = json!({
        "inviteId": request.invite_id,
        "role": request.role,
        "maxUses": request.max_uses,
        "expiresAt": expires_at,
    });
    let event = audit_by(&caller, "invite_created", facts);
    let code = request.code;
    let invite = NewInvite {
        id: request.invite_id,
        mesh_id: caller.mesh.id.clone(),
        code: code.clone(),
        token_hash: request.token_hash,
        canonical_v2: request.canonical_v2,
        signature: request.signature,
        issuer_pubkey: request.issuer_pubkey,
        role: request.role,
        max_uses: u64::from(request.max_uses),
        used_count: 0,
        expires_at,
        invite_key: request.invite_key,
        preset: request.preset.unwrap_or_default(),
        created_by: caller.member.facts.id.clone(),
        created_at: Timestamp::from_ms(now),
        revoked_at: None,
    };
    broker.store.insert_invite(invite, Some(event)).await?;
    let url = format!("{}/i/{code}", broker.config.link_base(gateway.listening));
    Ok(Json(InviteCreated {
        ok: true,
        code,
        url,
        expires_at,
    }))
}

/// `GET /mesh/:id/invites`
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Path(mesh): Path<String>,
    signed: Signed,
) -> Result<Json<Invites>, Failure> {
    let caller = inviting(&gateway, &mesh, &signed).await?;
    limit_member(&gateway.broker, &caller, RateClass::Read)?;
    let rows = gateway
        .broker
        .store
        .invites(&caller.mesh.id, Timestamp::from_ms(now_ms()))
        .await?;
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let invites = rows.into_iter().map(|row| Invite {
        id: row.id,
        code: row.code,
        role: row.role,
        expires_at: row.expires_at,
        max_uses: count(row.max_uses),
        used_count: count(row.used_count),
        created_at: row.created_at,
    });
    Ok(Json(Invites {
        ok: true,
        invites: invites.collect(),
    }))
}

/// `DELETE /mesh/:id/invites/:inviteId`
pub(super) async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    Path((mesh, invite)): Path<(String, String)>,
    signed: Signed,
) -> Result<Json<Done>, Failure> {
    let caller = inviting(&gateway, &mesh, &signed).await?;
    limit_member(&gateway.broker, &caller, RateClass::Write)?;
    let event = audit_by(&caller, "invite_revoked", json!({ "inviteId": invite }));
    let now = Timestamp::from_ms(now_ms());
    match gateway
        .broker
        .store
        .revoke_invite(&caller.mesh.id, &invite, now, Some(event))
        .await
    {
        Ok(true) => Ok(Json(Done { ok: true })),
        Ok(false) | Err(StoreError::NotFound(_)) => Err(Failure::of(
            ErrorCode::NotFound,
            "no such invite in this mesh, or it was withdrawn already",
        )),
        Err(error) => Err(error.into()),
    }
}

/// A caller that may invite.
async fn inviting(gateway: &Gateway, mesh: &str, signed: &Signed) -> Result<Caller, Failure> {
    let caller = signed.member(&gateway.broker, mesh).await?;
    if may_invite(&caller.member) {
        Ok(caller)
    } else {
        Err(forbidden("only the owner and admins of the mesh may manage invites"))
    }
}

/// Whether the caller may issue this invite, and whether what is signed is what is stored.
fn check(caller: &Caller, request: &CreateInvite, now_ms: i64) -> Result<(), Failure> {
    let invalid = |message: &str| Failure::of(ErrorCode::InvalidRequest, message);
    let member = &caller.member.facts;
    if request.role == Role::Admin && !member.is_owner {
        return Err(forbidden("only the owner may invite admins"));
    }
    let now = now_ms.div_euclid(1_000);
    if request.expires_at <= now || request.expires_at > now + LONGEST {
        return Err(invalid(
            "expires_at must be within the next year, in seconds since the Unix epoch",
        ));
    }
    let owner_key = caller.mesh.lock().mesh.facts().owner_key.clone();
    let is_owner_key = owner_key.as_ref() == Some(&request.issuer_pubkey);
    // The owner's signature on an invite of somebody else would outlive that member's removal.
    let may_sign = request.issuer_pubkey == member.key || (is_owner_key && member.is_owner);
    if !may_sign {
        return Err(forbidden(
            "issuer_pubkey must be your member key, or the owner's key if you are the owner",
        ));
    }
    let signed = InviteV2::parse(&request.canonical_v2).map_err(|error| invalid(&error.to_string()))?;
    let same = signed.mesh_id == caller.mesh.id.as_str()
        && signed.invite_id == request.invite_id
        && signed.expires_at == request.expires_at
        && signed.role.as_str() == request.role.as_str()
        && Some(signed.owner_pubkey.to_string()) == owner_key.map(|key| key.0);
    if !same {
        return Err(invalid("canonical_v2 does not say the same as the request"));
    }
    let verified = request
        .issuer_pubkey
        .as_str()
        .parse::<PublicKey>()
        .ok()
        .zip(request.signature.as_str().parse::<Signature>().ok());
    let verified =
        verified.is_some_and(|(key, signature)| key.verify(request.canonical_v2.as_bytes(), &signature).is_ok());
    if verified {
        Ok(())
    } else {
        Err(Failure::of(
            ErrorCode::BadSignature,
            "signature does not verify canonical_v2 with issuer_pubkey",
        ))
    }
}
