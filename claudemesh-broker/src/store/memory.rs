//! What meshes remember.

use super::committer::Recorded;
use super::fulltext::{self, Found, Query, SearchFilter, Searchable, Words, tag_keys};
use super::rows::{count, get, json, limit, not_of, text, time, time_opt, to_json};
use super::{AuditEvent, Store, StoreError};
use claudemesh_proto::model::{MemberId, MeshId, Timestamp};
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

/// One memory.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryRow {
    /// Its id.
    pub id: String,
    /// The text.
    pub content: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Member that stored it.
    pub by_member: MemberId,
    /// Name of that member then.
    pub by_name: String,
    /// When it was stored.
    pub at: Timestamp,
    /// When it was forgotten.
    pub forgotten_at: Option<Timestamp>,
}

/// A memory to be stored.
#[derive(Clone, Debug)]
pub struct NewMemory {
    /// Its id.
    pub id: String,
    /// The text.
    pub content: String,
    /// Its tags; none contains a line break.
    pub tags: Vec<String>,
    /// Member that stores it.
    pub by_member: MemberId,
    /// Name of that member.
    pub by_name: String,
    /// When.
    pub at: Timestamp,
}

const COLUMNS: &str =
    "t.id, t.content, t.tags, t.remembered_by_member, t.remembered_by_name, t.remembered_at, t.forgotten_at";

const SEARCHABLE: Searchable = Searchable {
    table: "memory",
    columns: COLUMNS,
    live: "t.forgotten_at IS NULL",
    author: "remembered_by_member",
    text: "content",
    ranked: true,
    time: "remembered_at",
};

fn memory_row(row: &AnyRow) -> Result<MemoryRow, StoreError> {
    Ok(MemoryRow {
        id: get(row, "id")?,
        content: get(row, "content")?,
        tags: json(row, "tags")?,
        by_member: text(row, "remembered_by_member")?,
        by_name: get(row, "remembered_by_name")?,
        at: time(row, "remembered_at")?,
        forgotten_at: time_opt(row, "forgotten_at")?,
    })
}

impl Store {
    /// Stores a memory.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn remember(&self, mesh: &MeshId, new: NewMemory, audit: Option<AuditEvent>) -> Result<(), StoreError> {
        let mesh = mesh.clone();
        let tags = to_json(&new.tags)?;
        let words = Words::new(&new.content, &new.tags);
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "INSERT INTO memory (id, mesh_id, content, tags, tag_keys, remembered_by_member, \
                     remembered_by_name, remembered_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING seq",
                )
                .bind(new.id.as_str())
                .bind(mesh.as_str())
                .bind(new.content.as_str())
                .bind(tags)
                .bind(tag_keys(&new.tags))
                .bind(new.by_member.as_str())
                .bind(new.by_name.as_str())
                .bind(new.at.as_ms())
                .fetch_all(&mut *connection)
                .await?;
                let row = rows.first().ok_or(StoreError::NotFound("memory"))?;
                let seq = get(row, "seq")?;
                fulltext::index(connection, "memory", seq, &mesh, &words).await?;
                Ok(Recorded::audited(()))
            })
        })
        .await
    }

    /// Searches the memories of a mesh, the best match first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn recall(
        &self,
        mesh: &MeshId,
        query: &Query,
        filter: SearchFilter<'_>,
    ) -> Result<Found<MemoryRow>, StoreError> {
        let found = fulltext::search(self.fulltext(), self.pool(), &SEARCHABLE, mesh, query, filter).await?;
        found.map(memory_row)
    }

    /// A memory, forgotten or not.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn memory(&self, mesh: &MeshId, id: &str) -> Result<Option<MemoryRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM memory t WHERE t.mesh_id = $1 AND t.id = $2");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(mesh.as_str())
            .bind(id)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(memory_row).transpose()
    }

    /// Forgets a memory, and tells whether it was there. Its row stays until [`Store::purge_forgotten`].
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn forget(
        &self,
        mesh: &MeshId,
        id: &str,
        at: Timestamp,
        audit: Option<AuditEvent>,
    ) -> Result<bool, StoreError> {
        let (mesh, id) = (mesh.clone(), id.to_owned());
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "UPDATE memory SET forgotten_at = $1 WHERE mesh_id = $2 AND id = $3 AND forgotten_at IS NULL \
                     RETURNING seq",
                )
                .bind(at.as_ms())
                .bind(mesh.as_str())
                .bind(id.as_str())
                .fetch_all(&mut *connection)
                .await?;
                let Some(row) = rows.first() else {
                    return Ok(Recorded::silently(false));
                };
                fulltext::unindex(connection, "memory", get(row, "seq")?).await?;
                Ok(Recorded::audited(true))
            })
        })
        .await
    }

    /// Number of memories of a mesh, without those of `hidden` members.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn memory_count(&self, mesh: &MeshId, hidden: &[MemberId]) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT COUNT(*) AS n FROM memory WHERE mesh_id = $1 AND forgotten_at IS NULL{}",
            not_of("remembered_by_member", hidden.len(), 2)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(mesh.as_str());
        for member in hidden {
            query = query.bind(member.as_str());
        }
        count(&query.fetch_one(self.pool()).await?, "n")
    }

    /// Removes at most `most` memories of all meshes that were forgotten before this time, and tells how many.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn purge_forgotten(&self, before: Timestamp, most: usize) -> Result<u64, StoreError> {
        self.transaction(None, move |connection| {
            Box::pin(async move {
                let done = sqlx::query(
                    "DELETE FROM memory WHERE seq IN (SELECT seq FROM memory WHERE forgotten_at IS NOT NULL AND \
                     forgotten_at < $1 ORDER BY forgotten_at LIMIT $2)",
                )
                .bind(before.as_ms())
                .bind(limit(most))
                .execute(connection)
                .await?;
                Ok(Recorded::silently(done.rows_affected()))
            })
        })
        .await
    }
}
