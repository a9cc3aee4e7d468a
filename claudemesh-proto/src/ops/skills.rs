//! Skills: instructions that members share with the mesh, some with files.

use crate::limits::MAX_SKILL_INSTRUCTIONS_BYTES;
use crate::model::{Base64, MemberId, SkillManifest, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

fn not(flag: &bool) -> bool {
    !*flag
}

/// Shares a skill with the mesh, or replaces one of the caller's own (the owner and admins replace any). A skill that was
/// deployed with files loses them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShareSkill {
    /// Its name in the mesh.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// What it is for, in short.
    #[schemars(length(min = 1, max = 2000))]
    pub description: String,
    /// What an agent is to do, in Markdown.
    #[schemars(length(min = 1, max = MAX_SKILL_INSTRUCTIONS_BYTES))]
    pub instructions: String,
    /// Tags.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub tags: Vec<String>,
    /// What else its frontmatter says; at most 16 KiB of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<SkillManifest>,
}

/// What became of a request that changes a skill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SkillOutcome {
    /// It is shared.
    #[serde(rename = "shared")]
    Shared,
    /// It is removed.
    #[serde(rename = "removed")]
    Removed,
    /// There is none of this name.
    #[serde(rename = "not_found")]
    NotFound,
}

/// The skill was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkillAck {
    /// Its name.
    pub name: String,
    /// What became of the request.
    pub action: SkillOutcome,
    /// How often it has been shared, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// When it was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
    /// Whether there was none of this name before.
    #[serde(default, skip_serializing_if = "not")]
    pub created: bool,
    /// Names that the caller may have meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suggestions: Vec<String>,
}

/// Gives one skill: its instructions, and the list of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GetSkill {
    /// Its name.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Files whose contents to give as well. What is beyond 1 MiB together is left out: ask again for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 1024)))]
    pub paths: Vec<String>,
}

/// The skill that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SkillData {
    /// The skill; `null` if there is none of this name.
    #[serde(default)]
    pub skill: Option<Skill>,
    /// Names that the caller may have meant, if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suggestions: Vec<String>,
}

/// One skill.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Skill {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What an agent is to do, in Markdown.
    pub instructions: String,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Name of the member that shared it first.
    #[serde(default)]
    pub author: String,
    /// Id of that member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_id: Option<MemberId>,
    /// What else its frontmatter says.
    #[serde(default)]
    pub manifest: Option<SkillManifest>,
    /// When it was shared first.
    pub created_at: Timestamp,
    /// When it was changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
    /// Name of the member that changed it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_by: Option<String>,
    /// How often it has been shared, from 1; 0 from a broker of protocol 1.
    #[serde(default)]
    pub version: u64,
    /// Where it came from, if it was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SkillSource>,
    /// The files that come with it, by path; SKILL.md is not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SkillFile>,
}

/// A file that comes with a skill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkillFile {
    /// Its path from the directory of SKILL.md.
    pub path: String,
    /// Its length in bytes.
    #[serde(default)]
    pub size: u64,
    /// Whether it is a program.
    #[serde(default, skip_serializing_if = "not")]
    pub executable: bool,
    /// What kind of content its name promises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// Its content, if it was asked for and is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its content, if it was asked for and is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<Base64>,
}

/// Where the files of a skill came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SkillSource {
    /// A zip archive that was shared as a file.
    Zip {
        /// Id of the file.
        #[schemars(length(min = 1, max = 64))]
        file_id: String,
        /// Directory of the skill in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = 512))]
        path: Option<String>,
    },
    /// A git repository.
    Git {
        /// Its address, without a password.
        #[schemars(length(min = 1, max = 2048))]
        url: String,
        /// The branch or tag; the repository's default one if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = 255))]
        branch: Option<String>,
        /// The commit that was deployed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 7, max = 64))]
        commit: Option<String>,
        /// Directory of the skill in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = 512))]
        path: Option<String>,
    },
    /// A directory or archive on the member's machine.
    Local {},
}

/// Lists the mesh's skills by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListSkills {
    /// Only skills that have this in their name, description or tags; case does not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub query: Option<String>,
    /// Only skills behind this name: the last one of the previous answer, if that said `more`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub after: Option<String>,
    /// Show also what their frontmatter says, and their files.
    #[serde(default, skip_serializing_if = "not")]
    pub details: bool,
}

/// Skills of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SkillList {
    /// The skills, by name.
    pub skills: Vec<SkillSummary>,
    /// There are others: ask again with `after`.
    #[serde(default)]
    pub more: bool,
}

/// One skill of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkillSummary {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Name of the member that shared it first.
    #[serde(default)]
    pub author: String,
    /// Id of that member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_id: Option<MemberId>,
    /// When it was shared first.
    pub created_at: Timestamp,
    /// When it was changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
    /// How often it has been shared, from 1.
    #[serde(default)]
    pub version: u64,
    /// How many files come with it.
    #[serde(default)]
    pub file_count: u32,
    /// What else its frontmatter says, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<SkillManifest>,
    /// Its files, without contents, if they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SkillFile>,
}

/// Removes a skill and its files. Its author may, and the owner and admins of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemoveSkill {
    /// Its name.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
}

/// A file on its way into a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewSkillFile {
    /// Its path from the directory of SKILL.md, with `/`.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Its content, at most 768 KiB.
    pub base64: Base64,
    /// Whether it is a program.
    #[serde(default, skip_serializing_if = "not")]
    pub executable: bool,
}

/// Adds files to a bundle that `skill_deploy` then makes a skill of. What is not used within an hour is dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UploadSkillFiles {
    /// The bundle, from an earlier answer; a new one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub upload: Option<String>,
    /// The files: as many as fit into one frame.
    #[schemars(length(min = 1, max = 128))]
    pub files: Vec<NewSkillFile>,
}

/// The files are on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkillFilesUploaded {
    /// The bundle.
    pub upload: String,
    /// How many files it has now.
    pub files: u32,
    /// How many bytes they have.
    pub bytes: u64,
}

/// Makes a skill of files. Shared files are sealed for members and the broker fetches nothing from elsewhere, so the client
/// brings what is in the source: `skill`, and `upload` for other files than SKILL.md. A request without `skill` is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SkillDeploy {
    /// Where the files came from.
    pub source: SkillSource,
    /// What SKILL.md says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skill: Option<ShareSkill>,
    /// The bundle with the other files, from `upload_skill_files`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub upload: Option<String>,
}

/// The skill and its files are shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkillDeployed {
    /// Name of the skill.
    pub name: String,
    /// Paths of its files, SKILL.md first.
    pub files: Vec<String>,
    /// How often it has been shared, from 1.
    #[serde(default)]
    pub version: u64,
    /// When it was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
    /// Whether there was none of this name before.
    #[serde(default, skip_serializing_if = "not")]
    pub created: bool,
    /// How many bytes its files have, SKILL.md not counted.
    #[serde(default)]
    pub bytes: u64,
}
