//! Who has the key of a file, and who fetched it.

use super::find::find;
use super::{FileAccessRow, FileGrant, FileKeyRow};
use crate::store::committer::Recorded;
use crate::store::rows::{count, get, limit, text, time};
use crate::store::{AuditEvent, Store, StoreError};
use claudemesh_proto::model::{Base64, KeyHex, MeshId, Timestamp};
use claudemesh_proto::ops::WrappedFileKey;
use sqlx::AnyConnection;

/// Most accesses that are told of one file.
const MAX_ACCESSES: usize = 500;

impl Store {
    /// The file's key, wrapped for the first of these keys that has one.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn file_key(&self, mesh: &MeshId, id: &str, keys: &[&KeyHex]) -> Result<Option<Base64>, StoreError> {
        for key in keys {
            let row =
                sqlx::query("SELECT sealed_key FROM file_key WHERE mesh_id = $1 AND file_id = $2 AND peer_pubkey = $3")
                    .bind(mesh.as_str())
                    .bind(id)
                    .bind(key.as_str())
                    .fetch_optional(self.pool())
                    .await?;
            if let Some(row) = row {
                return text(&row, "sealed_key").map(Some);
            }
        }
        Ok(None)
    }

    /// Who has the file's key.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn file_keys(&self, mesh: &MeshId, id: &str) -> Result<Vec<FileKeyRow>, StoreError> {
        sqlx::query(
            "SELECT peer_pubkey, granted_at FROM file_key WHERE mesh_id = $1 AND file_id = $2 \
             ORDER BY granted_at, peer_pubkey",
        )
        .bind(mesh.as_str())
        .bind(id)
        .fetch_all(self.pool())
        .await?
        .iter()
        .map(|row| {
            Ok(FileKeyRow {
                peer_key: text(row, "peer_pubkey")?,
                granted_at: time(row, "granted_at")?,
            })
        })
        .collect()
    }

    /// Adds or replaces the file's key of one recipient, unless the file then has more than `most` recipients.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the file is gone, [`StoreError::Limit`].
    pub async fn grant_file(
        &self,
        mesh: &MeshId,
        id: &str,
        grant: FileGrant,
        most: u64,
        audit: Option<AuditEvent>,
    ) -> Result<(), StoreError> {
        let (mesh, id) = (mesh.clone(), id.to_owned());
        let FileGrant { key, by, at } = grant;
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                if find(connection, &mesh, &id).await?.is_none() {
                    return Err(StoreError::NotFound("file"));
                }
                insert_key(connection, (&mesh, &id), &key, &by, at).await?;
                let keys = sqlx::query("SELECT COUNT(*) AS n FROM file_key WHERE mesh_id = $1 AND file_id = $2")
                    .bind(mesh.as_str())
                    .bind(id.as_str())
                    .fetch_one(connection)
                    .await?;
                if count(&keys, "n")? > most {
                    return Err(StoreError::Limit(format!("a file has at most {most} recipients")));
                }
                Ok(Recorded::audited(()))
            })
        })
        .await
    }

    /// Notes that a member fetched a file, unless it did since `since`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn note_file_access(
        &self,
        mesh: &MeshId,
        file: &str,
        access: FileAccessRow,
        since: Timestamp,
    ) -> Result<(), StoreError> {
        let (mesh, file) = (mesh.clone(), file.to_owned());
        self.transaction(None, move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO file_access (id, mesh_id, file_id, peer_pubkey, peer_name, accessed_at) \
                     SELECT $1, mesh_id, id, $4, $5, $6 FROM file WHERE mesh_id = $2 AND id = $3 AND NOT EXISTS \
                     (SELECT 1 FROM file_access a WHERE a.mesh_id = $2 AND a.file_id = $3 AND a.peer_pubkey = $4 \
                     AND a.accessed_at > $7)",
                )
                .bind(claudemesh_crypto::random_id())
                .bind(mesh.as_str())
                .bind(file.as_str())
                .bind(access.peer_key.as_str())
                .bind(access.peer_name.as_str())
                .bind(access.at.as_ms())
                .bind(since.as_ms())
                .execute(connection)
                .await?;
                Ok(Recorded::silently(()))
            })
        })
        .await
    }

    /// Who fetched a file, the newest first; 500 at most.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn file_accesses(&self, mesh: &MeshId, file: &str) -> Result<Vec<FileAccessRow>, StoreError> {
        sqlx::query(
            "SELECT peer_pubkey, peer_name, accessed_at FROM file_access WHERE mesh_id = $1 AND file_id = $2 \
             ORDER BY accessed_at DESC, id LIMIT $3",
        )
        .bind(mesh.as_str())
        .bind(file)
        .bind(limit(MAX_ACCESSES))
        .fetch_all(self.pool())
        .await?
        .iter()
        .map(|row| {
            Ok(FileAccessRow {
                peer_key: text(row, "peer_pubkey")?,
                peer_name: get(row, "peer_name")?,
                at: time(row, "accessed_at")?,
            })
        })
        .collect()
    }
}

pub(super) async fn insert_key(
    connection: &mut AnyConnection,
    file: (&MeshId, &str),
    key: &WrappedFileKey,
    by: &KeyHex,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO file_key (mesh_id, file_id, peer_pubkey, sealed_key, granted_at, granted_by) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (mesh_id, file_id, peer_pubkey) DO UPDATE SET \
         sealed_key = excluded.sealed_key, granted_at = excluded.granted_at, granted_by = excluded.granted_by",
    )
    .bind(file.0.as_str())
    .bind(file.1)
    .bind(key.peer_pubkey.as_str())
    .bind(key.sealed_key.as_str())
    .bind(at.as_ms())
    .bind(by.as_str())
    .execute(connection)
    .await?;
    Ok(())
}
