//! Shared memory: texts that every session of the mesh can find again.

use super::Ack;
use crate::model::{MemberId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stores a text in the memory of the mesh, where every peer finds it with recall. It stays until somebody forgets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remember {
    /// The text, at most 32 KiB. It is stored as it is; write it so that it is understood without this conversation.
    #[schemars(length(min = 1, max = 32_768))]
    pub content: String,
    /// Words to find it by; recall searches them too and can filter by them.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub tags: Vec<String>,
}

/// The text is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryStored {
    /// Id of the memory.
    pub id: String,
}

/// Searches the memory of the mesh by words, best match first. Texts with all words come first; if there are none, texts
/// with some of them, and `partial` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recall {
    /// Words to look for in texts and tags, in any form (`deploy` finds `deploying`). "Several words" in quotes must stand
    /// side by side. Nothing in it is an operator. Empty: the newest.
    #[schemars(length(max = 1024))]
    pub query: String,
    /// Only memories that have all of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub tags: Vec<String>,
    /// Most results; 20 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<u32>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryResults {
    /// Memories, the best match first.
    pub memories: Vec<Memory>,
    /// No memory has all the words; these have some of them.
    #[serde(default)]
    pub partial: bool,
    /// There are further matches: ask with more words or a larger `limit`.
    #[serde(default)]
    pub more: bool,
}

/// One memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Its id, for `forget`.
    pub id: String,
    /// The whole text.
    pub content: String,
    /// The part that matches best, at most about 200 characters, with the words found between `**`.
    #[serde(default)]
    pub snippet: String,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Name of the member that stored it.
    pub remembered_by: String,
    /// Id of that member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remembered_by_id: Option<MemberId>,
    /// When.
    pub remembered_at: Timestamp,
}

/// Removes a memory from the mesh. Its author and the mesh's owner and admins may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forget {
    /// Id of the memory.
    #[schemars(length(min = 1, max = 64))]
    pub memory_id: String,
}

/// The memory is gone: recall does not find it any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryForgotten {
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub ack: Ack,
    /// Whether this request removed it; `false` if it had been forgotten before.
    #[serde(default)]
    pub forgotten: bool,
}
