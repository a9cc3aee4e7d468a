//! Tasks: see [`task_rules`](super::task_rules) for who may do what. A task is seen by those whom its author lets
//! `state-read`, and by whoever has claimed it or is meant to do it.

use claudemesh_crypto::random_id;
use claudemesh_proto::frame::{ServerFrame, TaskAction, TaskChange};
use claudemesh_proto::limits::{MAX_LISTED_TASKS, MAX_UNFINISHED_TASKS};
use claudemesh_proto::model::{Capability, MemberId, MeshId, PresenceId, Timestamp};
use claudemesh_proto::ops::{
    CancelTask, ClaimTask, CompleteTask, CreateTask, ListTasks, ReleaseTask, Task, TaskChanged, TaskCreated,
    TaskFilter, TaskList, TaskStatus,
};
use claudemesh_proto::{ErrorCode, ErrorFrame, Operation, Permission};
use serde_json::json;

use super::task_rules::{self, Caller, Decision, not_found};
use super::text::{clean_tags, not_blank};
use super::{OrFrame as _, author_name};
use crate::Broker;
use crate::context::{Context, Handle, Session};
use crate::hub::LiveState;
use crate::mesh::{TargetRequest, resolve};
use crate::store::{NewTask, TaskRow, TaskSelection};

/// Tells every session that may see the task, except the one that changed it.
fn tell(state: &LiveState, row: &TaskRow, action: TaskAction, by: &str, except: Option<&PresenceId>) {
    let mesh = &state.mesh;
    let author = row.author().filter(|author| mesh.member(author).is_some());
    let part = [&row.task.assignee_id, &row.task.claimed_by_id];
    let audience: Vec<_> = mesh
        .everyone(except)
        .into_iter()
        .filter(|presence| {
            let Some(listener) = mesh.session(presence).map(|session| &session.facts.member) else {
                return false;
            };
            part.iter().any(|member| member.as_ref() == Some(listener))
                || author.is_none_or(|author| mesh.allows(author, listener, Capability::StateRead))
        })
        .collect();
    let change = TaskChange {
        action,
        by: by.to_owned(),
        task: row.task.clone(),
    };
    state.send(&audience, &ServerFrame::TaskChange(Box::new(change)));
}

/// Tells of tasks of one mesh that are open again without anybody asking for it.
pub(crate) fn tell_freed(state: &LiveState, rows: &[TaskRow], action: TaskAction) {
    for row in rows {
        tell(state, row, action, "", None);
    }
}

/// Opens tasks whose claims have ended; gives how many.
pub(crate) async fn end_claims(
    broker: &Broker,
    now: Timestamp,
    most: usize,
) -> Result<usize, crate::store::StoreError> {
    let rows = broker.store.end_claims(now, most).await?;
    for row in &rows {
        if let Some(mesh) = broker.hub.loaded(&row.mesh_id) {
            tell_freed(&mesh.lock(), std::slice::from_ref(row), TaskAction::Expired);
        }
    }
    Ok(rows.len())
}

/// What identifies a session across its reconnects.
fn session_name(session: &Session) -> String {
    match &session.session_key {
        Some(key) => key.0.clone(),
        None => session.presence.0.clone(),
    }
}

fn caller(cx: &Context) -> Caller {
    let name = author_name(cx);
    let session = &cx.session;
    let own = session_name(session);
    let state = session.mesh.lock();
    let connected = state.mesh.connections_of(&session.member);
    let other_sessions = connected
        .map(|other| match &other.facts.session_key {
            Some(key) => key.0.clone(),
            None => other.facts.presence.0.clone(),
        })
        .filter(|other| *other != own)
        .collect();
    Caller {
        member: session.member.clone(),
        name,
        session: own,
        other_sessions,
        manages: state.mesh.permission(&session.member, Permission::Manage),
        hidden: state.mesh.hidden_from(&session.member, Capability::StateRead),
        now: Timestamp::from_ms(cx.now_ms),
    }
}

/// The member that a name, a key or the beginning of one means.
fn member_named(cx: &Context, spec: &str) -> Result<(MemberId, String), ErrorFrame> {
    let refused = |code, text: String| Err(ErrorFrame::new(code, text).at("/assignee"));
    if spec.starts_with('@') || spec == "*" {
        return refused(
            ErrorCode::InvalidRequest,
            format!("\"{spec}\" is a group: a task is for one member, or for nobody in particular"),
        );
    }
    let state = cx.session.mesh.lock();
    let request = TargetRequest {
        sender: &cx.session.member,
        spec,
        session_hint: None,
        allow_names: true,
    };
    let resolved = resolve(&state.mesh, &request).map_err(|error| error.at("/assignee"))?;
    let member = resolved
        .recipients
        .into_iter()
        .next()
        .and_then(|recipient| state.mesh.member(&recipient.member));
    match member {
        Some(member) => Ok((member.facts.id.clone(), member.facts.name.clone())),
        None => refused(
            ErrorCode::NoSuchPeer,
            format!("nobody in this mesh is called \"{spec}\""),
        ),
    }
}

