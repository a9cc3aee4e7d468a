//! Members of meshes, and what they grant one another.

use super::committer::Recorded;
use super::contexts::remove_contexts_of;
use super::messages::{EndedDelivery, end_pending};
use super::rows::{count, flag, get, json, text, text_opt, time, time_opt, to_json, to_word, word};
use super::tasks::{TaskRow, free_tasks_of};
use super::{AuditEvent, Store, StoreError};
use claudemesh_proto::model::{Capability, Group, KeyHex, MemberId, MeshId, MessageMode, Permissions, Role, Timestamp};
use claudemesh_proto::ops::GrantMap;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::collections::BTreeMap;

/// What one member grants others, by their member keys. Who has no entry has the defaults.
pub type PeerGrants = BTreeMap<KeyHex, Vec<Capability>>;

/// A key enrolled in a mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberRow {
    /// Its id.
    pub id: MemberId,
    /// Its mesh.
    pub mesh_id: MeshId,
    /// Its key.
    pub pubkey: KeyHex,
    /// Its name.
    pub display_name: String,
    /// Its standing.
    pub role: Role,
    /// Whether it owns the mesh.
    pub is_owner: bool,
    /// Label that an admin gave.
    pub role_tag: Option<String>,
    /// Groups of its sessions that name none.
    pub default_groups: Vec<Group>,
    /// How it wants to be told of messages.
    pub message_mode: MessageMode,
    /// Exceptions from what its standing allows.
    pub permissions: Permissions,
    /// What it grants others.
    pub peer_grants: PeerGrants,
    /// Account in a dashboard.
    pub dashboard_user_id: Option<String>,
    /// When it joined.
    pub joined_at: Timestamp,
    /// When its last session left.
    pub last_seen_at: Option<Timestamp>,
    /// When it was removed.
    pub revoked_at: Option<Timestamp>,
}

/// A member to be enrolled.
#[derive(Clone, Debug)]
pub struct NewMember {
    /// Its id.
    pub id: MemberId,
    /// Its mesh.
    pub mesh_id: MeshId,
    /// Its key.
    pub pubkey: KeyHex,
    /// Its name.
    pub display_name: String,
    /// Its standing.
    pub role: Role,
    /// Whether it owns the mesh.
    pub is_owner: bool,
    /// Label.
    pub role_tag: Option<String>,
    /// Groups of its sessions that name none.
    pub default_groups: Vec<Group>,
    /// How it wants to be told of messages.
    pub message_mode: MessageMode,
    /// Exceptions from what its standing allows.
    pub permissions: Permissions,
    /// Account in a dashboard.
    pub dashboard_user_id: Option<String>,
    /// When it joins.
    pub joined_at: Timestamp,
}

/// Changes of a member; absent fields stay as they are.
#[derive(Clone, Debug, Default)]
pub struct MemberPatch {
    /// Its name.
    pub display_name: Option<String>,
    /// Its standing.
    pub role: Option<Role>,
    /// Its label; `Some(None)` removes it.
    pub role_tag: Option<Option<String>>,
    /// Groups of its sessions that name none.
    pub default_groups: Option<Vec<Group>>,
    /// How it wants to be told of messages.
    pub message_mode: Option<MessageMode>,
    /// Exceptions from what its standing allows.
    pub permissions: Option<Permissions>,
    /// Account in a dashboard.
    pub dashboard_user_id: Option<String>,
}

/// What went with a member that was removed.
#[derive(Clone, Debug, Default)]
pub struct Revoked {
    /// Deliveries that waited for it.
    pub ended: Vec<EndedDelivery>,
    /// Tasks that it had claimed or was meant to do, as they are now.
    pub freed: Vec<TaskRow>,
}

fn member_row(row: &AnyRow) -> Result<MemberRow, StoreError> {
    Ok(MemberRow {
        id: text(row, "id")?,
        mesh_id: text(row, "mesh_id")?,
        pubkey: text(row, "peer_pubkey")?,
        display_name: get(row, "display_name")?,
        role: word(row, "role")?,
        is_owner: flag(row, "is_owner")?,
        role_tag: get(row, "role_tag")?,
        default_groups: json(row, "default_groups")?,
        message_mode: word(row, "message_mode")?,
        permissions: json(row, "permissions")?,
        peer_grants: json(row, "peer_grants")?,
        dashboard_user_id: text_opt(row, "dashboard_user_id")?,
        joined_at: time(row, "joined_at")?,
        last_seen_at: time_opt(row, "last_seen_at")?,
        revoked_at: time_opt(row, "revoked_at")?,
    })
}

