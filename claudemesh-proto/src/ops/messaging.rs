//! Messages: send, receive, acknowledge, ask how far they are.

use crate::frame::Push;
use crate::model::{
    Base64, ClientStage, GroupSeal, KeyHex, MessageId, Peer, Priority, RecipientStatus, SealedMeta, Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stores a sealed message for each recipient and delivers it. Answered when it is on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendEnvelope {
    /// A member's or session's key, `@group`, `@all` or `*`. Names are resolved by the client, which needs the key.
    #[schemars(length(min = 1, max = 256))]
    pub target_spec: String,
    /// Delivery class.
    #[serde(default)]
    pub priority: Priority,
    /// 24 bytes of the envelope; empty in clear text of original bridges.
    #[serde(default)]
    #[schemars(extend("maxLength" = 64))]
    pub nonce: Base64,
    /// The sealed message; clear text in base64 from original clients to groups.
    pub ciphertext: Base64,
    /// Idempotency key: repeating a send with the same id by the same member stores nothing new. With protocol 2 it is
    /// also the message's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[0-9A-Za-z_-]+$"))]
    pub id: Option<String>,
    /// Sealed facts about a direct message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<SealedMeta>,
    /// How a group or broadcast message is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<GroupSeal>,
    /// Session of the recipient to prefer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_hint: Option<KeyHex>,
    /// How long it may wait for a recipient, in milliseconds; seven days if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1000, max = 2_592_000_000_u64))]
    pub ttl_ms: Option<u64>,
    /// What kind of message it is, if not an ordinary one: `ping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub subtype: Option<String>,
}

/// The message is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendAck {
    /// The request's `id`, or empty.
    pub id: String,
    /// The message's id.
    pub message_id: MessageId,
    /// Always `true`.
    pub queued: bool,
    /// How many members it is for.
    #[serde(default)]
    pub recipients: u32,
    /// How many members were left out because they refuse such messages from the sender.
    #[serde(default)]
    pub refused: u32,
    /// Whether an earlier send with the same id had stored it.
    #[serde(default)]
    pub duplicate: bool,
}

/// Lists the connected sessions of the mesh, the oldest first, the caller's included. Hidden ones are shown to their own
/// member only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListPeers {}

/// The connected sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeersList {
    /// One entry per session.
    pub peers: Vec<Peer>,
}

/// Tells how far a message has come. Only its sender and its recipients may ask; a recipient sees its own line only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageStatus {
    /// The message's id.
    pub message_id: MessageId,
}

/// How far a message has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageStatusResult {
    /// The message's id.
    pub message_id: MessageId,
    /// The target as it was sent.
    pub target_spec: String,
    /// Whether every recipient's client has it.
    pub delivered: bool,
    /// When the last recipient's client acknowledged it.
    pub delivered_at: Option<Timestamp>,
    /// When the broker accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Timestamp>,
    /// One line per recipient.
    pub recipients: Vec<RecipientStatus>,
}

/// Fetches messages that wait for this member, whatever its status. Without `peek` they are leased to this session, which
/// acknowledges them with `ack_messages`; unacknowledged ones are delivered again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PullMessages {
    /// Delivery classes to fetch; all if empty.
    #[schemars(length(max = 3))]
    pub priorities: Vec<Priority>,
    /// Most messages to return (1 to 256; 64 if absent).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub limit: Option<u32>,
    /// Only look: nothing is leased or marked.
    pub peek: bool,
}

/// Messages that were waiting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessagesPulled {
    /// The messages, the oldest first.
    pub messages: Vec<Push>,
    /// What still waits after these.
    pub waiting: Waiting,
}

/// Numbers of waiting messages by delivery class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Waiting {
    /// Priority `now`.
    pub now: u64,
    /// Priority `next`.
    pub next: u64,
    /// Priority `low`.
    pub low: u64,
}

impl Waiting {
    /// The number of one class.
    pub fn of(&mut self, priority: Priority) -> &mut u64 {
        match priority {
            Priority::Now => &mut self.now,
            Priority::Next => &mut self.next,
            Priority::Low => &mut self.low,
        }
    }

    /// All classes together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.now + self.next + self.low
    }
}

/// Counts the messages that wait for this member, without fetching any. Those that a live session has but has not
/// acknowledged count too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountWaiting {}

/// How many messages wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingCounted {
    /// Numbers by delivery class.
    pub waiting: Waiting,
}

/// Reports how far messages have come on the recipient's side. Stages only advance; reporting one twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AckMessages {
    /// One entry per message and stage.
    #[schemars(length(min = 1, max = 256))]
    pub acks: Vec<MessageAck>,
}

/// How far one message has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageAck {
    /// The message.
    pub message_id: MessageId,
    /// How far it has come.
    pub stage: ClientStage,
    /// What put it in front of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub adapter: Option<String>,
}

/// The stages are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessagesAcked {
    /// How many of the reported messages are this member's.
    pub acked: u32,
}
