//! Names of streams. Their events are never stored.

use super::committer::Recorded;
use super::rows::{get, limit, text, time};
use super::{AuditEvent, Store, StoreError};
use claudemesh_proto::model::{MemberId, MeshId, Timestamp};
use sqlx::any::AnyRow;

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRow {
    /// Its id.
    pub id: String,
    /// Its name, unique in the mesh.
    pub name: String,
    /// Member that created it.
    pub created_by_member: MemberId,
    /// Name of that member then.
    pub created_by_name: String,
    /// When.
    pub created_at: Timestamp,
}

fn stream_row(row: &AnyRow) -> Result<StreamRow, StoreError> {
    Ok(StreamRow {
        id: get(row, "id")?,
        name: get(row, "name")?,
        created_by_member: text(row, "created_by_member")?,
        created_by_name: get(row, "created_by_name")?,
        created_at: time(row, "created_at")?,
    })
}

impl Store {
    /// All streams of a mesh, the oldest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn streams(&self, mesh: &MeshId) -> Result<Vec<StreamRow>, StoreError> {
        sqlx::query("SELECT * FROM stream WHERE mesh_id = $1 ORDER BY created_at, id")
            .bind(mesh.as_str())
            .fetch_all(self.pool())
            .await?
            .iter()
            .map(stream_row)
            .collect()
    }

    /// Creates a stream, or finds the one of the same name; gives its row and whether it is new. `then` is called with
    /// that once it is on disk.
    ///
    /// # Errors
    /// [`StoreError::Limit`] if it is new and the mesh has `max_streams` already.
    pub async fn create_stream(
        &self,
        mesh: &MeshId,
        new: StreamRow,
        max_streams: usize,
        audit: Option<AuditEvent>,
        then: impl FnOnce(&StreamRow) + Send + 'static,
    ) -> Result<(StreamRow, bool), StoreError> {
        let mesh = mesh.clone();
        self.transaction_then(
            audit,
            move |connection| {
                Box::pin(async move {
                    let inserted = sqlx::query(
                        "INSERT INTO stream (id, mesh_id, name, created_by_member, created_by_name, created_at) \
                         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (mesh_id, name) DO NOTHING",
                    )
                    .bind(new.id.as_str())
                    .bind(mesh.as_str())
                    .bind(new.name.as_str())
                    .bind(new.created_by_member.as_str())
                    .bind(new.created_by_name.as_str())
                    .bind(new.created_at.as_ms())
                    .execute(&mut *connection)
                    .await?
                    .rows_affected();
                    if inserted == 0 {
                        let row = sqlx::query("SELECT * FROM stream WHERE mesh_id = $1 AND name = $2")
                            .bind(mesh.as_str())
                            .bind(new.name.as_str())
                            .fetch_one(connection)
                            .await?;
                        return Ok(Recorded::silently((stream_row(&row)?, false)));
                    }
                    // The new row counts too; the error undoes it.
                    let rows = sqlx::query("SELECT COUNT(*) AS n FROM stream WHERE mesh_id = $1")
                        .bind(mesh.as_str())
                        .fetch_one(connection)
                        .await?;
                    if get::<i64>(&rows, "n")? > limit(max_streams) {
                        return Err(StoreError::Limit(format!("a mesh has at most {max_streams} streams")));
                    }
                    Ok(Recorded::audited((new, true)))
                })
            },
            |(row, _)| then(row),
        )
        .await
    }
}