/// Whether the row was inserted; `false` if the id is taken or the key is a member already.
pub(super) async fn insert_member_row(connection: &mut AnyConnection, new: &NewMember) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO member (id, mesh_id, peer_pubkey, display_name, role, is_owner, role_tag, default_groups, \
         message_mode, permissions, peer_grants, dashboard_user_id, joined_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '{}', $11, $12) ON CONFLICT DO NOTHING",
    )
    .bind(new.id.as_str())
    .bind(new.mesh_id.as_str())
    .bind(new.pubkey.as_str())
    .bind(new.display_name.as_str())
    .bind(new.role.as_str())
    .bind(i64::from(new.is_owner))
    .bind(new.role_tag.as_deref())
    .bind(to_json(&new.default_groups)?)
    .bind(to_word(&new.message_mode)?)
    .bind(to_json(&new.permissions)?)
    .bind(new.dashboard_user_id.as_deref())
    .bind(new.joined_at.as_ms())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The member that uses the key in the mesh now.
pub(super) async fn live_member(
    connection: &mut AnyConnection,
    mesh: &MeshId,
    key: &KeyHex,
) -> Result<Option<MemberRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM member WHERE mesh_id = $1 AND peer_pubkey = $2 AND revoked_at IS NULL")
        .bind(mesh.as_str())
        .bind(key.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(member_row).transpose()
}

