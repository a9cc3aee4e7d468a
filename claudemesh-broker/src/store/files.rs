//! Shared files: what is known about them, who has their keys, who fetched them. Their bytes are in a blob store.

use super::committer::Recorded;
use super::rows::{count, flag, get, json_opt, limit, text, time, time_opt, to_i64, to_json, to_json_opt};
use super::{AuditEvent, Store, StoreError};
use claudemesh_proto::model::{Base64, KeyHex, MemberId, MeshId, Timestamp};
use claudemesh_proto::ops::{FileProof, WrappedFileKey};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

/// Most accesses that are told of one file.
const MAX_ACCESSES: usize = 500;

/// A file, shared or on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct FileRow {
    /// Its mesh.
    pub mesh_id: MeshId,
    /// Its id, unique in the mesh.
    pub id: String,
    /// Name of its blob.
    pub blob: String,
    /// What the blob store calls the upload, while there is one.
    pub upload: Option<String>,
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its media type.
    pub mime: Option<String>,
    /// Length of its blob.
    pub size: u64,
    /// How many bytes of it are on disk.
    pub received: u64,
    /// Whether it stays until it is deleted.
    pub persistent: bool,
    /// How long it is kept after it was shared, in milliseconds.
    pub keep_ms: Option<i64>,
    /// Whether the blob is sealed.
    pub encrypted: bool,
    /// What it was shared with.
    pub target: Option<String>,
    /// The owner's statement.
    pub proof: Option<FileProof>,
    /// Member that shared it.
    pub owner_member: MemberId,
    /// Key of that member.
    pub owner_key: KeyHex,
    /// Name of that member then.
    pub owner_name: String,
    /// When its upload began.
    pub begun_at: Timestamp,
    /// When it was shared.
    pub shared_at: Option<Timestamp>,
    /// When it ends: the file once it is shared, the upload before.
    pub expires_at: Option<Timestamp>,
}

/// A blob that nothing refers to any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGarbage {
    /// Mesh that it was in.
    pub mesh_id: MeshId,
    /// Name of the blob.
    pub blob: String,
    /// What the blob store calls the upload, if it was not finished.
    pub upload: Option<String>,
}

/// Bounds that are checked where an upload begins.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Most bytes of all files of the mesh, uploads included.
    pub mesh_bytes: u64,
    /// Most files of the mesh.
    pub mesh_files: u64,
    /// Most uploads of one member that are not finished.
    pub member_uploads: u64,
}

/// Who fetched a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAccessRow {
    /// Key of the member.
    pub peer_key: KeyHex,
    /// Its name then.
    pub peer_name: String,
    /// When.
    pub at: Timestamp,
}

/// Who has a file's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileKeyRow {
    /// Key that it is wrapped for.
    pub peer_key: KeyHex,
    /// Since when.
    pub granted_at: Timestamp,
}

/// A file's key for one more recipient.
#[derive(Clone, Debug)]
pub struct FileGrant {
    /// The key, wrapped.
    pub key: WrappedFileKey,
    /// Who grants it.
    pub by: KeyHex,
    /// When.
    pub at: Timestamp,
}

/// What [`Store::list_files`] looks for.
#[derive(Clone, Debug, Default)]
pub struct FileQuery {
    /// Keys of the caller: files that one of them may open or owns; empty: every file.
    pub keys: Vec<KeyHex>,
    /// Part of the name.
    pub name: Option<String>,
    /// Exact name of the owner.
    pub owner: Option<String>,
    /// A tag.
    pub tag: Option<String>,
    /// Go on after this file.
    pub after: Option<String>,
    /// Most rows.
    pub limit: usize,
}

fn file_row(row: &AnyRow) -> Result<FileRow, StoreError> {
    Ok(FileRow {
        mesh_id: text(row, "mesh_id")?,
        id: get(row, "id")?,
        blob: get(row, "blob")?,
        upload: get(row, "upload")?,
        name: get(row, "name")?,
        tags: super::rows::json(row, "tags")?,
        mime: get(row, "mime")?,
        size: count(row, "size")?,
        received: count(row, "received")?,
        persistent: flag(row, "persistent")?,
        keep_ms: get(row, "keep_ms")?,
        encrypted: flag(row, "encrypted")?,
        target: get(row, "target")?,
        proof: json_opt(row, "proof")?,
        owner_member: text(row, "owner_member_id")?,
        owner_key: text(row, "owner_pubkey")?,
        owner_name: get(row, "owner_name")?,
        begun_at: time(row, "begun_at")?,
        shared_at: time_opt(row, "shared_at")?,
        expires_at: time_opt(row, "expires_at")?,
    })
}

fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// `%part%` for `LIKE … ESCAPE '!'`. (A backslash is no good: Postgres has it as its own escape in some settings.)
fn like(part: &str) -> String {
    let mut pattern = String::from("%");
    for c in part.chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

async fn find(connection: &mut AnyConnection, mesh: &MeshId, id: &str) -> Result<Option<FileRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM file WHERE mesh_id = $1 AND id = $2")
        .bind(mesh.as_str())
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(file_row).transpose()
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

async fn insert_key(
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

fn garbage(row: &FileRow) -> FileGarbage {
    FileGarbage {
        mesh_id: row.mesh_id.clone(),
        blob: row.blob.clone(),
        upload: row.upload.clone(),
    }
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
