//! `claim_task`, `release_task`, `complete_task`, `cancel_task`.

use crate::ops::Task;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Takes an open task on. Exactly one session gets it; the claim ends by itself at `claimExpiresAt`, and claiming again
/// makes that later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimTaskTool {
    /// The whole id of the task, as list_tasks shows it.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
}

/// Gives a claimed task back, so that others can claim it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseTaskTool {
    /// The whole id of the task.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
}

/// Marks a task as done. Whoever has claimed it may, its author, and the mesh's owner and admins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CompleteTaskTool {
    /// The whole id of the task.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub result: Option<String>,
}

/// Marks a task as no longer needed. Its author and the mesh's owner and admins may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelTaskTool {
    /// The whole id of the task.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000))]
    pub reason: Option<String>,
}

/// The task as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskNow {
    /// The task.
    pub task: Task,
}
