//! Skills of meshes.

use super::committer::Recorded;
use super::rows::{count, flag, get, json, json_opt, like, limit, text, time, to_i64, to_json, to_json_opt};
use super::skill_files::{delete_bundle, deploy_bundle};
use super::{AuditEvent, Store, StoreError};
use claudemesh_proto::model::{MemberId, MeshId, SkillManifest, Timestamp};
use claudemesh_proto::ops::{SkillFile, SkillSource};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::collections::HashMap;

/// One skill.
#[derive(Clone, Debug, PartialEq)]
pub struct SkillRow {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What an agent is to do; empty in lists.
    pub instructions: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What else its frontmatter says.
    pub manifest: Option<SkillManifest>,
    /// Where it came from, if it was deployed.
    pub source: Option<SkillSource>,
    /// Its files, if it has some.
    pub bundle: Option<String>,
    /// How many files it has.
    pub file_count: u64,
    /// How many bytes they have.
    pub file_bytes: u64,
    /// Member that shared it first.
    pub author: MemberId,
    /// Name of that member then.
    pub author_name: String,
    /// Name of the member that changed it last.
    pub updated_by: String,
    /// When it was shared first.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// How often it has been shared.
    pub version: u64,
}

/// A skill to be stored.
#[derive(Clone, Debug)]
pub struct NewSkill {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What an agent is to do.
    pub instructions: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What else its frontmatter says.
    pub manifest: Option<SkillManifest>,
    /// Where it comes from, if it is deployed.
    pub source: Option<SkillSource>,
    /// The bundle with its files: one of the same member that is not deployed yet.
    pub upload: Option<String>,
    /// Who stores it, and that member's name.
    pub by: (MemberId, String),
    /// When.
    pub at: Timestamp,
}

/// Which skills to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct SkillSelection<'a> {
    /// Only with this in name, description or tags.
    pub query: &'a str,
    /// Only behind this name.
    pub after: &'a str,
    /// Most skills.
    pub limit: usize,
}

/// Every column but the instructions.
const FACTS: &str = "name, description, tags, manifest, source, bundle, file_count, file_bytes, author_member, \
                     author_name, updated_by_name, created_at, updated_at, version";

fn facts(row: &AnyRow, instructions: String) -> Result<SkillRow, StoreError> {
    Ok(SkillRow {
        name: get(row, "name")?,
        description: get(row, "description")?,
        instructions,
        tags: json(row, "tags")?,
        manifest: json_opt(row, "manifest")?,
        source: json_opt(row, "source")?,
        bundle: get(row, "bundle")?,
        file_count: count(row, "file_count")?,
        file_bytes: count(row, "file_bytes")?,
        author: text(row, "author_member")?,
        author_name: get(row, "author_name")?,
        updated_by: get(row, "updated_by_name")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        version: count(row, "version")?,
    })
}

async fn read(connection: &mut AnyConnection, mesh: &MeshId, name: &str) -> Result<Option<SkillRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM skill WHERE mesh_id = $1 AND name = $2")
        .bind(mesh.as_str())
        .bind(name)
        .fetch_optional(connection)
        .await?;
    row.as_ref()
        .map(|row| facts(row, get(row, "instructions")?))
        .transpose()
}

/// What a search looks into.
fn search_text(new: &NewSkill) -> String {
    let mut text = format!("{}\n{}", new.name, new.description);
    for tag in &new.tags {
        text.push('\n');
        text.push_str(tag);
    }
    text.to_lowercase()
}

