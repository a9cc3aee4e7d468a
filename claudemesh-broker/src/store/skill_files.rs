//! Files that come with skills: bundles on their way, and those that were deployed.

use super::committer::Recorded;
use super::rows::{count, flag, get, limit, to_i64};
use super::skills::file_facts;
use super::{Store, StoreError};
use claudemesh_proto::limits::{
    MAX_MESH_SKILL_BYTES, MAX_SKILL_BUNDLE_BYTES, MAX_SKILL_FILES, MAX_SKILL_UPLOADS, SKILL_UPLOAD_MS,
};
use claudemesh_proto::model::{MemberId, MeshId, Timestamp, folded_path};
use claudemesh_proto::ops::SkillFile;
use sqlx::AnyConnection;

/// A file with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkillFileContent {
    /// Its path, which was checked.
    pub path: String,
    /// Whether it is a program.
    pub executable: bool,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// A bundle that is not deployed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkillUpload {
    /// Its id.
    pub id: String,
    /// Whether this id was made for it, or it is there.
    pub is_new: bool,
    /// Member that it belongs to.
    pub member: MemberId,
    /// When files are added to it.
    pub at: Timestamp,
}

/// How many files and bytes a bundle has.
type Totals = (u64, u64);

/// A bundle of the member that is not deployed yet: how much it has.
async fn open_bundle(
    connection: &mut AnyConnection,
    mesh: &MeshId,
    id: &str,
    member: &MemberId,
) -> Result<Totals, StoreError> {
    let row = sqlx::query(
        "SELECT files, bytes FROM skill_bundle WHERE mesh_id = $1 AND id = $2 AND member_id = $3 AND deployed = 0",
    )
    .bind(mesh.as_str())
    .bind(id)
    .bind(member.as_str())
    .fetch_optional(connection)
    .await?;
    // It was swept, was deployed already, or is somebody else's.
    let row = row.ok_or(StoreError::NotFound("this upload (uploads end after an hour)"))?;
    Ok((count(&row, "files")?, count(&row, "bytes")?))
}

/// Makes an upload the files of a skill.
pub(super) async fn deploy_bundle(
    connection: &mut AnyConnection,
    mesh: &MeshId,
    id: &str,
    member: &MemberId,
) -> Result<Totals, StoreError> {
    let totals = open_bundle(&mut *connection, mesh, id, member).await?;
    sqlx::query("UPDATE skill_bundle SET deployed = 1 WHERE mesh_id = $1 AND id = $2")
        .bind(mesh.as_str())
        .bind(id)
        .execute(connection)
        .await?;
    Ok(totals)
}

