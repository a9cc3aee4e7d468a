//! Contexts: what each member knows at the moment, per topic.

use crate::model::{MemberId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Shares what this session has understood. Replaces what the same member shared before on the same topic; peers are
/// told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShareContext {
    /// What was learned.
    #[schemars(length(min = 1, max = 8192))]
    pub summary: String,
    /// What it is about; one context is kept per member and topic. Without it: the member's general context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub topic: Option<String>,
    /// Paths of files that were read.
    #[serde(default)]
    #[schemars(length(max = 200), inner(length(min = 1, max = 512)))]
    pub files_read: Vec<String>,
    /// Findings that matter to others.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 1024)))]
    pub key_findings: Vec<String>,
    /// Words to find it by.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub tags: Vec<String>,
}

/// The context is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContextShared {
    /// Id of the context: the same for every version of one topic. Empty from brokers of protocol 1.
    #[serde(default)]
    pub id: String,
}

/// Searches what peers know by file path, topic, tag or words, newest first. At most 20.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GetContext {
    /// A path, a topic or words; none of its characters is an operator. Empty: the newest.
    #[schemars(length(max = 1024))]
    pub query: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContextResults {
    /// Contexts, the newest first.
    pub contexts: Vec<SharedContext>,
    /// No context has all the words; these have some of them.
    #[serde(default)]
    pub partial: bool,
}

/// One context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedContext {
    /// Name of the member that shared it.
    pub peer_name: String,
    /// Id of that member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<MemberId>,
    /// What it is about; absent for the member's general context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// What was learned.
    pub summary: String,
    /// Paths of files that were read.
    #[serde(default)]
    pub files_read: Vec<String>,
    /// Findings.
    #[serde(default)]
    pub key_findings: Vec<String>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// When it was shared last.
    pub updated_at: Timestamp,
}

/// Shows what each peer currently knows: every context of every member, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListContexts {}

/// What peers know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContextList {
    /// Contexts, the newest first.
    pub contexts: Vec<ContextEntry>,
    /// There are older ones, which get_context finds.
    #[serde(default)]
    pub more: bool,
}

/// One context in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContextEntry {
    /// Name of the member that shared it.
    pub peer_name: String,
    /// Id of that member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<MemberId>,
    /// What it is about; absent for the member's general context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// What was learned.
    pub summary: String,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// When it was shared last.
    pub updated_at: Timestamp,
}
