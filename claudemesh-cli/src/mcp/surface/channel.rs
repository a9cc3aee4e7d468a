//! Channel notifications: `notifications/claude/channel`. Nothing comes back, and hosts without channels drop them.

use super::{Form, Outcome, Surface, Surfacing};
use crate::mcp::render;
use claudemesh_client::Message;
use claudemesh_proto::model::Timestamp;
use claudemesh_proto::tools::MessageKind;
use rmcp::model::{CustomNotification, ServerNotification};
use rmcp::{Peer, RoleServer};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// Name of the capability, on both sides.
pub(crate) const CAPABILITY: &str = "claude/channel";
const METHOD: &str = "notifications/claude/channel";
/// How long the host may take to read its pipe.
const LIMIT: Duration = Duration::from_secs(2);

/// Facts about a notification. Hosts make attributes of them: keys are letters, digits and `_`, values text.
pub(crate) type Facts = Map<String, Value>;

/// Ids of the meshes by slug. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct MeshIds(Arc<RwLock<HashMap<String, String>>>);

impl MeshIds {
    /// Adds pairs of slug and id.
    pub(crate) fn learn(&self, pairs: impl Iterator<Item = (String, String)>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(pairs);
    }

    fn of(&self, slug: &str) -> String {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(slug)
            .cloned()
            .unwrap_or_default()
    }
}

/// Channel notifications to the host.
pub(crate) struct Channel {
    peer: Peer<RoleServer>,
    supported: bool,
    mesh_ids: MeshIds,
}

impl Channel {
    /// The channel to an initialised host.
    pub(crate) fn new(peer: Peer<RoleServer>, mesh_ids: MeshIds) -> Self {
        let supported = peer.peer_info().is_some_and(|info| {
            info.capabilities
                .experimental
                .as_ref()
                .is_some_and(|experimental| experimental.contains_key(CAPABILITY))
        });
        Self {
            peer,
            supported,
            mesh_ids,
        }
    }

    /// Sends a notification.
    pub(crate) async fn notify(&self, content: String, meta: Facts) -> Outcome {
        let params = json!({ "content": content, "meta": meta });
        let notification = ServerNotification::CustomNotification(CustomNotification::new(METHOD, Some(params)));
        match timeout(LIMIT, self.peer.send_notification(notification)).await {
            Ok(Ok(())) if self.supported => Outcome::Surfaced,
            Ok(Ok(())) => Outcome::Sent,
            Ok(Err(_)) | Err(_) => Outcome::Unavailable,
        }
    }

    fn facts(&self, message: &Message, form: Form) -> Facts {
        let kind = match (form, message.kind) {
            (Form::Pointer, _) => "inbox_notification",
            (Form::Full, MessageKind::Direct) => "direct",
            (Form::Full, MessageKind::Group) => "group",
            (Form::Full, MessageKind::Broadcast) => "broadcast",
            (Form::Full, MessageKind::Event) => "event",
        };
        let mut facts = Facts::new();
        let mut add = |key: &str, value: String| facts.insert(key.to_owned(), Value::String(value));
        add("kind", kind.to_owned());
        add("from_name", render::label(&message.from));
        add("mesh_slug", message.mesh.clone());
        add("mesh_id", self.mesh_ids.of(&message.mesh));
        add("priority", message.priority.as_str().to_owned());
        add("message_id", message.message_id.to_string());
        add("sent_at", message.sent_at.to_string());
        add("delivered_at", now().to_string());
        if let Some(key) = &message.from_pubkey {
            add("from_id", key.to_string());
        }
        if let Some(subtype) = &message.subtype {
            add("subtype", render::label(subtype));
        }
        facts
    }
}

impl Surface for Channel {
    fn name(&self) -> &'static str {
        "channel"
    }

    fn surface<'a>(&'a self, message: &'a Message, form: Form) -> Surfacing<'a> {
        let content = match form {
            Form::Full => full(message),
            Form::Pointer => render::pointer(message),
        };
        Box::pin(self.notify(content, self.facts(message, form)))
    }
}

/// Who wrote it and the text; the rest is in the facts.
fn full(message: &Message) -> String {
    let broadcast = if message.kind == MessageKind::Broadcast {
        " (broadcast)"
    } else {
        ""
    };
    let line = format!(
        "{}{}{broadcast}: {}",
        render::urgency(message.priority),
        render::label(&message.from),
        render::body(message)
    );
    match render::remarks(message).trim_end() {
        "" => line,
        remarks => format!("{line}\n\n{remarks}"),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