impl Store {
    /// Stores a skill and gives its row, unless `decide`, which sees the one of the same name, refuses. The files of the one
    /// that it replaces go. `then` is called with the row once it is on disk, in the order of the writes.
    ///
    /// # Errors
    /// [`StoreError::Limit`] if it is new and the mesh has `max_skills` already; [`StoreError::NotFound`] for an upload that is
    /// not there. A refusal of `decide` is in the result.
    pub async fn put_skill<E: Send + 'static>(
        &self,
        mesh: &MeshId,
        new: NewSkill,
        max_skills: usize,
        audit: Option<AuditEvent>,
        decide: impl FnOnce(Option<&SkillRow>) -> Result<(), E> + Send + 'static,
        then: impl FnOnce(&SkillRow) + Send + 'static,
    ) -> Result<Result<SkillRow, E>, StoreError> {
        let mesh = mesh.clone();
        self.transaction_then(
            audit,
            move |connection| {
                Box::pin(async move {
                    let known = read(&mut *connection, &mesh, &new.name).await?;
                    if let Err(refusal) = decide(known.as_ref()) {
                        return Ok(Recorded::silently(Err(refusal)));
                    }
                    if known.is_none() && skills(connection, &mesh).await? >= limit(max_skills) {
                        return Err(StoreError::Limit(format!(
                            "a mesh has at most {max_skills} skills: remove one first"
                        )));
                    }
                    let row = write(&mut *connection, &mesh, new, known.as_ref()).await?;
                    if let Some(bundle) = known.and_then(|known| known.bundle) {
                        delete_bundle(connection, &mesh, &bundle).await?;
                    }
                    Ok(Recorded::audited(Ok(row)))
                })
            },
            |outcome| {
                if let Ok(row) = outcome {
                    then(row);
                }
            },
        )
        .await
    }

    /// Removes a skill and its files, unless `decide` refuses; gives what it was. `None` if there is no such skill. `then` is
    /// called once it is gone, in the order of the writes.
    ///
    /// # Errors
    /// If the database does not answer. A refusal of `decide` is in the result.
    pub async fn remove_skill<E: Send + 'static>(
        &self,
        mesh: &MeshId,
        name: &str,
        audit: Option<AuditEvent>,
        decide: impl FnOnce(&SkillRow) -> Result<(), E> + Send + 'static,
        then: impl FnOnce(&SkillRow) + Send + 'static,
    ) -> Result<Option<Result<SkillRow, E>>, StoreError> {
        let (mesh, name) = (mesh.clone(), name.to_owned());
        self.transaction_then(
            audit,
            move |connection| {
                Box::pin(async move {
                    let Some(row) = read(&mut *connection, &mesh, &name).await? else {
                        return Ok(Recorded::silently(None));
                    };
                    if let Err(refusal) = decide(&row) {
                        return Ok(Recorded::silently(Some(Err(refusal))));
                    }
                    sqlx::query("DELETE FROM skill WHERE mesh_id = $1 AND name = $2")
                        .bind(mesh.as_str())
                        .bind(name.as_str())
                        .execute(&mut *connection)
                        .await?;
                    if let Some(bundle) = &row.bundle {
                        delete_bundle(connection, &mesh, bundle).await?;
                    }
                    Ok(Recorded::audited(Some(Ok(row))))
                })
            },
            |outcome| {
                if let Some(Ok(row)) = outcome {
                    then(row);
                }
            },
        )
        .await
    }

    /// A skill.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn skill(&self, mesh: &MeshId, name: &str) -> Result<Option<SkillRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM skill WHERE mesh_id = $1 AND name = $2")
            .bind(mesh.as_str())
            .bind(name)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref()
            .map(|row| facts(row, get(row, "instructions")?))
            .transpose()
    }

    /// Skills of a mesh without their instructions, by name.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn list_skills(&self, mesh: &MeshId, selection: SkillSelection<'_>) -> Result<Vec<SkillRow>, StoreError> {
        let sql = format!(
            "SELECT {FACTS} FROM skill WHERE mesh_id = $1 AND name > $2 AND search LIKE $3 ESCAPE '!' \
             ORDER BY name LIMIT $4"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(mesh.as_str())
            .bind(selection.after)
            .bind(like(&selection.query.to_lowercase()))
            .bind(limit(selection.limit))
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| facts(row, String::new())).collect()
    }

    /// Names of all skills of a mesh.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn skill_names(&self, mesh: &MeshId) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT name FROM skill WHERE mesh_id = $1 ORDER BY name")
            .bind(mesh.as_str())
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| get(row, "name")).collect()
    }

    /// Number of skills of a mesh.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn skill_count(&self, mesh: &MeshId) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM skill WHERE mesh_id = $1")
            .bind(mesh.as_str())
            .fetch_one(self.pool())
            .await?;
        count(&row, "n")
    }

    /// The files of the skills from one name to another, without contents, by bundle.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn skill_files_between(
        &self,
        mesh: &MeshId,
        first: &str,
        last: &str,
    ) -> Result<HashMap<String, Vec<SkillFile>>, StoreError> {
        let rows = sqlx::query(
            "SELECT f.bundle, f.path, f.size, f.executable FROM skill s JOIN skill_file f ON f.mesh_id = s.mesh_id AND \
             f.bundle = s.bundle WHERE s.mesh_id = $1 AND s.name >= $2 AND s.name <= $3 ORDER BY f.bundle, f.folded",
        )
        .bind(mesh.as_str())
        .bind(first)
        .bind(last)
        .fetch_all(self.pool())
        .await?;
        let mut files: HashMap<String, Vec<SkillFile>> = HashMap::new();
        for row in &rows {
            files.entry(get(row, "bundle")?).or_default().push(file_facts(row)?);
        }
        Ok(files)
    }
}

