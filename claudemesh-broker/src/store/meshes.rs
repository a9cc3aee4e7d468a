//! Meshes.

use super::committer::Recorded;
use super::members::{MemberRow, NewMember, insert_member_row};
use super::rows::{count, get, json, text, time, time_opt, to_json};
use super::{AuditEvent, GroupHeadRow, PeerStateRow, Store, StoreError, StreamRow};
use claudemesh_proto::model::{KeyHex, MemberId, MeshId, MeshPolicy, Timestamp};
use sqlx::any::AnyRow;
use std::fmt;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// A mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshRow {
    /// Its id.
    pub id: MeshId,
    /// Its name.
    pub name: String,
    /// Its slug; no two meshes that are not archived share one.
    pub slug: String,
    /// The owner's key: signs invites and the roster.
    pub owner_pubkey: KeyHex,
    /// The owner as a member.
    pub owner_member_id: MemberId,
    /// The root key, sealed under the broker's own key.
    pub root_key: SecretText,
    /// Rules that its admins set.
    pub policy: MeshPolicy,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its owner closed it.
    pub archived_at: Option<Timestamp>,
}

/// A mesh to be created, with its owner as the first member.
#[derive(Clone, Debug)]
pub struct NewMesh {
    /// Its id.
    pub id: MeshId,
    /// Its name.
    pub name: String,
    /// Its slug.
    pub slug: String,
    /// The owner's key.
    pub owner_pubkey: KeyHex,
    /// The root key, sealed under the broker's own key.
    pub root_key: SecretText,
    /// Rules to start with.
    pub policy: MeshPolicy,
    /// When it is created.
    pub created_at: Timestamp,
    /// The owner as a member; of this mesh.
    pub owner: NewMember,
}

/// All that a mesh needs to go live.
#[derive(Clone, Debug)]
pub struct LoadedMesh {
    /// The mesh.
    pub mesh: MeshRow,
    /// Members that are not removed, in the order of joining.
    pub members: Vec<MemberRow>,
    /// What their last sessions left behind.
    pub peer_states: Vec<PeerStateRow>,
    /// End of the group log.
    pub group_head: Option<GroupHeadRow>,
    /// Its streams, the oldest first.
    pub streams: Vec<StreamRow>,
}

fn mesh_row(row: &AnyRow) -> Result<MeshRow, StoreError> {
    Ok(MeshRow {
        id: text(row, "id")?,
        name: get(row, "name")?,
        slug: get(row, "slug")?,
        owner_pubkey: text(row, "owner_pubkey")?,
        owner_member_id: text(row, "owner_member_id")?,
        root_key: SecretText(get(row, "root_key")?),
        policy: json(row, "policy")?,
        created_at: time(row, "created_at")?,
        archived_at: time_opt(row, "archived_at")?,
    })
}

impl Store {
    /// The mesh, archived or not.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn mesh(&self, mesh: &MeshId) -> Result<Option<MeshRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM mesh WHERE id = $1")
            .bind(mesh.as_str())
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(mesh_row).transpose()
    }

    /// The mesh that uses the slug now.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn mesh_by_slug(&self, slug: &str) -> Result<Option<MeshRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM mesh WHERE slug = $1 AND archived_at IS NULL")
            .bind(slug)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(mesh_row).transpose()
    }

    /// All meshes that are not archived, the oldest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn meshes(&self) -> Result<Vec<MeshRow>, StoreError> {
        sqlx::query("SELECT * FROM mesh WHERE archived_at IS NULL ORDER BY created_at, id")
            .fetch_all(self.pool())
            .await?
            .iter()
            .map(mesh_row)
            .collect()
    }

    /// Number of meshes that are not archived.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn mesh_count(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM mesh WHERE archived_at IS NULL")
            .fetch_one(self.pool())
            .await?;
        count(&row, "n")
    }

    /// The mesh with its members, what they left behind, and the end of its group log.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn load_mesh(&self, mesh: &MeshId) -> Result<Option<LoadedMesh>, StoreError> {
        let Some(row) = self.mesh(mesh).await? else {
            return Ok(None);
        };
        Ok(Some(LoadedMesh {
            mesh: row,
            members: self.members(mesh).await?,
            peer_states: self.peer_states(mesh).await?,
            group_head: self.group_head(mesh).await?,
            streams: self.streams(mesh).await?,
        }))
    }

    /// Creates a mesh and its owner's row.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the id or the slug is taken.
    pub async fn create_mesh(&self, new: NewMesh, audit: Option<AuditEvent>) -> Result<(), StoreError> {
        let policy = to_json(&new.policy)?;
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                let inserted = sqlx::query(
                    "INSERT INTO mesh (id, name, slug, owner_pubkey, owner_member_id, root_key, policy, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
                )
                .bind(new.id.as_str())
                .bind(new.name.as_str())
                .bind(new.slug.as_str())
                .bind(new.owner_pubkey.as_str())
                .bind(new.owner.id.as_str())
                .bind(new.root_key.0.as_str())
                .bind(policy.as_str())
                .bind(new.created_at.as_ms())
                .execute(&mut *connection)
                .await?
                .rows_affected();
                if inserted == 0 {
                    return Err(StoreError::Conflict("the slug or id of the mesh is taken".into()));
                }
                let owner = NewMember {
                    mesh_id: new.id.clone(),
                    is_owner: true,
                    ..new.owner
                };
                if !insert_member_row(connection, &owner).await? {
                    return Err(StoreError::Conflict("the id of the owner's row is taken".into()));
                }
                Ok(Recorded::audited(()))
            })
        })
        .await
    }

    /// Archives a mesh, and tells whether it was not archived before. Its slug is free then.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn archive_mesh(
        &self,
        mesh: &MeshId,
        at: Timestamp,
        audit: Option<AuditEvent>,
    ) -> Result<bool, StoreError> {
        let mesh = mesh.clone();
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                let done = sqlx::query("UPDATE mesh SET archived_at = $1 WHERE id = $2 AND archived_at IS NULL")
                    .bind(at.as_ms())
                    .bind(mesh.as_str())
                    .execute(connection)
                    .await?;
                let changed = done.rows_affected() > 0;
                Ok(Recorded {
                    value: changed,
                    audit: changed,
                })
            })
        })
        .await
    }

    /// Replaces the rules of a mesh.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn update_policy(
        &self,
        mesh: &MeshId,
        policy: MeshPolicy,
        audit: Option<AuditEvent>,
    ) -> Result<(), StoreError> {
        let mesh = mesh.clone();
        let policy = to_json(&policy)?;
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                let done = sqlx::query("UPDATE mesh SET policy = $1 WHERE id = $2")
                    .bind(policy.as_str())
                    .bind(mesh.as_str())
                    .execute(connection)
                    .await?;
                match done.rows_affected() {
                    0 => Err(StoreError::NotFound("mesh")),
                    _ => Ok(Recorded::audited(())),
                }
            })
        })
        .await
    }
}
