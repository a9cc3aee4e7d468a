//! Tasks: work that exactly one session takes on.

use crate::model::{MemberId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How urgent a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum TaskPriority {
    /// When there is nothing else to do.
    Low,
    /// In its turn.
    #[default]
    Normal,
    /// Before others.
    High,
    /// At once.
    Urgent,
}

impl TaskPriority {
    /// The wire text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }
}

/// What has become of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum TaskStatus {
    /// Waits for somebody to claim it.
    #[default]
    Open,
    /// Somebody works on it.
    Claimed,
    /// Done.
    Done,
    /// Nobody needs it any more.
    Cancelled,
}

impl TaskStatus {
    /// The wire text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Claimed => "claimed",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Which tasks to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum TaskFilter {
    /// Not claimed.
    Open,
    /// Claimed.
    Claimed,
    /// Done.
    Done,
    /// The same as `done`.
    Completed,
    /// Cancelled.
    Cancelled,
    /// All.
    #[serde(rename = "")]
    All,
}

impl TaskFilter {
    /// The status of the listed tasks; `None`: any.
    #[must_use]
    pub fn status(self) -> Option<TaskStatus> {
        match self {
            Self::Open => Some(TaskStatus::Open),
            Self::Claimed => Some(TaskStatus::Claimed),
            Self::Done | Self::Completed => Some(TaskStatus::Done),
            Self::Cancelled => Some(TaskStatus::Cancelled),
            Self::All => None,
        }
    }
}

/// One task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Its id, for `claim_task` and `complete_task`.
    pub id: String,
    /// What is to be done.
    pub title: String,
    /// Name of the member that is meant to do it. Anybody may claim it all the same.
    #[serde(default)]
    pub assignee: Option<String>,
    /// Id of that member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignee_id: Option<MemberId>,
    /// Name of the member that has claimed it, or did it.
    #[serde(default)]
    pub claimed_by: Option<String>,
    /// Id of that member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_by_id: Option<MemberId>,
    /// What has become of it.
    pub status: TaskStatus,
    /// How urgent it is.
    #[serde(default)]
    pub priority: TaskPriority,
    /// Name of its author.
    #[serde(default)]
    pub created_by: Option<String>,
    /// Id of its author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by_id: Option<MemberId>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_at: Option<Timestamp>,
    /// When the claim ends and the task is open again; claiming it again makes it later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_expires_at: Option<Timestamp>,
    /// When it was done or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// Creates a task in the mesh. Peers are told; one of them claims it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateTask {
    /// What is to be done.
    #[schemars(length(min = 1, max = 2000))]
    pub title: String,
    /// Who is meant to do it: a peer's name, its key or the beginning of it. Anybody may claim it all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub assignee: Option<String>,
    /// How urgent it is; `normal` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<TaskPriority>,
    /// Tags.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub tags: Vec<String>,
}

/// The task is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskCreated {
    /// Id of the task.
    pub id: String,
    /// The task as it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
}

/// Takes an open task on: exactly one session gets it. The claim ends by itself after a time (`claimExpiresAt`, one day
/// unless the broker is set otherwise); claiming again makes it later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimTask {
    /// Id of the task.
    #[schemars(length(min = 1, max = 64))]
    pub task_id: String,
}

/// Gives a claimed task back: it is open again. Whoever has claimed it may, its author, and the mesh's owner and admins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseTask {
    /// Id of the task.
    #[schemars(length(min = 1, max = 64))]
    pub task_id: String,
}

/// Marks a task as done. Whoever has claimed it may, its author, and the mesh's owner and admins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompleteTask {
    /// Id of the task.
    #[schemars(length(min = 1, max = 64))]
    pub task_id: String,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub result: Option<String>,
}

/// Marks a task as no longer needed. Its author and the mesh's owner and admins may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CancelTask {
    /// Id of the task.
    #[schemars(length(min = 1, max = 64))]
    pub task_id: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000))]
    pub reason: Option<String>,
}

/// A task was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskChanged {
    /// The mesh's tasks, newest first, at most 100.
    pub tasks: Vec<Task>,
    /// The task that was changed, as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
}

/// Lists tasks of the mesh, newest first, at most 100.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListTasks {
    /// Only tasks with this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<TaskFilter>,
    /// Only tasks for this member: its name, its key or the beginning of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub assignee: Option<String>,
}

/// Tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskList {
    /// The tasks, newest first.
    pub tasks: Vec<Task>,
    /// There are older ones: ask for one status or one assignee.
    #[serde(default)]
    pub more: bool,
}
