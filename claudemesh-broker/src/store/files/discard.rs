//! Files that go, and the blobs that go after them.

use super::find::find;
use super::rows::{file_row, garbage};
use super::{FileGarbage, FileRow};
use crate::store::committer::Recorded;
use crate::store::rows::{get, limit, text};
use crate::store::{AuditEvent, Store, StoreError};
use claudemesh_proto::model::{MeshId, Timestamp};
use sqlx::AnyConnection;

impl Store {
    /// Removes a file or an upload, and gives its blob, which is listed as garbage from then on. `None` if there is none.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn discard_file(
        &self,
        mesh: &MeshId,
        id: &str,
        at: Timestamp,
        audit: Option<AuditEvent>,
    ) -> Result<Option<FileGarbage>, StoreError> {
        let (mesh, id) = (mesh.clone(), id.to_owned());
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                let Some(row) = find(connection, &mesh, &id).await? else {
                    return Ok(Recorded::silently(None));
                };
                let found = garbage(&row);
                discard(connection, &[row], at).await?;
                Ok(Recorded::audited(Some(found)))
            })
        })
        .await
    }

    /// Removes files whose time is over and uploads that were given up, at most `most`. Gives how many.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn discard_expired_files(&self, now: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.transaction(None, move |connection| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT * FROM file WHERE expires_at <= $1 LIMIT $2")
                    .bind(now.as_ms())
                    .bind(limit(most))
                    .fetch_all(&mut *connection)
                    .await?;
                let rows = rows.iter().map(file_row).collect::<Result<Vec<_>, _>>()?;
                discard(connection, &rows, now).await?;
                Ok(Recorded::silently(rows.len()))
            })
        })
        .await
    }

    /// Blobs to remove, at most `most`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn file_garbage(&self, most: usize) -> Result<Vec<FileGarbage>, StoreError> {
        sqlx::query("SELECT * FROM file_garbage ORDER BY since LIMIT $1")
            .bind(limit(most))
            .fetch_all(self.pool())
            .await?
            .iter()
            .map(|row| {
                Ok(FileGarbage {
                    mesh_id: text(row, "mesh_id")?,
                    blob: get(row, "blob")?,
                    upload: get(row, "upload")?,
                })
            })
            .collect()
    }

    /// A blob was removed.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn forget_garbage(&self, blob: &str) -> Result<(), StoreError> {
        let blob = blob.to_owned();
        self.transaction(None, move |connection| {
            Box::pin(async move {
                sqlx::query("DELETE FROM file_garbage WHERE blob = $1")
                    .bind(blob.as_str())
                    .execute(connection)
                    .await?;
                Ok(Recorded::silently(()))
            })
        })
        .await
    }
}

/// Removes rows and lists their blobs as garbage.
async fn discard(connection: &mut AnyConnection, rows: &[FileRow], at: Timestamp) -> Result<(), StoreError> {
    for row in rows {
        sqlx::query("INSERT INTO file_garbage (mesh_id, blob, upload, since) VALUES ($1, $2, $3, $4)")
            .bind(row.mesh_id.as_str())
            .bind(row.blob.as_str())
            .bind(row.upload.as_deref())
            .bind(at.as_ms())
            .execute(&mut *connection)
            .await?;
        sqlx::query("DELETE FROM file WHERE mesh_id = $1 AND id = $2")
            .bind(row.mesh_id.as_str())
            .bind(row.id.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
