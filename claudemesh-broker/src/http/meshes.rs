//! Meshes come and go.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use claudemesh_crypto::{random_bytes, random_id};
use claudemesh_proto::http::{CreateMesh, Done, MeshCreated};
use claudemesh_proto::model::{MemberId, MeshId, MeshPolicy, MessageMode, Permissions, Role, Timestamp};
use claudemesh_proto::{ErrorCode, RateClass};
use serde_json::json;

use super::client_address;
use super::common::{audit, audit_by, forbidden, internal, is_usable_key, limit_address, limit_member};
use super::error::Failure;
use crate::broker::now_ms;
use crate::gateway::{Ends, Gateway};
use crate::hub;
use crate::security::signed::Signed;
use crate::store::{NewMember, NewMesh, SecretText, StoreError};

/// Most meshes whose slugs differ in the number at the end only.
const MAX_SAME_SLUG: u32 = 100;

/// `POST /cli/mesh/create`, signed by the owner's key, which stays with the owner.
pub(super) async fn create(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    headers: HeaderMap,
    signed: Signed,
) -> Result<Json<MeshCreated>, Failure> {
    let broker = &gateway.broker;
    limit_address(broker, "create", client_address(&broker.config, ends, &headers))?;
    let request: CreateMesh = signed.json()?;
    if request.owner_pubkey != signed.key {
        return Err(forbidden("the request must be signed by owner_pubkey"));
    }
    if !is_usable_key(request.pubkey.as_str()) {
        return Err(Failure::of(ErrorCode::Malformed, "pubkey is not an ed25519 public key"));
    }
    signed.take(broker)?;

    let now = Timestamp::from_ms(now_ms());
    let base = request.slug.clone().unwrap_or_else(|| slug_of(&request.name));
    let owner_name = request.display_name.filter(|name| !name.trim().is_empty());
    let owner_name = owner_name.unwrap_or_else(|| format!("{}-owner", request.name));
    for number in 1..=MAX_SAME_SLUG {
        let slug = if number == 1 {
            base.clone()
        } else {
            format!("{base}-{number}")
        };
        if broker.store.mesh_by_slug(&slug).await?.is_some() {
            continue;
        }
        let (id, member_id) = (MeshId(random_id()), MemberId(random_id()));
        let root_key = gateway.key.seal(&random_bytes::<32>());
        let mesh = NewMesh {
            id: id.clone(),
            name: request.name.clone(),
            slug: slug.clone(),
            owner_pubkey: request.owner_pubkey.clone(),
            root_key: SecretText(root_key.ok_or_else(|| internal("a root key cannot be sealed"))?),
            policy: MeshPolicy::default(),
            created_at: now,
            owner: NewMember {
                id: member_id.clone(),
                mesh_id: id.clone(),
                pubkey: request.pubkey.clone(),
                display_name: owner_name.clone(),
                role: Role::Admin,
                is_owner: true,
                role_tag: None,
                default_groups: Vec::new(),
                message_mode: MessageMode::default(),
                permissions: Permissions::default(),
                dashboard_user_id: None,
                joined_at: now,
            },
        };
        let created = audit(
            &id,
            "mesh_created",
            Some((&member_id, &owner_name)),
            json!({ "slug": slug }),
        );
        match broker.store.create_mesh(mesh, Some(created)).await {
            Ok(()) => {
                let broker_url = broker.config.websocket_url(gateway.listening);
                return Ok(Json(MeshCreated {
                    id,
                    slug,
                    name: request.name,
                    member_id,
                    broker_url,
                }));
            }
            // Somebody was faster with this slug.
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(
        StatusCode::CONFLICT,
        "Too many meshes with this name",
        ErrorCode::Conflict,
        "too many meshes have this name; choose another slug",
    ))
}

/// `DELETE /mesh/:id`, signed by the owner.
pub(super) async fn archive(
    State(gateway): State<Arc<Gateway>>,
    Path(mesh): Path<String>,
    signed: Signed,
) -> Result<Json<Done>, Failure> {
    let broker = &gateway.broker;
    let caller = signed.member(broker, &mesh).await?;
    limit_member(broker, &caller, RateClass::Write)?;
    if !caller.member.facts.is_owner {
        return Err(forbidden("only the owner of the mesh may archive it").named("Only the mesh owner can delete it"));
    }
    let event = audit_by(&caller, "mesh_archived", json!({}));
    broker
        .store
        .archive_mesh(&caller.mesh.id, Timestamp::from_ms(now_ms()), Some(event))
        .await?;
    hub::archive(broker, &caller.mesh.id).await;
    Ok(Json(Done { ok: true }))
}

/// The name in lower case, with everything but letters and digits replaced.
fn slug_of(name: &str) -> String {
    let mut slug = String::new();
    for letter in name.to_lowercase().chars() {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= 60 {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        "mesh".to_owned()
    } else {
        slug.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::slug_of;

    #[test]
    fn slugs_are_made_from_names() {
        for (name, slug) in [
            ("Team Alpha", "team-alpha"),
            ("  --A  b!! ", "a-b"),
            ("日本", "mesh"),
            ("", "mesh"),
            ("Über 9", "ber-9"),
        ] {
            assert_eq!(slug_of(name), slug);
        }
        assert!(slug_of(&"x".repeat(80)).len() <= 60);
    }
}
