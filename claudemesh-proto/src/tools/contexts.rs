//! `share_context`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Shares what you have understood with your peers: a summary, the files that you read, findings. It replaces what you
/// shared before on the same topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShareContextTool {
    /// What you learned, for somebody who has not seen your conversation.
    #[schemars(length(min = 1, max = 8192))]
    pub summary: String,
    /// What it is about; one context is kept per member and topic. Without it: your general context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub topic: Option<String>,
    /// Paths of the files that you read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 512)))]
    pub files_read: Vec<String>,
    /// Findings that matter to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 1024)))]
    pub key_findings: Vec<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub tags: Vec<String>,
}