/// Removes a bundle and its files.
pub(super) async fn delete_bundle(connection: &mut AnyConnection, mesh: &MeshId, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM skill_bundle WHERE mesh_id = $1 AND id = $2")
        .bind(mesh.as_str())
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

async fn begin(connection: &mut AnyConnection, mesh: &MeshId, upload: &SkillUpload) -> Result<(), StoreError> {
    let since = upload.at.as_ms().saturating_sub(SKILL_UPLOAD_MS);
    let row = sqlx::query(
        "SELECT COUNT(*) AS n FROM skill_bundle WHERE mesh_id = $1 AND member_id = $2 AND deployed = 0 AND begun_at > $3",
    )
    .bind(mesh.as_str())
    .bind(upload.member.as_str())
    .bind(since)
    .fetch_one(&mut *connection)
    .await?;
    if get::<i64>(&row, "n")? >= limit(MAX_SKILL_UPLOADS) {
        return Err(StoreError::Limit(format!(
            "a member has at most {MAX_SKILL_UPLOADS} uploads for skills that are not deployed: deploy one, or wait an hour"
        )));
    }
    sqlx::query(
        "INSERT INTO skill_bundle (mesh_id, id, member_id, begun_at, deployed, files, bytes) \
         VALUES ($1, $2, $3, $4, 0, 0, 0)",
    )
    .bind(mesh.as_str())
    .bind(upload.id.as_str())
    .bind(upload.member.as_str())
    .bind(upload.at.as_ms())
    .execute(connection)
    .await?;
    Ok(())
}

async fn add(
    connection: &mut AnyConnection,
    mesh: &MeshId,
    bundle: &str,
    file: SkillFileContent,
) -> Result<(), StoreError> {
    let SkillFileContent {
        path,
        executable,
        content,
    } = file;
    // The same file again: the answer to the first request may have been lost.
    let written = sqlx::query(
        "INSERT INTO skill_file (mesh_id, bundle, folded, path, executable, size, content) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (mesh_id, bundle, folded) DO UPDATE SET executable = \
         excluded.executable, size = excluded.size, content = excluded.content WHERE skill_file.path = excluded.path",
    )
    .bind(mesh.as_str())
    .bind(bundle)
    .bind(folded_path(&path))
    .bind(path.as_str())
    .bind(i64::from(executable))
    .bind(limit(content.len()))
    .bind(content)
    .execute(connection)
    .await?;
    if written.rows_affected() == 0 {
        return Err(StoreError::Conflict(format!(
            "{path} differs from another file of the bundle only in the case of letters: rename one"
        )));
    }
    Ok(())
}

/// Counts what the bundle has now. The error undoes what was added.
async fn check(connection: &mut AnyConnection, mesh: &MeshId, bundle: &str) -> Result<Totals, StoreError> {
    let rows = sqlx::query("SELECT folded, size FROM skill_file WHERE mesh_id = $1 AND bundle = $2 ORDER BY folded")
        .bind(mesh.as_str())
        .bind(bundle)
        .fetch_all(&mut *connection)
        .await?;
    if rows.len() > MAX_SKILL_FILES {
        return Err(StoreError::Limit(format!(
            "a skill has at most {MAX_SKILL_FILES} files"
        )));
    }
    let mut bytes = 0_u64;
    let mut paths: Vec<String> = Vec::with_capacity(rows.len());
    for row in &rows {
        bytes = bytes.saturating_add(count(row, "size")?);
        paths.push(get(row, "folded")?);
    }
    if bytes > MAX_SKILL_BUNDLE_BYTES as u64 {
        return Err(StoreError::Limit(format!(
            "the files of a skill have at most {MAX_SKILL_BUNDLE_BYTES} bytes together"
        )));
    }
    let directory = |path: &&String| paths.iter().any(|other| other.starts_with(&format!("{path}/")));
    if let Some(both) = paths.iter().find(directory) {
        return Err(StoreError::Conflict(format!(
            "{both} is a file and a directory of the bundle"
        )));
    }
    let files = paths.len() as u64;
    sqlx::query("UPDATE skill_bundle SET files = $1, bytes = $2 WHERE mesh_id = $3 AND id = $4")
        .bind(to_i64(files)?)
        .bind(to_i64(bytes)?)
        .bind(mesh.as_str())
        .bind(bundle)
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query("SELECT CAST(SUM(bytes) AS BIGINT) AS n FROM skill_bundle WHERE mesh_id = $1")
        .bind(mesh.as_str())
        .fetch_one(connection)
        .await?;
    if get::<i64>(&row, "n")? > limit(MAX_MESH_SKILL_BYTES) {
        return Err(StoreError::Limit(format!(
            "the files of a mesh's skills have at most {MAX_MESH_SKILL_BYTES} bytes together: remove a skill first"
        )));
    }
    Ok((files, bytes))
}

impl Store {
    /// Adds files to a bundle that is not deployed yet, and tells how many files and bytes it has then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the bundle is not there or not the member's; [`StoreError::Conflict`] for paths that exclude
    /// each other; [`StoreError::Limit`]. Nothing is added then.
    pub async fn add_skill_files(
        &self,
        mesh: &MeshId,
        upload: SkillUpload,
        files: Vec<SkillFileContent>,
    ) -> Result<(u64, u64), StoreError> {
        let mesh = mesh.clone();
        self.transaction(None, move |connection| {
            Box::pin(async move {
                if upload.is_new {
                    begin(&mut *connection, &mesh, &upload).await?;
                } else {
                    open_bundle(&mut *connection, &mesh, &upload.id, &upload.member).await?;
                }
                for file in files {
                    add(&mut *connection, &mesh, &upload.id, file).await?;
                }
                Ok(Recorded::silently(check(connection, &mesh, &upload.id).await?))
            })
        })
        .await
    }

    /// The files of a bundle without their contents, by path.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn skill_files(&self, mesh: &MeshId, bundle: &str) -> Result<Vec<SkillFile>, StoreError> {
        let rows = sqlx::query(
            "SELECT path, size, executable FROM skill_file WHERE mesh_id = $1 AND bundle = $2 ORDER BY folded",
        )
        .bind(mesh.as_str())
        .bind(bundle)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(file_facts).collect()
    }

    /// One file of a bundle.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn skill_file(
        &self,
        mesh: &MeshId,
        bundle: &str,
        path: &str,
    ) -> Result<Option<SkillFileContent>, StoreError> {
        let row = sqlx::query(
            "SELECT path, executable, content FROM skill_file WHERE mesh_id = $1 AND bundle = $2 AND folded = $3 AND \
             path = $4",
        )
        .bind(mesh.as_str())
        .bind(bundle)
        .bind(folded_path(path))
        .bind(path)
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(SkillFileContent {
            path: get(&row, "path")?,
            executable: flag(&row, "executable")?,
            content: get(&row, "content")?,
        }))
    }

    /// Removes at most `most` bundles of all meshes that were begun before this time and not deployed; tells how many.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn purge_skill_uploads(&self, before: Timestamp, most: usize) -> Result<u64, StoreError> {
        self.transaction(None, move |connection| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT mesh_id, id FROM skill_bundle WHERE deployed = 0 AND begun_at < $1 ORDER BY begun_at LIMIT $2",
                )
                .bind(before.as_ms())
                .bind(limit(most))
                .fetch_all(&mut *connection)
                .await?;
                for row in &rows {
                    let mesh = MeshId(get(row, "mesh_id")?);
                    delete_bundle(&mut *connection, &mesh, get(row, "id")?).await?;
                }
                Ok(Recorded::silently(rows.len() as u64))
            })
        })
        .await
    }
}