/// What a row says of a file beside its content.
pub(super) fn file_facts(row: &AnyRow) -> Result<SkillFile, StoreError> {
    Ok(SkillFile {
        path: get(row, "path")?,
        size: count(row, "size")?,
        executable: flag(row, "executable")?,
        ..SkillFile::default()
    })
}

async fn skills(connection: &mut AnyConnection, mesh: &MeshId) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT COUNT(*) AS n FROM skill WHERE mesh_id = $1")
        .bind(mesh.as_str())
        .fetch_one(connection)
        .await?;
    get(&row, "n")
}

async fn write(
    connection: &mut AnyConnection,
    mesh: &MeshId,
    new: NewSkill,
    known: Option<&SkillRow>,
) -> Result<SkillRow, StoreError> {
    let (file_count, file_bytes) = match &new.upload {
        Some(upload) => deploy_bundle(&mut *connection, mesh, upload, &new.by.0).await?,
        None => (0, 0),
    };
    let row = SkillRow {
        author: known.map_or_else(|| new.by.0.clone(), |known| known.author.clone()),
        author_name: known.map_or_else(|| new.by.1.clone(), |known| known.author_name.clone()),
        created_at: known.map_or(new.at, |known| known.created_at),
        version: known.map_or(1, |known| known.version.saturating_add(1)),
        updated_at: new.at,
        updated_by: new.by.1.clone(),
        bundle: new.upload.clone(),
        file_count,
        file_bytes,
        name: new.name.clone(),
        description: new.description.clone(),
        instructions: new.instructions.clone(),
        tags: new.tags.clone(),
        manifest: new.manifest.clone(),
        source: new.source.clone(),
    };
    sqlx::query(
        "INSERT INTO skill (mesh_id, name, description, instructions, tags, manifest, source, bundle, file_count, \
         file_bytes, search, author_member, author_name, updated_by_member, updated_by_name, created_at, updated_at, \
         version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) \
         ON CONFLICT (mesh_id, name) DO UPDATE SET description = excluded.description, instructions = \
         excluded.instructions, tags = excluded.tags, manifest = excluded.manifest, source = excluded.source, bundle = \
         excluded.bundle, file_count = excluded.file_count, file_bytes = excluded.file_bytes, search = excluded.search, \
         updated_by_member = excluded.updated_by_member, updated_by_name = excluded.updated_by_name, updated_at = \
         excluded.updated_at, version = excluded.version",
    )
    .bind(mesh.as_str())
    .bind(row.name.as_str())
    .bind(row.description.as_str())
    .bind(row.instructions.as_str())
    .bind(to_json(&row.tags)?)
    .bind(to_json_opt(row.manifest.as_ref())?)
    .bind(to_json_opt(row.source.as_ref())?)
    .bind(row.bundle.as_deref())
    .bind(to_i64(file_count)?)
    .bind(to_i64(file_bytes)?)
    .bind(search_text(&new))
    .bind(row.author.as_str())
    .bind(row.author_name.as_str())
    .bind(new.by.0.as_str())
    .bind(new.by.1.as_str())
    .bind(row.created_at.as_ms())
    .bind(row.updated_at.as_ms())
    .bind(to_i64(row.version)?)
    .execute(connection)
    .await?;
    Ok(row)
}
