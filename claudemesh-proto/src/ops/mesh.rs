//! The mesh as a whole.

use crate::model::{Group, KeyHex, Stats};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gives an overview of the mesh: peers, groups, state keys and what else it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeshInfo {}

/// An overview of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshInfoResult {
    /// Id of the mesh.
    pub mesh: String,
    /// Slug of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// Name of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of visible live sessions, and of the caller's own.
    pub peers: u32,
    /// Number of members, online or not.
    pub members: u32,
    /// Groups that live sessions are in, with `@`.
    pub groups: Vec<String>,
    /// Keys of the shared state.
    pub state_keys: Vec<String>,
    /// Number of memories.
    pub memory_count: u64,
    /// Number of files.
    pub file_count: u64,
    /// Number of skills.
    pub skill_count: u64,
    /// Numbers of tasks.
    pub tasks: TaskCounts,
    /// Names of streams.
    pub streams: Vec<String>,
    /// Names of shared SQL tables.
    pub tables: Vec<String>,
    /// Names of vector collections.
    pub collections: Vec<String>,
    /// The caller's name.
    pub your_name: String,
    /// The caller's groups.
    pub your_groups: Vec<Group>,
}

/// Numbers of tasks by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TaskCounts {
    /// Not claimed.
    pub open: u64,
    /// Claimed.
    pub claimed: u64,
    /// Done.
    pub done: u64,
    /// Cancelled.
    pub cancelled: u64,
}

/// Shows what each member has done: messages in and out, tool calls, uptime, errors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeshStats {}

/// What each member has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeshStatsResult {
    /// One entry per member.
    pub members: Vec<MemberStats>,
}

/// What one member has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberStats {
    /// Name of the member.
    pub name: String,
    /// Key of the member.
    pub pubkey: KeyHex,
    /// Whether a session of it is connected.
    pub online: bool,
    /// Its counters.
    pub stats: Stats,
}
