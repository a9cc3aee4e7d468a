//! Tasks of meshes. A claim whose time is over counts as none, whether or not the row says so yet.

use super::committer::Recorded;
use super::rows::{count, get, json, limit, not_of, text, text_opt, time, time_opt, to_json, word};
use super::{AuditEvent, Store, StoreError};
use claudemesh_proto::model::{MemberId, MeshId, Timestamp};
use claudemesh_proto::ops::{Task, TaskCounts, TaskPriority, TaskStatus};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};

/// One task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRow {
    /// Its mesh.
    pub mesh_id: MeshId,
    /// What everybody sees of it.
    pub task: Task,
    /// Session that has claimed it: its key, or its id if it has none.
    pub claimed_by_session: Option<String>,
}

impl TaskRow {
    /// Makes it open: nobody has claimed it.
    pub fn open(&mut self) {
        self.task.status = TaskStatus::Open;
        self.task.claimed_by = None;
        self.task.claimed_by_id = None;
        self.task.claimed_at = None;
        self.task.claim_expires_at = None;
        self.claimed_by_session = None;
    }

    /// The author of the task.
    #[must_use]
    pub fn author(&self) -> Option<&MemberId> {
        self.task.created_by_id.as_ref()
    }

    fn at(mut self, now: Timestamp) -> Self {
        if self.task.status == TaskStatus::Claimed && self.task.claim_expires_at.is_none_or(|end| end <= now) {
            self.open();
        }
        self
    }
}

/// A task to be created.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Its id.
    pub id: String,
    /// What is to be done.
    pub title: String,
    /// How urgent it is.
    pub priority: TaskPriority,
    /// Its tags.
    pub tags: Vec<String>,
    /// Member that is meant to do it, and its name.
    pub assignee: Option<(MemberId, String)>,
    /// Its author, and the author's name.
    pub author: (MemberId, String),
    /// When.
    pub at: Timestamp,
}

/// Which tasks to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskSelection<'a> {
    /// Only with this status.
    pub status: Option<TaskStatus>,
    /// Only for this member.
    pub assignee: Option<&'a MemberId>,
    /// The member that asks: what it wrote, does or is meant to do is shown whoever hides it.
    pub viewer: &'a str,
    /// Authors whose tasks are not for the caller.
    pub hidden: &'a [MemberId],
    /// Most tasks.
    pub limit: usize,
}

fn task_row(row: &AnyRow) -> Result<TaskRow, StoreError> {
    Ok(TaskRow {
        mesh_id: text(row, "mesh_id")?,
        claimed_by_session: get(row, "claimed_by_session")?,
        task: Task {
            id: get(row, "id")?,
            title: get(row, "title")?,
            assignee: get(row, "assignee_name")?,
            assignee_id: text_opt(row, "assignee_member")?,
            claimed_by: get(row, "claimed_by_name")?,
            claimed_by_id: text_opt(row, "claimed_by_member")?,
            status: word(row, "status")?,
            priority: word(row, "priority")?,
            created_by: get(row, "created_by_name")?,
            created_by_id: Some(text(row, "created_by_member")?),
            tags: json(row, "tags")?,
            created_at: time(row, "created_at")?,
            claimed_at: time_opt(row, "claimed_at")?,
            claim_expires_at: time_opt(row, "claim_expires_at")?,
            completed_at: time_opt(row, "completed_at")?,
            result: get(row, "result")?,
        },
    })
}

/// Opens the tasks that a member had claimed, and takes it off those that it was meant to do. Gives both kinds.
pub(super) async fn free_tasks_of(
    connection: &mut AnyConnection,
    mesh: &MeshId,
    member: &MemberId,
) -> Result<Vec<TaskRow>, StoreError> {
    let rows = sqlx::query(
        "UPDATE task SET \
         status = CASE WHEN claimed_by_member = $2 THEN 'open' ELSE status END, \
         claimed_by_name = CASE WHEN claimed_by_member = $2 THEN NULL ELSE claimed_by_name END, \
         claimed_by_session = CASE WHEN claimed_by_member = $2 THEN NULL ELSE claimed_by_session END, \
         claimed_at = CASE WHEN claimed_by_member = $2 THEN NULL ELSE claimed_at END, \
         claim_expires_at = CASE WHEN claimed_by_member = $2 THEN NULL ELSE claim_expires_at END, \
         claimed_by_member = CASE WHEN claimed_by_member = $2 THEN NULL ELSE claimed_by_member END, \
         assignee_name = CASE WHEN assignee_member = $2 THEN NULL ELSE assignee_name END, \
         assignee_member = CASE WHEN assignee_member = $2 THEN NULL ELSE assignee_member END \
         WHERE mesh_id = $1 AND status IN ('open', 'claimed') AND (claimed_by_member = $2 OR assignee_member = $2) \
         RETURNING *",
    )
    .bind(mesh.as_str())
    .bind(member.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(task_row).collect()
}

async fn read(connection: &mut AnyConnection, mesh: &MeshId, id: &str) -> Result<Option<TaskRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM task WHERE mesh_id = $1 AND id = $2")
        .bind(mesh.as_str())
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(task_row).transpose()
}

