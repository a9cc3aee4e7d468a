//! Finding files.

use super::rows::file_row;
use super::{FileQuery, FileRow};
use crate::store::rows::{count, like, limit, to_json};
use crate::store::{Store, StoreError};
use claudemesh_proto::model::{MeshId, Timestamp};
use sqlx::AnyConnection;

impl Store {
    /// A file's row, shared or not.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn file(&self, mesh: &MeshId, id: &str) -> Result<Option<FileRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM file WHERE mesh_id = $1 AND id = $2")
            .bind(mesh.as_str())
            .bind(id)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(file_row).transpose()
    }

    /// Shared files, the newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn list_files(
        &self,
        mesh: &MeshId,
        query: &FileQuery,
        now: Timestamp,
    ) -> Result<Vec<FileRow>, StoreError> {
        let (conditions, values) = conditions(query)?;
        let mut sql = format!("SELECT * FROM file WHERE {conditions}");
        sql += &format!(" ORDER BY shared_at DESC, id DESC LIMIT {}", limit(query.limit));
        let mut statement = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(mesh.as_str())
            .bind(now.as_ms());
        for value in values {
            statement = statement.bind(value);
        }
        let rows = statement.fetch_all(self.pool()).await?;
        let mut rows = rows.iter().map(file_row).collect::<Result<Vec<_>, _>>()?;
        if let Some(tag) = &query.tag {
            rows.retain(|row| row.tags.contains(tag));
        }
        Ok(rows)
    }

    /// Number of the files that [`Store::list_files`] would find without a limit.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn file_count(&self, mesh: &MeshId, query: &FileQuery, now: Timestamp) -> Result<u64, StoreError> {
        let (conditions, values) = conditions(query)?;
        let sql = format!("SELECT COUNT(*) AS n FROM file WHERE {conditions}");
        let mut statement = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(mesh.as_str())
            .bind(now.as_ms());
        for value in values {
            statement = statement.bind(value);
        }
        count(&statement.fetch_one(self.pool()).await?, "n")
    }
}

pub(super) async fn find(
    connection: &mut AnyConnection,
    mesh: &MeshId,
    id: &str,
) -> Result<Option<FileRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM file WHERE mesh_id = $1 AND id = $2")
        .bind(mesh.as_str())
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(file_row).transpose()
}

/// What a query looks for, as a condition whose first parameters are the mesh and the time, and the values of the others.
fn conditions(query: &FileQuery) -> Result<(String, Vec<String>), StoreError> {
    let mut sql = String::from("mesh_id = $1 AND shared_at IS NOT NULL AND (expires_at IS NULL OR expires_at > $2)");
    let mut values: Vec<String> = Vec::new();
    let parameter = |values: &mut Vec<String>, value: String| {
        values.push(value);
        format!("${}", values.len() + 2)
    };
    if !query.keys.is_empty() {
        let keys: Vec<String> = query
            .keys
            .iter()
            .map(|key| parameter(&mut values, key.0.clone()))
            .collect();
        let keys = keys.join(", ");
        sql += &format!(
            " AND (owner_pubkey IN ({keys}) OR EXISTS (SELECT 1 FROM file_key WHERE file_key.mesh_id = file.mesh_id \
             AND file_key.file_id = file.id AND file_key.peer_pubkey IN ({keys})) \
             OR (encrypted = 0 AND (target IS NULL OR target IN ('*', '@all', {keys}))))"
        );
    }
    if let Some(name) = &query.name {
        let pattern = parameter(&mut values, like(&folded(name)));
        sql += &format!(" AND name_folded LIKE {pattern} ESCAPE '!'");
    }
    if let Some(owner) = &query.owner {
        let owner = parameter(&mut values, owner.clone());
        sql += &format!(" AND owner_name = {owner}");
    }
    if let Some(tag) = &query.tag {
        let pattern = parameter(&mut values, like(&to_json(tag)?));
        sql += &format!(" AND tags LIKE {pattern} ESCAPE '!'");
    }
    if let Some(after) = &query.after {
        let after = parameter(&mut values, after.clone());
        sql += &format!(
            " AND EXISTS (SELECT 1 FROM file last WHERE last.mesh_id = file.mesh_id AND last.id = {after} AND \
             (file.shared_at < last.shared_at OR (file.shared_at = last.shared_at AND file.id < last.id)))"
        );
    }
    Ok((sql, values))
}

pub(super) fn folded(name: &str) -> String {
    name.to_lowercase()
}
