//! Files on their way, until they are shared.

use super::find::{find, folded};
use super::keys::insert_key;
use super::{FileRow, UploadLimits};
use crate::store::committer::Recorded;
use crate::store::rows::{count, to_i64, to_json, to_json_opt};
use crate::store::{AuditEvent, Store, StoreError};
use claudemesh_proto::model::{MeshId, Timestamp};
use claudemesh_proto::ops::WrappedFileKey;
use sqlx::AnyConnection;

impl Store {
    /// Begins an upload, or gives the row that its owner began (or shared) under this id.
    ///
    /// # Errors
    /// [`StoreError::Limit`]; [`StoreError::Conflict`] when the id belongs to another member's file, or to one of another
    /// size.
    pub async fn begin_upload(
        &self,
        row: FileRow,
        keys: Vec<WrappedFileKey>,
        limits: UploadLimits,
    ) -> Result<FileRow, StoreError> {
        self.transaction(None, move |connection| {
            Box::pin(async move {
                if let Some(known) = find(connection, &row.mesh_id, &row.id).await? {
                    if known.owner_member != row.owner_member || known.size != row.size {
                        return Err(StoreError::Conflict("this file id is taken; choose another one".into()));
                    }
                    return Ok(Recorded::silently(known));
                }
                check_room(connection, &row, limits).await?;
                sqlx::query(
                    "INSERT INTO file (mesh_id, id, blob, upload, name, name_folded, tags, mime, size, received, \
                     persistent, keep_ms, encrypted, target, proof, owner_member_id, owner_pubkey, owner_name, begun_at, \
                     shared_at, expires_at) VALUES ($1, $2, $3, NULL, $4, $5, $6, $7, $8, 0, $9, $10, $11, $12, $13, $14, \
                     $15, $16, $17, NULL, $18)",
                )
                .bind(row.mesh_id.as_str())
                .bind(row.id.as_str())
                .bind(row.blob.as_str())
                .bind(row.name.as_str())
                .bind(folded(&row.name))
                .bind(to_json(&row.tags)?)
                .bind(row.mime.as_deref())
                .bind(to_i64(row.size)?)
                .bind(i64::from(row.persistent))
                .bind(row.keep_ms)
                .bind(i64::from(row.encrypted))
                .bind(row.target.as_deref())
                .bind(to_json_opt(row.proof.as_ref())?)
                .bind(row.owner_member.as_str())
                .bind(row.owner_key.as_str())
                .bind(row.owner_name.as_str())
                .bind(row.begun_at.as_ms())
                .bind(row.expires_at.map(Timestamp::as_ms))
                .execute(&mut *connection)
                .await?;
                for key in &keys {
                    let file = (&row.mesh_id, row.id.as_str());
                    insert_key(connection, file, key, &row.owner_key, row.begun_at).await?;
                }
                Ok(Recorded::silently(row))
            })
        })
        .await
    }

    /// Notes what the blob store calls the upload. Tells whether there was none yet.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn set_upload(&self, mesh: &MeshId, id: &str, upload: &str) -> Result<bool, StoreError> {
        let (mesh, id, upload) = (mesh.clone(), id.to_owned(), upload.to_owned());
        self.transaction(None, move |connection| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE file SET upload = $3 \
                     WHERE mesh_id = $1 AND id = $2 AND upload IS NULL AND shared_at IS NULL",
                )
                .bind(mesh.as_str())
                .bind(id.as_str())
                .bind(upload.as_str())
                .execute(connection)
                .await?;
                Ok(Recorded::silently(done.rows_affected() > 0))
            })
        })
        .await
    }

    /// Notes that an upload has come from `from` to `to`, and moves its deadline. `false` if it stood elsewhere.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn advance_upload(
        &self,
        mesh: &MeshId,
        id: &str,
        from: u64,
        to: u64,
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (mesh, id, from, to) = (mesh.clone(), id.to_owned(), to_i64(from)?, to_i64(to)?);
        self.transaction(None, move |connection| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE file SET received = $4, expires_at = $5 \
                     WHERE mesh_id = $1 AND id = $2 AND received = $3 AND shared_at IS NULL",
                )
                .bind(mesh.as_str())
                .bind(id.as_str())
                .bind(from)
                .bind(to)
                .bind(expires_at.as_ms())
                .execute(connection)
                .await?;
                Ok(Recorded::silently(done.rows_affected() > 0))
            })
        })
        .await
    }

    /// Shares a file whose blob is whole. Gives its row as it is now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the upload is gone.
    pub async fn share_file(
        &self,
        mesh: &MeshId,
        id: &str,
        at: Timestamp,
        audit: Option<AuditEvent>,
    ) -> Result<FileRow, StoreError> {
        let (mesh, id) = (mesh.clone(), id.to_owned());
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                let Some(mut row) = find(connection, &mesh, &id).await? else {
                    return Err(StoreError::NotFound("upload"));
                };
                if row.shared_at.is_some() {
                    return Ok(Recorded::silently(row));
                }
                row.shared_at = Some(at);
                row.expires_at = row
                    .keep_ms
                    .map(|keep| Timestamp::from_ms(at.as_ms().saturating_add(keep)));
                row.upload = None;
                sqlx::query(
                    "UPDATE file SET shared_at = $3, expires_at = $4, upload = NULL WHERE mesh_id = $1 AND id = $2",
                )
                .bind(mesh.as_str())
                .bind(id.as_str())
                .bind(at.as_ms())
                .bind(row.expires_at.map(Timestamp::as_ms))
                .execute(connection)
                .await?;
                Ok(Recorded::audited(row))
            })
        })
        .await
    }
}

async fn check_room(connection: &mut AnyConnection, row: &FileRow, limits: UploadLimits) -> Result<(), StoreError> {
    let sums = sqlx::query(
        "SELECT COUNT(*) AS files, CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes, \
         CAST(COALESCE(SUM(CASE WHEN shared_at IS NULL AND owner_member_id = $2 THEN 1 ELSE 0 END), 0) AS BIGINT) \
         AS uploads FROM file WHERE mesh_id = $1",
    )
    .bind(row.mesh_id.as_str())
    .bind(row.owner_member.as_str())
    .fetch_one(connection)
    .await?;
    let (files, bytes, uploads) = (count(&sums, "files")?, count(&sums, "bytes")?, count(&sums, "uploads")?);
    if bytes.saturating_add(row.size) > limits.mesh_bytes {
        let (size, most) = (row.size, limits.mesh_bytes);
        return Err(StoreError::Limit(format!(
            "the file has {size} bytes, and of the {most} bytes that this mesh may store {bytes} are taken; delete files, or \
             ask the operator to raise FILE_QUOTA_BYTES"
        )));
    }
    if files >= limits.mesh_files {
        let most = limits.mesh_files;
        return Err(StoreError::Limit(format!(
            "a mesh has at most {most} files; delete some first"
        )));
    }
    if uploads >= limits.member_uploads {
        let most = limits.member_uploads;
        return Err(StoreError::Limit(format!(
            "a member has at most {most} uploads at once; finish or cancel one first"
        )));
    }
    Ok(())
}