async fn write(connection: &mut AnyConnection, row: &TaskRow) -> Result<(), StoreError> {
    let task = &row.task;
    sqlx::query(
        "UPDATE task SET status = $1, claimed_by_member = $2, claimed_by_name = $3, claimed_by_session = $4, \
         claimed_at = $5, claim_expires_at = $6, completed_at = $7, result = $8 WHERE mesh_id = $9 AND id = $10",
    )
    .bind(task.status.as_str())
    .bind(task.claimed_by_id.as_ref().map(MemberId::as_str))
    .bind(task.claimed_by.as_deref())
    .bind(row.claimed_by_session.as_deref())
    .bind(task.claimed_at.map(Timestamp::as_ms))
    .bind(task.claim_expires_at.map(Timestamp::as_ms))
    .bind(task.completed_at.map(Timestamp::as_ms))
    .bind(task.result.as_deref())
    .bind(row.mesh_id.as_str())
    .bind(task.id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    /// Creates a task and gives its row. `then` is called with it once it is on disk, in the order of the writes.
    ///
    /// # Errors
    /// [`StoreError::Limit`] if the mesh has `max_unfinished` tasks that are open or claimed.
    pub async fn create_task(
        &self,
        mesh: &MeshId,
        new: NewTask,
        max_unfinished: usize,
        audit: Option<AuditEvent>,
        then: impl FnOnce(&TaskRow) + Send + 'static,
    ) -> Result<TaskRow, StoreError> {
        let mesh = mesh.clone();
        let tags = to_json(&new.tags)?;
        let (assignee, assignee_name) = new.assignee.unzip();
        self.transaction_then(
            audit,
            move |connection| {
                Box::pin(async move {
                    let unfinished = sqlx::query(
                        "SELECT COUNT(*) AS n FROM task WHERE mesh_id = $1 AND status IN ('open', 'claimed')",
                    )
                    .bind(mesh.as_str())
                    .fetch_one(&mut *connection)
                    .await?;
                    if get::<i64>(&unfinished, "n")? >= limit(max_unfinished) {
                        return Err(StoreError::Limit(format!(
                            "a mesh has at most {max_unfinished} unfinished tasks: complete or cancel some first"
                        )));
                    }
                    let rows = sqlx::query(
                        "INSERT INTO task (id, mesh_id, title, priority, status, tags, assignee_member, assignee_name, \
                         created_by_member, created_by_name, created_at) \
                         VALUES ($1, $2, $3, $4, 'open', $5, $6, $7, $8, $9, $10) RETURNING *",
                    )
                    .bind(new.id.as_str())
                    .bind(mesh.as_str())
                    .bind(new.title.as_str())
                    .bind(new.priority.as_str())
                    .bind(tags)
                    .bind(assignee.as_ref().map(MemberId::as_str))
                    .bind(assignee_name)
                    .bind(new.author.0.as_str())
                    .bind(new.author.1.as_str())
                    .bind(new.at.as_ms())
                    .fetch_all(connection)
                    .await?;
                    let row = rows.first().ok_or(StoreError::NotFound("task"))?;
                    Ok(Recorded::audited(task_row(row)?))
                })
            },
            then,
        )
        .await
    }

    /// A task as it is at this time.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn task(&self, mesh: &MeshId, id: &str, now: Timestamp) -> Result<Option<TaskRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM task WHERE mesh_id = $1 AND id = $2")
            .bind(mesh.as_str())
            .bind(id)
            .fetch_optional(self.pool())
            .await?;
        Ok(row.as_ref().map(task_row).transpose()?.map(|row| row.at(now)))
    }

    /// Changes a task as `decide` says, which sees it as it is at this time and answers whether it changed something; no
    /// other change comes between. `None` if there is no such task. `then` is called with a changed task once it is on
    /// disk, in the order of the writes.
    ///
    /// # Errors
    /// If the database does not answer. A refusal of `decide` is in the result.
    pub async fn change_task<E: Send + 'static>(
        &self,
        mesh: &MeshId,
        id: &str,
        now: Timestamp,
        audit: Option<AuditEvent>,
        decide: impl FnOnce(&mut TaskRow) -> Result<bool, E> + Send + 'static,
        then: impl FnOnce(&TaskRow) + Send + 'static,
    ) -> Result<Option<Result<TaskRow, E>>, StoreError> {
        let (mesh, id) = (mesh.clone(), id.to_owned());
        let outcome = self
            .transaction_then(
                audit,
                move |connection| {
                    Box::pin(async move {
                        let Some(row) = read(&mut *connection, &mesh, &id).await? else {
                            return Ok(Recorded::silently(None));
                        };
                        let mut row = row.at(now);
                        Ok(match decide(&mut row) {
                            Ok(true) => {
                                write(connection, &row).await?;
                                Recorded::audited(Some(Ok((row, true))))
                            }
                            Ok(false) => Recorded::silently(Some(Ok((row, false)))),
                            Err(refusal) => Recorded::silently(Some(Err(refusal))),
                        })
                    })
                },
                move |outcome| {
                    if let Some(Ok((row, true))) = outcome {
                        then(row);
                    }
                },
            )
            .await?;
        Ok(outcome.map(|result| result.map(|(row, _)| row)))
    }

    /// Tasks of a mesh as they are at this time, newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn list_tasks(
        &self,
        mesh: &MeshId,
        now: Timestamp,
        selection: TaskSelection<'_>,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let status = match selection.status {
            None => "",
            Some(TaskStatus::Open) => " AND (status = 'open' OR (status = 'claimed' AND claim_expires_at <= $4))",
            Some(TaskStatus::Claimed) => " AND status = 'claimed' AND claim_expires_at > $4",
            Some(TaskStatus::Done) => " AND status = 'done'",
            Some(TaskStatus::Cancelled) => " AND status = 'cancelled'",
        };
        let hidden = match selection.hidden {
            [] => String::new(),
            hidden => {
                let not_hidden = not_of("created_by_member", hidden.len(), 6);
                format!(
                    " AND ($5 IN (created_by_member, COALESCE(assignee_member, ''), COALESCE(claimed_by_member, '')) OR (1 = 1{not_hidden}))"
                )
            }
        };
        // $4 and $5 are in every form of the statement, so that the numbers stay.
        let sql = format!(
            "SELECT * FROM task WHERE mesh_id = $1 AND ($2 = '' OR assignee_member = $2){status}{hidden} AND $4 >= 0 AND \
             $5 <> '' ORDER BY seq DESC LIMIT $3"
        );
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(mesh.as_str())
            .bind(selection.assignee.map_or("", MemberId::as_str))
            .bind(limit(selection.limit))
            .bind(now.as_ms())
            .bind(selection.viewer);
        for member in selection.hidden {
            query = query.bind(member.as_str());
        }
        let rows = query.fetch_all(self.pool()).await?;
        rows.iter().map(|row| Ok(task_row(row)?.at(now))).collect()
    }

    /// Numbers of tasks of a mesh by status, without those of `hidden` authors.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn task_counts(
        &self,
        mesh: &MeshId,
        now: Timestamp,
        hidden: &[MemberId],
    ) -> Result<TaskCounts, StoreError> {
        let sql = format!(
            "SELECT CASE WHEN status = 'claimed' AND claim_expires_at <= $2 THEN 'open' ELSE status END AS now, \
             COUNT(*) AS n FROM task WHERE mesh_id = $1{} GROUP BY 1",
            not_of("created_by_member", hidden.len(), 3)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(mesh.as_str()).bind(now.as_ms());
        for member in hidden {
            query = query.bind(member.as_str());
        }
        let mut counts = TaskCounts::default();
        for row in query.fetch_all(self.pool()).await? {
            let n = count(&row, "n")?;
            match word(&row, "now")? {
                TaskStatus::Open => counts.open = n,
                TaskStatus::Claimed => counts.claimed = n,
                TaskStatus::Done => counts.done = n,
                TaskStatus::Cancelled => counts.cancelled = n,
            }
        }
        Ok(counts)
    }

    /// Opens at most `most` tasks of all meshes whose claims have ended, and gives them.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn end_claims(&self, now: Timestamp, most: usize) -> Result<Vec<TaskRow>, StoreError> {
        self.transaction(None, move |connection| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "UPDATE task SET status = 'open', claimed_by_member = NULL, claimed_by_name = NULL, \
                     claimed_by_session = NULL, claimed_at = NULL, claim_expires_at = NULL WHERE seq IN \
                     (SELECT seq FROM task WHERE status = 'claimed' AND claim_expires_at <= $1 \
                     ORDER BY claim_expires_at LIMIT $2) RETURNING *",
                )
                .bind(now.as_ms())
                .bind(limit(most))
                .fetch_all(connection)
                .await?;
                Ok(Recorded::silently(
                    rows.iter().map(task_row).collect::<Result<Vec<_>, _>>()?,
                ))
            })
        })
        .await
    }
}
