//! Deploying skills with their files.

use super::archive;
use super::bundle::{MAIN_FILE, SkillBundle, too_large};
use super::git::{self, Repository};
use crate::files::interrupted;
use crate::{ClientError, MeshClient};
use claudemesh_crypto::encode_base64;
use claudemesh_proto::limits::{MAX_SKILL_ARCHIVE_BYTES, MAX_SKILL_FILE_BYTES};
use claudemesh_proto::model::Base64;
use claudemesh_proto::ops::{GetFile, NewSkillFile, SkillDeploy, SkillDeployed, SkillSource, UploadSkillFiles};
use claudemesh_proto::tools::{DeploySkillTool, FetchFile};
use std::fs::File;

/// Most bytes of files in one request: as base64, with names around them, they fit into a frame.
const PART_BYTES: usize = MAX_SKILL_FILE_BYTES;

impl MeshClient {
    /// The tool `mesh_skill_deploy`. A zip archive is fetched, opened with the caller's key and unpacked here; a repository
    /// is fetched with the program `git`. Nothing of either is run, and what is unpacked is bounded while it comes.
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] unless exactly one of `file_id` and `git_url` is given; `not_found` without a SKILL.md;
    /// `invalid_request` and `too_large` for what cannot be a skill; `forbidden` for another member's skill.
    pub async fn deploy_skill_tool(&self, params: DeploySkillTool) -> Result<SkillDeployed, ClientError> {
        match (params.file_id, params.git_url) {
            (Some(file_id), None) => {
                if params.git_branch.is_some() {
                    return Err(ClientError::invalid("git_branch", "belongs to git_url"));
                }
                let bundle = self.unpack_file(&file_id, params.path.clone()).await?;
                let path = params.path;
                self.deploy_skill(bundle, SkillSource::Zip { file_id, path }).await
            }
            (None, Some(url)) => {
                let repository = Repository {
                    url: &url,
                    branch: params.git_branch.as_deref(),
                    path: params.path.as_deref(),
                };
                let (bundle, commit) = git::fetch(repository, self.inner().options.git_access).await?;
                let source = SkillSource::Git {
                    url: url.trim().to_owned(),
                    branch: params.git_branch,
                    commit: Some(commit),
                    path: params.path,
                };
                self.deploy_skill(bundle, source).await
            }
            (None, None) => Err(ClientError::invalid("file_id", "or git_url is needed")),
            (Some(_), Some(_)) => Err(ClientError::invalid("git_url", "cannot be given beside file_id")),
        }
    }

    /// Shares a skill with its files; a local one without files is shared as `share_skill` does it.
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] if the skill has no name; those of [`MeshClient::request`]: `forbidden` for another
    /// member's skill, `too_large`.
    pub async fn deploy_skill(&self, bundle: SkillBundle, source: SkillSource) -> Result<SkillDeployed, ClientError> {
        if bundle.files.is_empty() && source == (SkillSource::Local {}) {
            let shared = self.request(bundle.document.share(bundle.directory)?).await?;
            return Ok(SkillDeployed {
                name: shared.name,
                files: vec![MAIN_FILE.to_owned()],
                version: shared.version.unwrap_or_default(),
                updated_at: shared.updated_at,
                created: shared.created,
                bytes: 0,
            });
        }
        if self.inner().protocol() < 2 {
            // It answers, and does nothing.
            return Err(ClientError::Unsupported {
                what: "skills with files".to_owned(),
            });
        }
        let SkillBundle {
            document,
            directory,
            files,
        } = bundle;
        let skill = document.share(directory)?;
        let mut upload = None;
        let mut part: Vec<NewSkillFile> = Vec::new();
        let mut bytes = 0;
        for file in files {
            if !part.is_empty() && bytes + file.content.len() > PART_BYTES {
                upload = self.upload_part(upload, std::mem::take(&mut part)).await?;
                bytes = 0;
            }
            bytes += file.content.len();
            part.push(NewSkillFile {
                base64: Base64(encode_base64(&file.content)),
                path: file.path,
                executable: file.executable,
            });
        }
        if !part.is_empty() {
            upload = self.upload_part(upload, part).await?;
        }
        let skill = Some(skill);
        self.request(SkillDeploy { source, skill, upload }).await
    }

    async fn upload_part(
        &self,
        upload: Option<String>,
        files: Vec<NewSkillFile>,
    ) -> Result<Option<String>, ClientError> {
        let uploaded = self.request(UploadSkillFiles { upload, files }).await?;
        Ok(Some(uploaded.upload))
    }

    /// Fetches a shared archive, opens it and takes the skill out.
    async fn unpack_file(&self, id: &str, path: Option<String>) -> Result<SkillBundle, ClientError> {
        let asked = GetFile {
            file_id: id.to_owned(),
            key_only: true,
        };
        let facts = self.request(asked).await?;
        // What is sealed is a little larger than what it holds.
        if facts.size.is_some_and(|size| size > 2 * MAX_SKILL_ARCHIVE_BYTES) {
            return Err(archive_too_large());
        }
        let directory = tempfile::Builder::new().prefix("claudemesh-skill-").tempdir();
        let directory = directory.map_err(|error| {
            ClientError::invalid(
                "file_id",
                format!("needs a temporary directory for the archive: {error}"),
            )
        })?;
        let place = directory.path().join("archive.zip");
        let request = FetchFile {
            id: id.to_owned(),
            save_to: place.to_string_lossy().into_owned(),
            overwrite: false,
        };
        let fetched = self.fetch_file(request).await?;
        if fetched.size > MAX_SKILL_ARCHIVE_BYTES {
            return Err(archive_too_large());
        }
        let stem = fetched
            .name
            .rsplit_once('.')
            .map_or(&*fetched.name, |(stem, _)| stem)
            .to_owned();
        let unpacking = tokio::task::spawn_blocking(move || {
            let file = File::open(&place).map_err(|error| crate::files::local(&place, "file_id", &error))?;
            let mut bundle = archive::unpack(file, path.as_deref())?;
            bundle.directory = bundle.directory.or(Some(stem));
            drop(directory);
            Ok(bundle)
        });
        unpacking.await.map_err(interrupted)?
    }
}

fn archive_too_large() -> ClientError {
    too_large(format!(
        "the archive has more than {MAX_SKILL_ARCHIVE_BYTES} bytes; leave out what is not of the skill"
    ))
}
