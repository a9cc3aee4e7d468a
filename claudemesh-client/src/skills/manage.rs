//! Sharing, reading and removing skills.

use crate::{ClientError, MeshClient};
use claudemesh_crypto::decode_base64;
use claudemesh_proto::ErrorCode;
use claudemesh_proto::limits::MAX_ANSWER_BYTES;
use claudemesh_proto::model::SkillManifest;
use claudemesh_proto::ops::{
    GetSkill, ListSkills, RemoveSkill, ShareSkill, Skill, SkillAck, SkillFile, SkillOutcome, SkillSummary,
};
use claudemesh_proto::tools::{GetSkillTool, GotSkill, ShareSkillTool};

/// Bytes of texts that come along with a skill when no file was asked for.
const ALONG: u64 = 64 * 1024;
/// Most pages of a list: a broker that always says `more` must not hold anybody up.
const MAX_PAGES: usize = 1_000;

/// What kind of content the name of a file promises.
#[must_use]
pub fn mime_of(path: &str) -> &'static str {
    let extension = path.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
    match extension
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .as_deref()
    {
        Some("md" | "markdown") => "text/markdown",
        _ => mime_guess::from_path(path)
            .first_raw()
            .unwrap_or("application/octet-stream"),
    }
}

impl MeshClient {
    /// The tool `share_skill`.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`]: `forbidden` for another member's skill, `too_large`.
    pub async fn share_skill_tool(&self, params: ShareSkillTool) -> Result<SkillAck, ClientError> {
        let manifest = SkillManifest {
            when_to_use: params.when_to_use,
            allowed_tools: params.allowed_tools,
            model: params.model,
            effort: params.effort,
            context: params.context,
            agent: params.agent,
            // What is the default is not said.
            user_invocable: params.user_invocable.filter(|is| !is),
            disable_model_invocation: params.disable_model_invocation.filter(|is| *is),
            argument_hint: params.argument_hint,
            arguments: params.arguments,
            ..SkillManifest::default()
        };
        self.request(ShareSkill {
            name: params.name,
            description: params.description,
            instructions: params.instructions,
            tags: params.tags,
            manifest: Some(manifest).filter(|manifest| !manifest.is_empty()),
        })
        .await
    }

    /// The tool `get_skill`.
    ///
    /// # Errors
    /// `not_found` with near names, and those of [`MeshClient::request`].
    pub async fn get_skill_tool(&self, params: GetSkillTool) -> Result<GotSkill, ClientError> {
        if let Some(path) = params.path {
            let file = self.skill_file(&params.name, &path).await?;
            return Ok(GotSkill {
                skill: None,
                file: Some(file),
            });
        }
        let mut skill = self.skill(&params.name, Vec::new()).await?;
        let mut left = ALONG;
        let mut paths = Vec::new();
        for file in &skill.files {
            if looks_like_text(file) && file.size <= left {
                left -= file.size;
                paths.push(file.path.clone());
            }
        }
        if !paths.is_empty() {
            skill = self.skill(&params.name, paths).await?;
            // What is no text after all is asked for by its path.
            skill.files.iter_mut().for_each(|file| file.base64 = None);
        }
        Ok(GotSkill {
            skill: Some(skill),
            file: None,
        })
    }

    /// The tool `remove_skill`.
    ///
    /// # Errors
    /// `not_found` with near names; `forbidden` for other members' skills.
    pub async fn remove_skill_tool(&self, params: RemoveSkill) -> Result<SkillAck, ClientError> {
        let name = params.name.clone();
        let ack = self.request(params).await?;
        match ack.action {
            SkillOutcome::NotFound => Err(no_skill(&name, ack.suggestions)),
            SkillOutcome::Shared | SkillOutcome::Removed => Ok(ack),
        }
    }

    /// A skill, with the contents of these files as far as one answer holds them.
    ///
    /// # Errors
    /// `not_found` with near names, and those of [`MeshClient::request`].
    pub async fn skill(&self, name: &str, paths: Vec<String>) -> Result<Skill, ClientError> {
        let request = GetSkill {
            name: name.to_owned(),
            paths,
        };
        let data = self.request(request).await?;
        let Some(mut skill) = data.skill else {
            return Err(no_skill(name, data.suggestions));
        };
        for file in &mut skill.files {
            file.mime = Some(mime_of(&file.path).to_owned());
        }
        Ok(skill)
    }

