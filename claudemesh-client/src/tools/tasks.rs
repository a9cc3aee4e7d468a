//! The tools that change a task: they take its `id`, and answer with the task and not with all of them.

use crate::{ClientError, MeshClient};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::ops::{CancelTask, ClaimTask, CompleteTask, ReleaseTask, TaskChanged};
use claudemesh_proto::tools::{CancelTaskTool, ClaimTaskTool, CompleteTaskTool, ReleaseTaskTool, TaskNow};

impl MeshClient {
    /// The tool `claim_task`.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`]: `task_not_claimable` for whoever came later, `task_not_found`.
    pub async fn claim_task_tool(&self, params: ClaimTaskTool) -> Result<TaskNow, ClientError> {
        let request = ClaimTask {
            task_id: params.id.clone(),
        };
        task_of(self.request(request).await?, &params.id)
    }

    /// The tool `release_task`.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`]: `forbidden`, `conflict` if the task is at its end, `task_not_found`.
    pub async fn release_task_tool(&self, params: ReleaseTaskTool) -> Result<TaskNow, ClientError> {
        let request = ReleaseTask {
            task_id: params.id.clone(),
        };
        task_of(self.request(request).await?, &params.id)
    }

    /// The tool `complete_task`.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`]: `forbidden`, `conflict` if nobody has claimed the task or it is at its end,
    /// `task_not_found`.
    pub async fn complete_task_tool(&self, params: CompleteTaskTool) -> Result<TaskNow, ClientError> {
        let request = CompleteTask {
            task_id: params.id.clone(),
            result: params.result,
        };
        task_of(self.request(request).await?, &params.id)
    }

    /// The tool `cancel_task`.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`]: `forbidden`, `conflict` if the task is done, `task_not_found`.
    pub async fn cancel_task_tool(&self, params: CancelTaskTool) -> Result<TaskNow, ClientError> {
        let request = CancelTask {
            task_id: params.id.clone(),
            reason: params.reason,
        };
        task_of(self.request(request).await?, &params.id)
    }
}

/// The task that a reply is about. Brokers of protocol 1 send only the list.
fn task_of(reply: TaskChanged, id: &str) -> Result<TaskNow, ClientError> {
    let listed = reply.tasks.into_iter().find(|task| task.id == id);
    match reply.task.or(listed) {
        Some(task) => Ok(TaskNow { task }),
        None => Err(ClientError::refused(
            ErrorCode::TaskNotFound,
            "the broker's answer does not show the task: look for it with list_tasks",
        )),
    }
}
