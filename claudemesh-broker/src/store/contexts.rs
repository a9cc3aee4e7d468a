//! What the members of meshes know at the moment: one row per member and topic.

use super::committer::Recorded;
use super::fulltext::{self, Found, Query, SearchFilter, Searchable, Words, fold};
use super::rows::{get, json, limit, not_of, text, time, to_json};
use super::{Store, StoreError};
use claudemesh_proto::model::{MemberId, MeshId, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};

/// One context.
#[derive(Clone, Debug, PartialEq)]
pub struct ContextRow {
    /// Its id.
    pub id: String,
    /// Member that shared it.
    pub member: MemberId,
    /// Name of that member then.
    pub peer_name: String,
    /// What it is about; empty for the member's general context.
    pub topic: String,
    /// What was learned.
    pub summary: String,
    /// Paths of files that were read.
    pub files_read: Vec<String>,
    /// Findings.
    pub key_findings: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// When it was shared last.
    pub updated_at: Timestamp,
}

/// A context to be shared.
#[derive(Clone, Debug)]
pub struct NewContext {
    /// Its id if it is the first one of its topic.
    pub id: String,
    /// Member that shares it.
    pub member: MemberId,
    /// Name of that member.
    pub peer_name: String,
    /// What it is about; empty for the member's general context. Case does not matter.
    pub topic: String,
    /// What was learned.
    pub summary: String,
    /// Paths of files that were read.
    pub files_read: Vec<String>,
    /// Findings.
    pub key_findings: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// When.
    pub at: Timestamp,
}

impl NewContext {
    /// Everything that is searched except tags.
    fn body(&self) -> String {
        let mut body = format!("{}\n{}", self.topic, self.summary);
        for line in self.files_read.iter().chain(&self.key_findings) {
            body.push('\n');
            body.push_str(line);
        }
        body
    }
}

const COLUMNS: &str =
    "t.id, t.member_id, t.peer_name, t.topic, t.summary, t.files_read, t.key_findings, t.tags, t.updated_at";

const SEARCHABLE: Searchable = Searchable {
    table: "context",
    columns: COLUMNS,
    live: "1 = 1",
    author: "member_id",
    text: "summary",
    ranked: false,
    time: "updated_at",
};

fn context_row(row: &AnyRow) -> Result<ContextRow, StoreError> {
    Ok(ContextRow {
        id: get(row, "id")?,
        member: text(row, "member_id")?,
        peer_name: get(row, "peer_name")?,
        topic: get(row, "topic")?,
        summary: get(row, "summary")?,
        files_read: json(row, "files_read")?,
        key_findings: json(row, "key_findings")?,
        tags: json(row, "tags")?,
        updated_at: time(row, "updated_at")?,
    })
}

/// Removes what a member shared.
pub(super) async fn remove_contexts_of(
    connection: &mut AnyConnection,
    mesh: &MeshId,
    member: &MemberId,
) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT seq FROM context WHERE mesh_id = $1 AND member_id = $2")
        .bind(mesh.as_str())
        .bind(member.as_str())
        .fetch_all(&mut *connection)
        .await?;
    remove(connection, &rows).await
}

async fn remove(connection: &mut AnyConnection, rows: &[AnyRow]) -> Result<(), StoreError> {
    for row in rows {
        let seq: i64 = get(row, "seq")?;
        fulltext::unindex(&mut *connection, "context", seq).await?;
        sqlx::query("DELETE FROM context WHERE seq = $1")
            .bind(seq)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

impl Store {
    /// Shares a context: replaces that of the same member and topic, and removes the member's oldest beyond `max_topics`.
    /// Gives its id. `then` is called once it is on disk, in the order of the writes.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn share_context(
        &self,
        mesh: &MeshId,
        new: NewContext,
        max_topics: usize,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<String, StoreError> {
        let mesh = mesh.clone();
        let (files, findings) = (to_json(&new.files_read)?, to_json(&new.key_findings)?);
        let tags = to_json(&new.tags)?;
        let words = Words::new(&new.body(), &new.tags);
        self.transaction_then(
            None,
            move |connection| {
                Box::pin(async move {
                    let rows = sqlx::query(
                        "INSERT INTO context (id, mesh_id, member_id, peer_name, topic, topic_key, summary, files_read, \
                         key_findings, tags, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                         ON CONFLICT (mesh_id, member_id, topic_key) DO UPDATE SET peer_name = excluded.peer_name, \
                         topic = excluded.topic, summary = excluded.summary, files_read = excluded.files_read, \
                         key_findings = excluded.key_findings, tags = excluded.tags, updated_at = excluded.updated_at \
                         RETURNING seq, id",
                    )
                    .bind(new.id.as_str())
                    .bind(mesh.as_str())
                    .bind(new.member.as_str())
                    .bind(new.peer_name.as_str())
                    .bind(new.topic.as_str())
                    .bind(fold(&new.topic))
                    .bind(new.summary.as_str())
                    .bind(files)
                    .bind(findings)
                    .bind(tags)
                    .bind(new.at.as_ms())
                    .fetch_all(&mut *connection)
                    .await?;
                    let row = rows.first().ok_or(StoreError::NotFound("context"))?;
                    let (seq, id): (i64, String) = (get(row, "seq")?, get(row, "id")?);
                    if id != new.id {
                        fulltext::unindex(&mut *connection, "context", seq).await?;
                    }
                    fulltext::index(&mut *connection, "context", seq, &mesh, &words).await?;
                    let beyond = sqlx::query(
                        "SELECT seq FROM context WHERE mesh_id = $1 AND member_id = $2 AND seq <> $3 \
                         ORDER BY updated_at DESC, seq DESC LIMIT $4 OFFSET $5",
                    )
                    .bind(mesh.as_str())
                    .bind(new.member.as_str())
                    .bind(seq)
                    .bind(i64::MAX)
                    .bind(limit(max_topics.saturating_sub(1)))
                    .fetch_all(&mut *connection)
                    .await?;
                    remove(connection, &beyond).await?;
                    Ok(Recorded::silently(id))
                })
            },
            |_| then(),
        )
        .await
    }

    /// Searches the contexts of a mesh, newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn find_contexts(
        &self,
        mesh: &MeshId,
        query: &Query,
        filter: SearchFilter<'_>,
    ) -> Result<Found<ContextRow>, StoreError> {
        let found = fulltext::search(self.fulltext(), self.pool(), &SEARCHABLE, mesh, query, filter).await?;
        found.map(context_row)
    }

    /// The contexts of a mesh without those of `hidden` members, newest first, at most `most`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn list_contexts(
        &self,
        mesh: &MeshId,
        hidden: &[MemberId],
        most: usize,
    ) -> Result<Vec<ContextRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM context t WHERE t.mesh_id = $1{} ORDER BY t.updated_at DESC, t.seq DESC LIMIT $2",
            not_of("t.member_id", hidden.len(), 3)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(mesh.as_str()).bind(limit(most));
        for member in hidden {
            query = query.bind(member.as_str());
        }
        query.fetch_all(self.pool()).await?.iter().map(context_row).collect()
    }
}