    /// One file of a skill, with its content.
    ///
    /// # Errors
    /// `not_found` with near names, and those of [`MeshClient::request`].
    pub async fn skill_file(&self, name: &str, path: &str) -> Result<SkillFile, ClientError> {
        let skill = self.skill(name, vec![path.to_owned()]).await?;
        let file = skill.files.into_iter().find(|file| file.path == path);
        file.filter(|file| file.text.is_some() || file.base64.is_some())
            .ok_or_else(|| {
                let text = format!("the skill {name:?} has no file {path:?}; get_skill lists its files");
                ClientError::refused(ErrorCode::NotFound, text)
            })
    }

    /// A skill with the contents of all of its files, of one version. Holds at most a few megabytes.
    ///
    /// # Errors
    /// `not_found` with near names; `conflict` if it is changed again and again while it is read.
    pub async fn whole_skill(&self, name: &str) -> Result<Skill, ClientError> {
        for _ in 0..3 {
            let mut whole = self.skill(name, Vec::new()).await?;
            let mut at = 0;
            let mut changed = false;
            while at < whole.files.len() && !changed {
                let end = at + as_many_as_fit(&whole.files[at..]);
                let paths = whole.files[at..end].iter().map(|file| file.path.clone()).collect();
                let part = match self.skill(name, paths).await {
                    // A file that was there a moment ago.
                    Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::Unavailable) => {
                        changed = true;
                        continue;
                    }
                    part => part?,
                };
                changed = part.version != whole.version;
                for file in part.files {
                    if let Some(known) = whole.files[at..end].iter_mut().find(|known| known.path == file.path) {
                        *known = file;
                    }
                }
                at = end;
            }
            if !changed {
                return Ok(whole);
            }
        }
        let text = format!("the skill {name:?} was changed while it was read: try again");
        Err(ClientError::refused(ErrorCode::Conflict, text))
    }

    /// Every skill of the mesh by name, with manifests and lists of files.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`].
    pub async fn all_skills(&self) -> Result<Vec<SkillSummary>, ClientError> {
        let mut skills: Vec<SkillSummary> = Vec::new();
        for _ in 0..MAX_PAGES {
            let request = ListSkills {
                query: None,
                after: skills.last().map(|skill| skill.name.clone()),
                details: true,
            };
            let mut list = self.request(request).await?;
            let has_more = list.more && !list.skills.is_empty();
            skills.append(&mut list.skills);
            if !has_more {
                break;
            }
        }
        Ok(skills)
    }
}

/// How many files one answer holds, at least one.
fn as_many_as_fit(files: &[SkillFile]) -> usize {
    let mut left = MAX_ANSWER_BYTES as u64;
    let fitting = files.iter().take_while(|file| {
        let fits = file.size <= left;
        left = left.saturating_sub(file.size);
        fits
    });
    fitting.count().clamp(1, 128)
}

/// Whether a model can make something of the file.
fn looks_like_text(file: &SkillFile) -> bool {
    let mime = mime_of(&file.path);
    let is_known_text = mime.starts_with("text/")
        || ["json", "xml", "yaml", "toml", "javascript", "typescript", "sh"]
            .iter()
            .any(|kind| mime.ends_with(kind));
    is_known_text || mime == "application/octet-stream"
}

fn no_skill(name: &str, suggestions: Vec<String>) -> ClientError {
    let shown: String = name.chars().take(64).collect();
    let mut text = format!("this mesh has no skill {shown:?}; list_skills shows which there are");
    if !suggestions.is_empty() {
        text.push_str(&format!("; near: {}", suggestions.join(", ")));
    }
    let frame = claudemesh_proto::ErrorFrame::new(ErrorCode::NotFound, text).at("/name");
    ClientError::from(frame.suggest(suggestions))
}

/// The bytes of a file that came with its content.
#[must_use]
pub fn content_of(file: &SkillFile) -> Option<Vec<u8>> {
    match (&file.text, &file.base64) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, Some(bytes)) => decode_base64(bytes.as_str()),
        (None, None) => None,
    }
}
