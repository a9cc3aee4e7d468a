//! Shared key-value state of meshes.

use super::committer::Recorded;
use super::rows::{count, get, json, limit, text, time, to_json};
use super::{AuditEvent, Store, StoreError};
use claudemesh_proto::model::{MemberId, MeshId, Timestamp};
use serde_json::Value;
use sqlx::any::AnyRow;

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub struct StateRow {
    /// Name of the key.
    pub key: String,
    /// Its value; JSON `null` is a value.
    pub value: Value,
    /// How often it has been written.
    pub version: u64,
    /// Member that wrote it last.
    pub updated_by_member: MemberId,
    /// Name of that member then.
    pub updated_by_name: String,
    /// When it was written last.
    pub updated_at: Timestamp,
}

/// A key to be written.
#[derive(Clone, Debug)]
pub struct StateWrite {
    /// Name of the key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Member that writes it.
    pub by_member: MemberId,
    /// Name of that member.
    pub by_name: String,
    /// When.
    pub at: Timestamp,
}

fn state_row(row: &AnyRow) -> Result<StateRow, StoreError> {
    Ok(StateRow {
        key: get(row, "key")?,
        value: json(row, "value")?,
        version: count(row, "version")?,
        updated_by_member: text(row, "updated_by_member")?,
        updated_by_name: get(row, "updated_by_name")?,
        updated_at: time(row, "updated_at")?,
    })
}

impl Store {
    /// A key's row.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn get_state(&self, mesh: &MeshId, key: &str) -> Result<Option<StateRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM state WHERE mesh_id = $1 AND key = $2")
            .bind(mesh.as_str())
            .bind(key)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(state_row).transpose()
    }

    /// All keys of a mesh, by key.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn list_state(&self, mesh: &MeshId) -> Result<Vec<StateRow>, StoreError> {
        let mut rows = sqlx::query("SELECT * FROM state WHERE mesh_id = $1")
            .bind(mesh.as_str())
            .fetch_all(self.pool())
            .await?
            .iter()
            .map(state_row)
            .collect::<Result<Vec<_>, _>>()?;
        // Here, because databases differ in how they order text.
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(rows)
    }

    /// Number of keys of a mesh.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn state_count(&self, mesh: &MeshId) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM state WHERE mesh_id = $1")
            .bind(mesh.as_str())
            .fetch_one(self.pool())
            .await?;
        count(&row, "n")
    }

    /// Writes a key and gives its new version. `then` is called with it once it is on disk, in the order of the writes.
    ///
    /// # Errors
    /// [`StoreError::Limit`] if it is a new key and the mesh has `max_keys` already.
    pub async fn set_state(
        &self,
        mesh: &MeshId,
        write: StateWrite,
        max_keys: usize,
        audit: Option<AuditEvent>,
        then: impl FnOnce(u64) + Send + 'static,
    ) -> Result<u64, StoreError> {
        let mesh = mesh.clone();
        let value = to_json(&write.value)?;
        self.transaction_then(
            audit,
            move |connection| {
                Box::pin(async move {
                    let rows = sqlx::query(
                        "INSERT INTO state (mesh_id, key, value, version, updated_by_member, updated_by_name, \
                         updated_at) \
                         VALUES ($1, $2, $3, 1, $4, $5, $6) ON CONFLICT (mesh_id, key) DO UPDATE SET \
                         value = excluded.value, version = state.version + 1, \
                         updated_by_member = excluded.updated_by_member, updated_by_name = excluded.updated_by_name, \
                         updated_at = excluded.updated_at RETURNING version",
                    )
                    .bind(mesh.as_str())
                    .bind(write.key.as_str())
                    .bind(value)
                    .bind(write.by_member.as_str())
                    .bind(write.by_name.as_str())
                    .bind(write.at.as_ms())
                    .fetch_all(&mut *connection)
                    .await?;
                    let row = rows.first().ok_or(StoreError::NotFound("key"))?;
                    let version = count(row, "version")?;
                    if version == 1 {
                        // The new row counts too; the error undoes it.
                        let keys = sqlx::query("SELECT COUNT(*) AS n FROM state WHERE mesh_id = $1")
                            .bind(mesh.as_str())
                            .fetch_one(connection)
                            .await?;
                        if get::<i64>(&keys, "n")? > limit(max_keys) {
                            return Err(StoreError::Limit(format!("a mesh has at most {max_keys} state keys")));
                        }
                    }
                    Ok(Recorded::audited(version))
                })
            },
            |version| then(*version),
        )
        .await
    }

    /// Deletes a key, and tells whether it existed. `then` is called with that, as by [`Store::set_state`].
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn delete_state(
        &self,
        mesh: &MeshId,
        key: &str,
        audit: Option<AuditEvent>,
        then: impl FnOnce(bool) + Send + 'static,
    ) -> Result<bool, StoreError> {
        let (mesh, key) = (mesh.clone(), key.to_owned());
        self.transaction_then(
            audit,
            move |connection| {
                Box::pin(async move {
                    let done = sqlx::query("DELETE FROM state WHERE mesh_id = $1 AND key = $2")
                        .bind(mesh.as_str())
                        .bind(key.as_str())
                        .execute(connection)
                        .await?;
                    let existed = done.rows_affected() > 0;
                    Ok(Recorded {
                        value: existed,
                        audit: existed,
                    })
                })
            },
            |existed| then(*existed),
        )
        .await
    }
}