impl Store {
    /// Members of a mesh that are not removed, in the order of joining.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn members(&self, mesh: &MeshId) -> Result<Vec<MemberRow>, StoreError> {
        sqlx::query("SELECT * FROM member WHERE mesh_id = $1 AND revoked_at IS NULL ORDER BY joined_at, id")
            .bind(mesh.as_str())
            .fetch_all(self.pool())
            .await?
            .iter()
            .map(member_row)
            .collect()
    }

    /// Number of members of a mesh that are not removed.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn member_count(&self, mesh: &MeshId) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM member WHERE mesh_id = $1 AND revoked_at IS NULL")
            .bind(mesh.as_str())
            .fetch_one(self.pool())
            .await?;
        count(&row, "n")
    }

    /// The member, removed or not.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn member(&self, mesh: &MeshId, member: &MemberId) -> Result<Option<MemberRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM member WHERE mesh_id = $1 AND id = $2")
            .bind(mesh.as_str())
            .bind(member.as_str())
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(member_row).transpose()
    }

    /// The member with this key. A key that was removed and did not join again gives its newest row, with `revoked_at`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn member_by_key(&self, mesh: &MeshId, key: &KeyHex) -> Result<Option<MemberRow>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM member WHERE mesh_id = $1 AND peer_pubkey = $2 \
             ORDER BY CASE WHEN revoked_at IS NULL THEN 0 ELSE 1 END, revoked_at DESC LIMIT 1",
        )
        .bind(mesh.as_str())
        .bind(key.as_str())
        .fetch_optional(self.pool())
        .await?;
        row.as_ref().map(member_row).transpose()
    }

    /// Members with this key that are not removed, in all meshes that are not archived. The one read over all meshes: a
    /// hook knows its key and not its mesh.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn members_with_key(&self, key: &KeyHex) -> Result<Vec<MemberRow>, StoreError> {
        sqlx::query(
            "SELECT m.* FROM member m JOIN mesh ON mesh.id = m.mesh_id \
             WHERE m.peer_pubkey = $1 AND m.revoked_at IS NULL AND mesh.archived_at IS NULL ORDER BY m.joined_at, m.id",
        )
        .bind(key.as_str())
        .fetch_all(self.pool())
        .await?
        .iter()
        .map(member_row)
        .collect()
    }

    /// Enrols a member.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if its key is a member already or there is no such mesh.
    pub async fn insert_member(&self, new: NewMember, audit: Option<AuditEvent>) -> Result<(), StoreError> {
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                if insert_member_row(connection, &new).await? {
                    Ok(Recorded::audited(()))
                } else {
                    Err(StoreError::Conflict("the key is a member of the mesh already".into()))
                }
            })
        })
        .await
    }

    /// Changes a member that is not removed, and gives its row as it is then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn update_member(
        &self,
        mesh: &MeshId,
        member: &MemberId,
        patch: MemberPatch,
        audit: Option<AuditEvent>,
    ) -> Result<MemberRow, StoreError> {
        let (mesh, member) = (mesh.clone(), member.clone());
        let groups = patch.default_groups.as_ref().map(to_json).transpose()?;
        let mode = patch.message_mode.as_ref().map(to_word).transpose()?;
        let permissions = patch.permissions.as_ref().map(to_json).transpose()?;
        let set_tag = i64::from(patch.role_tag.is_some());
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "UPDATE member SET display_name = COALESCE($1, display_name), role = COALESCE($2, role), \
                     role_tag = CASE WHEN $3 = 1 THEN $4 ELSE role_tag END, \
                     default_groups = COALESCE($5, default_groups), message_mode = COALESCE($6, message_mode), \
                     permissions = COALESCE($7, permissions), \
                     dashboard_user_id = COALESCE($8, dashboard_user_id) \
                     WHERE mesh_id = $9 AND id = $10 AND revoked_at IS NULL RETURNING *",
                )
                .bind(patch.display_name)
                .bind(patch.role.map(Role::as_str))
                .bind(set_tag)
                .bind(patch.role_tag.flatten())
                .bind(groups)
                .bind(mode)
                .bind(permissions)
                .bind(patch.dashboard_user_id)
                .bind(mesh.as_str())
                .bind(member.as_str())
                .fetch_all(connection)
                .await?;
                let row = rows.first().ok_or(StoreError::NotFound("member"))?;
                Ok(Recorded::audited(member_row(row)?))
            })
        })
        .await
    }

    /// Changes what a member grants others and gives all of it. `then` is called once it is on disk, in the order of the
    /// changes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn change_grants(
        &self,
        mesh: &MeshId,
        member: &MemberId,
        change: GrantMap,
        audit: Option<AuditEvent>,
        then: impl FnOnce(&PeerGrants) + Send + 'static,
    ) -> Result<PeerGrants, StoreError> {
        let (mesh, member) = (mesh.clone(), member.clone());
        self.transaction_then(
            audit,
            move |connection| {
                Box::pin(async move {
                    let row = sqlx::query(
                        "SELECT peer_grants FROM member WHERE mesh_id = $1 AND id = $2 AND revoked_at IS NULL",
                    )
                    .bind(mesh.as_str())
                    .bind(member.as_str())
                    .fetch_optional(&mut *connection)
                    .await?
                    .ok_or(StoreError::NotFound("member"))?;
                    let mut grants: PeerGrants = json(&row, "peer_grants")?;
                    for (key, capabilities) in change {
                        match capabilities {
                            Some(capabilities) => grants.insert(key, capabilities),
                            None => grants.remove(&key),
                        };
                    }
                    sqlx::query("UPDATE member SET peer_grants = $1 WHERE mesh_id = $2 AND id = $3")
                        .bind(to_json(&grants)?)
                        .bind(mesh.as_str())
                        .bind(member.as_str())
                        .execute(connection)
                        .await?;
                    Ok(Recorded::audited(grants))
                })
            },
            then,
        )
        .await
    }

    /// Removes a member, ends what waits for it, frees its tasks and forgets its contexts; `None` if it is not a member any
    /// more.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn revoke_member(
        &self,
        mesh: &MeshId,
        member: &MemberId,
        at: Timestamp,
        audit: Option<AuditEvent>,
    ) -> Result<Option<Revoked>, StoreError> {
        let (mesh, member) = (mesh.clone(), member.clone());
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE member SET revoked_at = $1 WHERE mesh_id = $2 AND id = $3 AND revoked_at IS NULL",
                )
                .bind(at.as_ms())
                .bind(mesh.as_str())
                .bind(member.as_str())
                .execute(&mut *connection)
                .await?;
                if done.rows_affected() == 0 {
                    return Ok(Recorded::silently(None));
                }
                sqlx::query("DELETE FROM pending_status WHERE mesh_id = $1 AND member_id = $2")
                    .bind(mesh.as_str())
                    .bind(member.as_str())
                    .execute(&mut *connection)
                    .await?;
                remove_contexts_of(connection, &mesh, &member).await?;
                Ok(Recorded::audited(Some(Revoked {
                    freed: free_tasks_of(connection, &mesh, &member).await?,
                    ended: end_pending(connection, &mesh, &member, at).await?,
                })))
            })
        })
        .await
    }
}
