//! Events of a mesh as channel notifications. They inform and never wake the model.

use super::render::label;
use super::surface::Facts;
use claudemesh_client::{ClientEvent, Identity, PeerEvent};
use claudemesh_proto::frame::{SkillAction, TaskAction, TaskChange};
use serde_json::{Value, json};

/// Text and facts of a notification; `None` for what the model need not know.
pub(super) fn of(mesh: &Identity, event: &ClientEvent) -> Option<(String, Facts)> {
    let system = |name: &str, content: String, data: Option<String>| {
        let mut facts = facts(mesh, "system");
        facts.insert("event".to_owned(), json!(name));
        if let Some(data) = data {
            facts.insert("eventData".to_owned(), json!(data));
        }
        (content, facts)
    };
    Some(match event {
        ClientEvent::PeerJoined(peer) => system("peer_joined", went(peer, "joined the mesh"), None),
        ClientEvent::PeerReturned(peer) => system("peer_returned", went(peer, "is back in the mesh"), None),
        ClientEvent::PeerLeft(peer) => system("peer_left", went(peer, "left the mesh"), None),
        ClientEvent::System(push) => {
            let name = push.event.as_deref()?;
            let data = push.event_data.as_ref().map(Value::to_string);
            let content = format!("[system] {}: {}", label(name), data.as_deref().unwrap_or("{}"));
            system(name, super::render::quote(&content), data)
        }
        ClientEvent::StateChange(change) => {
            let mut facts = facts(mesh, "state_change");
            facts.insert("key".to_owned(), json!(change.key));
            facts.insert("updated_by".to_owned(), json!(label(&change.updated_by)));
            let value = if change.deleted {
                "removed".to_owned()
            } else {
                change.value.to_string()
            };
            let content = format!(
                "[state] {} = {value} (set by {})",
                change.key,
                label(&change.updated_by)
            );
            (super::render::quote(&content), facts)
        }
        ClientEvent::TaskChange(change) => {
            let mut facts = facts(mesh, "task_change");
            facts.insert("task_id".to_owned(), json!(change.task.id));
            facts.insert("action".to_owned(), json!(change.action));
            (super::render::quote(&task_news(change)), facts)
        }
        ClientEvent::SkillChange(change) => {
            let mut facts = facts(mesh, "skill_change");
            facts.insert("skill".to_owned(), json!(label(&change.name)));
            facts.insert("action".to_owned(), json!(change.action));
            let done = match change.action {
                SkillAction::Shared if change.version <= 1 => "shared",
                SkillAction::Shared => "changed",
                SkillAction::Removed => "removed",
            };
            let mut content = format!("[skill] {} was {done} by {}", label(&change.name), label(&change.by));
            if !change.description.is_empty() {
                content.push_str(&format!(": {}", change.description));
            }
            (super::render::quote(&content), facts)
        }
        ClientEvent::StreamData(data) => {
            let mut facts = facts(mesh, "stream_data");
            facts.insert("stream".to_owned(), json!(label(&data.stream)));
            facts.insert("published_by".to_owned(), json!(label(&data.published_by)));
            facts.insert("seq".to_owned(), json!(data.seq.to_string()));
            let content = format!(
                "[stream:{}] from {}: {}",
                label(&data.stream),
                label(&data.published_by),
                data.data
            );
            (super::render::quote(&content), facts)
        }
        ClientEvent::StreamMissed { stream, count } => {
            let mut facts = facts(mesh, "stream_missed");
            facts.insert("stream".to_owned(), json!(label(stream)));
            let count = count.map_or_else(|| "some".to_owned(), |count| count.to_string());
            (
                format!("[stream:{}] {count} events did not arrive here", label(stream)),
                facts,
            )
        }
        _ => return None,
    })
}

fn task_news(change: &TaskChange) -> String {
    let task = &change.task;
    let by = match change.by.as_str() {
        "" => String::new(),
        name => format!(" by {}", label(name)),
    };
    let action = match change.action {
        TaskAction::Created => "created",
        TaskAction::Claimed => "claimed",
        TaskAction::Released => "open again: released",
        TaskAction::Expired => "open again: its claim has ended",
        TaskAction::Completed => "done",
        TaskAction::Cancelled => "cancelled",
    };
    let mut text = format!("[task] {action}{by}: {} (id {}", task.title, task.id);
    if let Some(assignee) = &task.assignee {
        text.push_str(&format!(", for {}", label(assignee)));
    }
    text.push(')');
    if let Some(result) = &task.result {
        text.push_str(&format!(". Result: {result}"));
    }
    text
}

fn facts(mesh: &Identity, kind: &str) -> Facts {
    let facts = json!({ "kind": kind, "mesh_slug": mesh.slug, "mesh_id": mesh.mesh_id.as_str() });
    facts.as_object().cloned().unwrap_or_default()
}

fn went(peer: &PeerEvent, what: &str) -> String {
    format!("[system] Peer \"{}\" {what}", label(&peer.name))
}
