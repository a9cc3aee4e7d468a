//! Work that exactly one session takes on.

use super::enrolment::{patch, permission, permissions};
use super::kit::*;
use super::memory::grant;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::frame::{TaskAction, TaskChange};
use claudemesh_client::proto::model::{Capability, Permissions, Role};
use claudemesh_client::proto::ops::{
    CancelTask, CreateTask, ListTasks, MeshInfo, RemoveMember, Task, TaskFilter, TaskPriority, TaskStatus,
};
use claudemesh_client::proto::tools::{CancelTaskTool, ClaimTaskTool, CompleteTaskTool, ReleaseTaskTool};
use claudemesh_client::{ClientError, ClientEvent, EventStream, MeshClient};
use std::time::Duration;

fn task(title: &str) -> CreateTask {
    CreateTask {
        title: title.to_owned(),
        ..CreateTask::default()
    }
}

async fn create(client: &MeshClient, title: &str) -> String {
    client.request(task(title)).await.unwrap().id
}

async fn claim(client: &MeshClient, id: &str) -> Result<Task, ClientError> {
    Ok(client.claim_task_tool(ClaimTaskTool { id: id.to_owned() }).await?.task)
}

async fn release(client: &MeshClient, id: &str) -> Result<Task, ClientError> {
    Ok(client.release_task_tool(ReleaseTaskTool { id: id.to_owned() }).await?.task)
}

async fn complete(client: &MeshClient, id: &str, result: &str) -> Result<Task, ClientError> {
    let params = CompleteTaskTool {
        id: id.to_owned(),
        result: Some(result.to_owned()).filter(|result| !result.is_empty()),
    };
    Ok(client.complete_task_tool(params).await?.task)
}

async fn cancel(client: &MeshClient, id: &str) -> Result<Task, ClientError> {
    let params = CancelTaskTool {
        id: id.to_owned(),
        reason: None,
    };
    Ok(client.cancel_task_tool(params).await?.task)
}

async fn list(client: &MeshClient, status: Option<TaskFilter>, assignee: Option<&str>) -> Vec<Task> {
    let assignee = assignee.map(str::to_owned);
    client.request(ListTasks { status, assignee }).await.unwrap().tasks
}

async fn titles(client: &MeshClient, status: Option<TaskFilter>, assignee: Option<&str>) -> Vec<String> {
    list(client, status, assignee).await.into_iter().map(|task| task.title).collect()
}

async fn change(events: &mut EventStream) -> TaskChange {
    event(events, "the change of a task", |event| match event {
        ClientEvent::TaskChange(change) => Some(change),
        _ => None,
    })
    .await
}

