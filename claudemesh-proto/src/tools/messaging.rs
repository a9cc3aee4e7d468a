//! `send_message`, `list_peers`, `message_status`, `check_messages`.

use crate::model::{DeliveryStage, KeyHex, MessageId, Peer, Priority, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One recipient or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum SendTargets {
    /// One recipient.
    One(#[schemars(length(min = 1, max = 256))] String),
    /// Several recipients; each gets the message once.
    Many(#[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256)))] Vec<String>),
}

impl SendTargets {
    /// The recipients as a list.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(target) => std::slice::from_ref(target),
            Self::Many(targets) => targets,
        }
    }
}

impl From<&str> for SendTargets {
    fn from(target: &str) -> Self {
        Self::One(target.to_owned())
    }
}

/// Sends an end-to-end encrypted message to peers of the mesh. It is stored until each recipient has it, so recipients
/// may be offline. `message_status` tells how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SendMessage {
    /// Recipient or list of recipients: a peer's name, its key or the beginning of it, `@group`, `@all` or `*`. Put
    /// `<mesh-slug>:` in front to choose one of several meshes.
    pub to: SendTargets,
    /// The text.
    #[schemars(length(min = 1, max = 750_000))]
    pub message: String,
    /// `now` interrupts, `next` waits until the recipient is idle, `low` waits until it asks for messages.
    #[serde(default)]
    pub priority: Priority,
}

/// What became of a `send_message`, one line per recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageSent {
    /// One entry per distinct recipient.
    pub results: Vec<SendOutcome>,
}

/// What became of the message to one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendOutcome {
    /// The recipient as it was given.
    pub to: String,
    /// Slug of the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<String>,
    /// Id for `message_status`; absent when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// `accepted`: on disk at the broker. Absent when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<DeliveryStage>,
    /// How many members it is for.
    #[serde(default)]
    pub recipients: u32,
    /// Why it failed, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Lists the connected peers with their status, what they work on and their groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListPeersTool {
    /// Only the mesh with this slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub mesh_slug: Option<String>,
}

/// The peers of each joined mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeersByMesh {
    /// One entry per mesh.
    pub meshes: Vec<MeshPeers>,
}

/// The peers of one mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeshPeers {
    /// Slug of the mesh.
    pub mesh: String,
    /// Its live sessions, the oldest first, the caller's included.
    pub peers: Vec<Peer>,
    /// Why its peers could not be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Tells how far a message has come with each recipient: accepted, delivered, surfaced, read, or how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageStatusTool {
    /// The id that `send_message` returned.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
}

/// Fetches the messages that wait for this session, those of priority `low` included, and marks them read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckMessages {}

/// Messages for this session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceivedMessages {
    /// The messages, the oldest first.
    pub messages: Vec<ReceivedMessage>,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum MessageKind {
    /// Addressed to this member.
    Direct,
    /// Addressed to a group.
    Group,
    /// Addressed to everybody.
    Broadcast,
    /// An event of the mesh.
    Event,
}

/// A message as its reader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedMessage {
    /// Id of the message.
    pub message_id: MessageId,
    /// Slug of the mesh.
    pub mesh: String,
    /// Name of the sender.
    pub from: String,
    /// Key of the sending member: reply to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_pubkey: Option<KeyHex>,
    /// Direct, group, broadcast or event.
    pub kind: MessageKind,
    /// The target as the sender gave it (`@backend`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Its delivery class.
    pub priority: Priority,
    /// The text; absent when it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether the sender is proven. `false` for text of original clients to groups, and for events.
    pub authenticated: bool,
    /// What kind of message it is, if not an ordinary one: `reminder`, `ping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtype: Option<String>,
    /// Remarks for the reader: why it cannot be read, or what is missing or suspicious.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// When the broker accepted it.
    pub sent_at: Timestamp,
}