/// The tasks that the caller may see, newest first; and whether there are more.
async fn list(
    cx: &Context,
    status: Option<TaskStatus>,
    assignee: Option<&MemberId>,
) -> Result<(Vec<Task>, bool), ErrorFrame> {
    let session = &cx.session;
    let hidden = session
        .mesh
        .lock()
        .mesh
        .hidden_from(&session.member, Capability::StateRead);
    let selection = TaskSelection {
        status,
        assignee,
        viewer: session.member.as_str(),
        hidden: &hidden,
        limit: MAX_LISTED_TASKS + 1,
    };
    let now = Timestamp::from_ms(cx.now_ms);
    let rows = cx
        .broker
        .store
        .list_tasks(session.mesh_id(), now, selection)
        .await
        .or_frame()?;
    let more = rows.len() > MAX_LISTED_TASKS;
    let tasks = rows.into_iter().take(MAX_LISTED_TASKS).map(|row| row.task).collect();
    Ok((tasks, more))
}

/// Changes a task by a rule, tells the peers, and answers with it.
async fn change<O: Operation>(
    cx: &Context,
    id: String,
    action: TaskAction,
    rule: impl FnOnce(&mut TaskRow, &Caller) -> Decision + Send + 'static,
) -> Result<TaskChanged, ErrorFrame> {
    let caller = caller(cx);
    let audit = cx.audit_event::<O>(json!({ "taskId": id }));
    let (session, by, now) = (cx.session.clone(), caller.name.clone(), caller.now);
    let mesh: &MeshId = cx.session.mesh_id();
    let announce = move |row: &TaskRow| tell(&session.mesh.lock(), row, action, &by, Some(&session.presence));
    let decide = move |row: &mut TaskRow| rule(row, &caller);
    let changed = cx
        .broker
        .store
        .change_task(mesh, &id, now, audit, decide, announce)
        .await
        .or_frame()?;
    let row = changed.ok_or_else(not_found)??;
    let (tasks, _) = list(cx, None, None).await?;
    Ok(TaskChanged {
        tasks,
        task: Some(row.task),
    })
}

impl Handle<CreateTask> for Broker {
    async fn handle(cx: Context, request: CreateTask) -> Result<TaskCreated, ErrorFrame> {
        not_blank(&request.title, "/title")?;
        let assignee = request
            .assignee
            .as_deref()
            .map(|spec| member_named(&cx, spec))
            .transpose()?;
        let id = random_id();
        let name = author_name(&cx);
        let audit = cx.audit_event::<CreateTask>(json!({ "taskId": id }));
        let new = NewTask {
            id: id.clone(),
            title: request.title,
            priority: request.priority.unwrap_or_default(),
            tags: clean_tags(request.tags),
            assignee,
            author: (cx.session.member.clone(), name.clone()),
            at: Timestamp::from_ms(cx.now_ms),
        };
        let session = cx.session.clone();
        let announce = move |row: &TaskRow| {
            let state = session.mesh.lock();
            tell(&state, row, TaskAction::Created, &name, Some(&session.presence));
        };
        let store = &cx.broker.store;
        let row = store
            .create_task(cx.session.mesh_id(), new, MAX_UNFINISHED_TASKS, audit, announce)
            .await
            .or_frame()?;
        Ok(TaskCreated {
            id,
            task: Some(row.task),
        })
    }
}

impl Handle<ClaimTask> for Broker {
    async fn handle(cx: Context, request: ClaimTask) -> Result<TaskChanged, ErrorFrame> {
        let lease = cx.broker.config.task_claim_ms;
        let rule = move |row: &mut TaskRow, caller: &Caller| task_rules::claim(row, caller, lease);
        change::<ClaimTask>(&cx, request.task_id, TaskAction::Claimed, rule).await
    }
}

impl Handle<ReleaseTask> for Broker {
    async fn handle(cx: Context, request: ReleaseTask) -> Result<TaskChanged, ErrorFrame> {
        change::<ReleaseTask>(&cx, request.task_id, TaskAction::Released, task_rules::release).await
    }
}

impl Handle<CompleteTask> for Broker {
    async fn handle(cx: Context, request: CompleteTask) -> Result<TaskChanged, ErrorFrame> {
        let result = request.result;
        let rule = move |row: &mut TaskRow, caller: &Caller| task_rules::complete(row, caller, result);
        change::<CompleteTask>(&cx, request.task_id, TaskAction::Completed, rule).await
    }
}

impl Handle<CancelTask> for Broker {
    async fn handle(cx: Context, request: CancelTask) -> Result<TaskChanged, ErrorFrame> {
        let reason = request.reason;
        let rule = move |row: &mut TaskRow, caller: &Caller| task_rules::cancel(row, caller, reason);
        change::<CancelTask>(&cx, request.task_id, TaskAction::Cancelled, rule).await
    }
}

impl Handle<ListTasks> for Broker {
    async fn handle(cx: Context, request: ListTasks) -> Result<TaskList, ErrorFrame> {
        let assignee = request.assignee.as_deref().filter(|spec| !spec.is_empty());
        let assignee = assignee.map(|spec| member_named(&cx, spec)).transpose()?;
        let status = request.status.and_then(TaskFilter::status);
        let (tasks, more) = list(&cx, status, assignee.as_ref().map(|(member, _)| member)).await?;
        Ok(TaskList { tasks, more })
    }
}