pub async fn cli_20_one_of_fifty_claims(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let mut sessions = Vec::new();
    for number in 0..50 {
        let person = [&ana, &ben, &cara][number % 3].person.clone();
        sessions.push(tokio::spawn(async move { person.connect().await }));
    }
    let mut clients = Vec::new();
    for session in sessions {
        clients.push(within("a session", session).await.unwrap());
    }
    for round in 0..3 {
        let id = create(&ana, &format!("round {round}")).await;
        let claims: Vec<_> = clients
            .iter()
            .map(|client| {
                let (client, id) = (client.clone(), id.clone());
                tokio::spawn(async move { claim(&client, &id).await })
            })
            .collect();
        let mut winners = Vec::new();
        for (number, result) in claims.into_iter().enumerate() {
            match within("a claim", result).await.unwrap() {
                Ok(task) => winners.push((number, task)),
                Err(error) => assert_eq!(error.code(), ErrorCode::TaskNotClaimable, "{error}"),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        let (number, task) = &winners[0];
        assert_eq!(task.claimed_by.as_deref(), Some(["ana", "ben", "cara"][number % 3]));
        let shown = list(&ben, Some(TaskFilter::Claimed), None).await.remove(0);
        assert_eq!(&shown, task);
        // Again by the same session: its own already, for longer.
        assert!(claim(&clients[*number], &id).await.unwrap().claim_expires_at >= task.claim_expires_at);
        complete(&clients[*number], &id, "").await.unwrap();
    }
    for client in clients {
        client.close().await;
    }
    lab.finish().await;
}

pub async fn cli_24_from_open_to_done(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let (mut at_ana, mut at_ben, mut at_cara) = (ana.events(), ben.events(), cara.events());
    let request = CreateTask {
        title: "write the migration".to_owned(),
        assignee: Some("BEN".to_owned()),
        priority: Some(TaskPriority::High),
        tags: vec!["db".to_owned(), "DB".to_owned()],
    };
    let created = ana.request(request).await.unwrap();
    let (id, created) = (created.id, created.task.unwrap());
    assert_eq!(
        (created.assignee.as_deref(), created.status, created.priority, created.created_by.as_deref()),
        (Some("ben"), TaskStatus::Open, TaskPriority::High, Some("ana"))
    );
    assert_eq!((created.assignee_id, created.tags), (Some(ben.person.identity.member_id.clone()), vec!["db".to_owned()]));
    let other = create(&cara, "something else").await;
    for events in [&mut at_ben, &mut at_cara] {
        let change = change(events).await;
        assert_eq!((change.action, change.by.as_str(), change.task.id), (TaskAction::Created, "ana", id.clone()));
    }
    assert_eq!(change(&mut at_ana).await.task.id, other, "not of her own");

    assert_eq!(titles(&cara, None, None).await, ["something else", "write the migration"], "newest first");
    for name in ["ben", ben.key().as_str(), &ben.key().as_str()[..12]] {
        assert_eq!(titles(&cara, None, Some(name)).await, ["write the migration"], "{name}");
    }
    assert_eq!(titles(&cara, Some(TaskFilter::Open), Some("ana")).await, Vec::<String>::new());
    assert_eq!(titles(&cara, Some(TaskFilter::All), Some("")).await.len(), 2);

    let claimed = claim(&ben, &id).await.unwrap();
    assert_eq!((claimed.status, claimed.claimed_by.as_deref()), (TaskStatus::Claimed, Some("ben")));
    let lease = claimed.claim_expires_at.unwrap().as_ms() - claimed.claimed_at.unwrap().as_ms();
    assert_eq!(lease, 24 * 3_600_000);
    assert_eq!(titles(&cara, Some(TaskFilter::Open), None).await, ["something else"]);
    assert_eq!(titles(&cara, Some(TaskFilter::Claimed), None).await, ["write the migration"]);
    lab.restart().await;
    let done = within("the connection", complete(&ben, &id, "in main")).await.unwrap();
    assert_eq!((done.status, done.result.as_deref()), (TaskStatus::Done, Some("in main")));
    assert!(done.completed_at.is_some() && done.claim_expires_at.is_none());
    assert_eq!(complete(&ben, &id, "in main").await.unwrap(), done, "repeated");
    for filter in [TaskFilter::Done, TaskFilter::Completed] {
        assert_eq!(titles(&cara, Some(filter), None).await, ["write the migration"], "defect of the original");
    }
    let tasks = within("the connection", ana.request(MeshInfo {})).await.unwrap().tasks;
    assert_eq!((tasks.open, tasks.claimed, tasks.done, tasks.cancelled), (1, 0, 1, 0));
    for task in list(&cara, None, None).await {
        assert!(task.id == id || task.id == other);
    }
    lab.finish().await;
}

pub async fn defect_022_105_who_may_not_is_told_why(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let dan = lab.join(&ana, "dan").await;
    patch(&lab, &ana, &dan, permission(Role::Admin)).await.unwrap();
    let id = create(&ben, "a task of ben's").await;
    assert_eq!(code(complete(&cara, &id, "x").await), ErrorCode::Conflict, "not claimed");
    assert_eq!(code(cancel(&cara, &id).await), ErrorCode::Forbidden);
    claim(&cara, &id).await.unwrap();
    for seat in [&ana, &ben, &dan] {
        let error = claim(seat, &id).await.unwrap_err();
        assert!(error.to_string().contains("cara has claimed"), "{error}");
        assert_eq!(error.code(), ErrorCode::TaskNotClaimable);
    }
    let eve = lab.join(&ana, "eve").await;
    for refused in [release(&eve, &id).await, complete(&eve, &id, "x").await, cancel(&eve, &id).await] {
        assert_eq!(code(refused), ErrorCode::Forbidden);
    }
    assert_eq!(code(cancel(&cara, &id).await), ErrorCode::Forbidden, "the claimer may give it back");
    assert_eq!(release(&cara, &id).await.unwrap().status, TaskStatus::Open);
    // The author and those who manage the mesh may take it away, end it, and call it off.
    for seat in [&ben, &dan, &ana] {
        claim(&cara, &id).await.unwrap();
        assert_eq!(release(seat, &id).await.unwrap().claimed_by, None);
        let other = create(&ben, "another").await;
        claim(&cara, &other).await.unwrap();
        assert_eq!(complete(seat, &other, "x").await.unwrap().claimed_by.as_deref(), Some("cara"));
        let other = create(&ben, "yet another").await;
        let reason = Some("no longer needed".to_owned());
        let request = CancelTask { task_id: other.clone(), reason };
        let cancelled = seat.request(request).await.unwrap().task.unwrap();
        assert_eq!((cancelled.status, cancelled.result.as_deref()), (TaskStatus::Cancelled, Some("no longer needed")));
        assert_eq!(code(claim(&cara, &other).await), ErrorCode::TaskNotClaimable);
        assert_eq!(code(complete(seat, &other, "x").await), ErrorCode::Conflict);
        assert_eq!(code(release(seat, &other).await), ErrorCode::Conflict);
    }
    assert_eq!(list(&eve, Some(TaskFilter::Cancelled), None).await.len(), 3);
    for id in ["nothing", "'; DROP TABLE task; --"] {
        for refused in [claim(&ana, id).await, release(&ana, id).await, complete(&ana, id, "").await, cancel(&ana, id).await] {
            let (code, field) = refusal(refused);
            assert_eq!((code, field.as_deref()), (ErrorCode::TaskNotFound, Some("/taskId")));
        }
    }
    for (assignee, expected) in [
        ("nobody", ErrorCode::NoSuchPeer),
        ("@all", ErrorCode::InvalidRequest),
        ("*", ErrorCode::InvalidRequest),
    ] {
        let request = CreateTask {
            assignee: Some(assignee.to_owned()),
            ..task("x")
        };
        let (code, field) = refusal(ana.request(request).await);
        assert_eq!((code, field.as_deref()), (expected, Some("/assignee")));
    }
    let near = CreateTask {
        assignee: Some("bem".to_owned()),
        ..task("x")
    };
    let error = ana.request(near).await.unwrap_err();
    assert_eq!(error.suggestions(), ["ben"]);
    for (title, place) in [("", "/title"), (" \t", "/title"), (&*"x".repeat(2001), "/title")] {
        assert_eq!(refusal(ana.request(task(title)).await).1.as_deref(), Some(place));
    }
    let nothing = Permissions {
        can_write_state: Some(false),
        ..Permissions::default()
    };
    patch(&lab, &ana, &eve, permissions(nothing)).await.unwrap();
    assert_eq!(code(eve.request(task("x")).await), ErrorCode::Forbidden);
    for refused in [claim(&eve, &id).await, release(&eve, &id).await, complete(&eve, &id, "").await, cancel(&eve, &id).await] {
        assert_eq!(code(refused), ErrorCode::Forbidden);
    }
    lab.finish().await;
}

pub async fn what_is_not_shown_cannot_be_touched(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let olga = lab.mesh("Other", "olga").await;
    let before = create(&ben, "claimed before").await;
    claim(&cara, &before).await.unwrap();
    grant(&ben, cara.key(), &[Capability::Read]).await;
    let mut events = cara.events();
    let id = create(&ben, "the canary").await;
    let for_cara = CreateTask {
        assignee: Some("cara".to_owned()),
        ..task("for cara all the same")
    };
    let for_cara = ben.request(for_cara).await.unwrap().id;
    for refused in [claim(&cara, &id).await, release(&cara, &id).await, complete(&cara, &id, "").await, cancel(&cara, &id).await] {
        assert_eq!(code(refused), ErrorCode::TaskNotFound);
    }
    let first = change(&mut events).await;
    assert_eq!(first.task.id, for_cara, "of the other she is not told");
    assert_eq!(titles(&cara, None, None).await, ["for cara all the same", "claimed before"]);
    assert_eq!(titles(&cara, Some(TaskFilter::Open), None).await, ["for cara all the same"]);
    claim(&cara, &for_cara).await.unwrap();
    complete(&cara, &for_cara, "").await.unwrap();
    complete(&cara, &before, "").await.unwrap();
    // Another mesh.
    for refused in [claim(&olga, &id).await, release(&olga, &id).await, complete(&olga, &id, "").await, cancel(&olga, &id).await] {
        assert_eq!(code(refused), ErrorCode::TaskNotFound);
    }
    assert!(titles(&olga, None, None).await.is_empty());
    assert_eq!(code(olga.request(ListTasks { status: None, assignee: Some("ben".to_owned()) }).await), ErrorCode::NoSuchPeer);
    assert_eq!(olga.request(MeshInfo {}).await.unwrap().tasks, Default::default());
    assert_eq!(list(&ana, Some(TaskFilter::Open), None).await[0].id, id);
    lab.finish().await;
}

pub async fn defect_101_claims_end(database: Database) {
    let soon = |config: &mut claudemesh_broker::config::Config| config.task_claim_ms = 1_500;
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three_and(database, soon).await;
    let mut events = ana.events();
    let id = create(&ben, "abandoned").await;
    assert_eq!(change(&mut events).await.action, TaskAction::Created);
    claim(&ben, &id).await.unwrap();
    assert_eq!(change(&mut events).await.action, TaskAction::Claimed);
    let expired = change(&mut events).await;
    assert_eq!((expired.action, expired.by.as_str(), expired.task.status), (TaskAction::Expired, "", TaskStatus::Open));
    assert_eq!(expired.task.claimed_by, None);
    let again = claim(&cara, &id).await.unwrap();
    assert_eq!(again.claimed_by.as_deref(), Some("cara"));
    // Before the broker gets round to it, and while it is down, the claim ends all the same.
    lab.stop().await;
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    lab.start_again().await;
    let tasks = within("the connection", list(&ana, Some(TaskFilter::Open), None)).await;
    assert_eq!((tasks.len(), &tasks[0].claimed_by), (1, &None));
    assert_eq!(code(within("the connection", complete(&cara, &id, "")).await), ErrorCode::Conflict);
    within("the connection", claim(&ben, &id)).await.unwrap();
    lab.finish().await;
}

pub async fn a_claim_belongs_to_one_session(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let id = create(&ana, "once only").await;
    claim(&ben, &id).await.unwrap();
    let second = ben.person.connect().await;
    let error = claim(&second, &id).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TaskNotClaimable);
    assert!(error.to_string().contains("another session of yours"), "{error}");
    // Whoever goes on where the first session has ended.
    ben.client.close().await;
    let taken = eventually("the takeover", || async { claim(&second, &id).await.ok() }).await;
    assert_eq!(taken.claimed_by.as_deref(), Some("ben"));
    complete(&second, &id, "").await.unwrap();
    lab.finish().await;
}

pub async fn who_is_removed_holds_no_task(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let claimed = create(&ana, "claimed by ben").await;
    let assigned = CreateTask {
        assignee: Some("ben".to_owned()),
        ..task("meant for ben")
    };
    let assigned = ana.request(assigned).await.unwrap().id;
    let done = create(&ana, "done by ben").await;
    let written = create(&ben, "written by ben").await;
    claim(&ben, &claimed).await.unwrap();
    claim(&ben, &done).await.unwrap();
    complete(&ben, &done, "").await.unwrap();
    let mut events = cara.events();
    let member_id = ben.person.identity.member_id.clone();
    ana.request(RemoveMember { member_id }).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..2 {
        let change = change(&mut events).await;
        assert_eq!((change.action, change.task.status), (TaskAction::Released, TaskStatus::Open));
        told.push(change.task.id);
    }
    told.sort();
    let mut expected = [claimed.clone(), assigned.clone()];
    expected.sort();
    assert_eq!(told, expected);
    for task in list(&cara, None, None).await {
        assert_eq!(task.claimed_by.is_some(), task.id == done, "{task:?}");
        assert_eq!(task.assignee, None);
    }
    claim(&cara, &claimed).await.unwrap();
    claim(&cara, &written).await.unwrap();
    complete(&cara, &written, "").await.unwrap();
    lab.finish().await;
}
