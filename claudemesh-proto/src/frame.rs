//! Frames that the broker sends unasked, and the parts that all frames share.

use crate::ErrorFrame;
use crate::hello::{Challenge, HelloAck};
use crate::model::{Base64, EpochHead, GroupSeal, KeyHex, MessageId, Priority, Receipt, SealedMeta, Target, Timestamp};
use crate::ops::{LogRecord, SealRecord, StreamData, StreamLagged, Task};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Name of the member of a frame that says what it is.
pub const TYPE: &str = "type";
/// Name of the member of a frame that ties a reply to its request. The broker copies it and never interprets it.
pub const REQUEST_ID: &str = "_reqId";

/// A frame as it is written: its type, the id of the request that it answers, and its body.
#[derive(Debug, Serialize)]
pub struct Frame<'a, T> {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The request that it belongs to.
    #[serde(rename = "_reqId", skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// The other members.
    #[serde(flatten)]
    pub body: &'a T,
}

impl<'a, T: Serialize> Frame<'a, T> {
    /// A frame without a request id.
    pub fn new(kind: &'a str, body: &'a T) -> Self {
        Self {
            kind,
            request_id: None,
            body,
        }
    }

    /// The JSON text of the frame.
    ///
    /// # Errors
    /// If the body does not serialize to a JSON object.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// A message for this session, or an event of the mesh. Wire type: `push`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Push {
    /// Id of the message; the same for every recipient and every redelivery.
    pub message_id: MessageId,
    /// The mesh.
    pub mesh_id: String,
    /// Key of the sending session (of the member for a client without session keys), `system`, or `webhook:<name>`.
    pub sender_pubkey: String,
    /// Delivery class; absent in some frames of original brokers.
    #[serde(default)]
    pub priority: Priority,
    /// 24 bytes of the envelope, or empty.
    #[serde(default)]
    pub nonce: Base64,
    /// The sealed message, or empty.
    #[serde(default)]
    pub ciphertext: Base64,
    /// When the broker accepted it.
    pub created_at: Timestamp,
    /// `system`, `webhook`, `reminder`, `ping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtype: Option<String>,
    /// Name of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Facts about the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_data: Option<Value>,
    /// Key of the sending member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_member: Option<KeyHex>,
    /// Name of the sending session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_name: Option<String>,
    /// How it was addressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Sealed facts about a direct message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<SealedMeta>,
    /// How a group or broadcast message is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<GroupSeal>,
    /// Counts deliveries of this message to this member, from 1. Above 1 it may be a repetition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

impl Push {
    /// Whether it is an event of the mesh or a webhook rather than a peer's message.
    #[must_use]
    pub fn is_event(&self) -> bool {
        self.event.is_some() || matches!(self.subtype.as_deref(), Some("system" | "webhook"))
    }
}

/// A key of the shared state changed. Wire type: `state_change`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateChange {
    /// Name of the key.
    pub key: String,
    /// Its new value; `null` when it was removed.
    #[serde(default)]
    pub value: Value,
    /// Name of the member that changed it.
    pub updated_by: String,
    /// How often it has been written.
    #[serde(default)]
    pub version: u64,
    /// Whether it was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// What was done to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum TaskAction {
    /// It was created.
    Created,
    /// Somebody took it on, or made the claim last longer.
    Claimed,
    /// It is open again: given back, taken away, or its claimer was removed from the mesh.
    Released,
    /// It is open again: its claim has ended.
    Expired,
    /// It is done.
    Completed,
    /// Nobody needs it any more.
    Cancelled,
}

/// A task was created or changed. Wire type: `task_change`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskChange {
    /// What was done to it.
    pub action: TaskAction,
    /// Name of the member that did it; empty if the broker did.
    #[serde(default)]
    pub by: String,
    /// The task as it is now.
    pub task: Task,
}

/// What was done to a skill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum SkillAction {
    /// It is new, or has changed.
    Shared,
    /// It is gone.
    Removed,
}

/// A skill was shared, changed or removed. Wire type: `skill_change`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkillChange {
    /// What was done to it.
    pub action: SkillAction,
    /// Its name.
    pub name: String,
    /// Name of the member that did it.
    #[serde(default)]
    pub by: String,
    /// What it is for; empty when it is gone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// How often it has been shared, from 1.
    #[serde(default)]
    pub version: u64,
}

/// The group log grew. Wire type: `group_epoch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupEpoch {
    /// The new entries, in order.
    pub entries: Vec<LogRecord>,
    /// Seals for the receiving device.
    pub seals: Vec<SealRecord>,
    /// The new head.
    pub head: EpochHead,
}

/// Another device asks for keys. Wire type: `key_request_forward`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRequestForward {
    /// The signed request.
    pub request: Value,
}

/// Another device grants keys to this one. Wire type: `key_grant_forward`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyGrantForward {
    /// The signed grant.
    pub grant: Value,
}

/// Another member asks for a file of this session's shared directories. Wire type: `peer_file_request_forward`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerFileRequestForward {
    /// Who asks, as far as the broker knows: the session's key, else the member's.
    pub requester_pubkey: KeyHex,
    /// The path, if the question is not sealed.
    #[serde(default)]
    pub file_path: String,
    /// The sealed question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Base64>,
    /// Goes back with the answer.
    #[serde(default)]
    pub relay_id: String,
    /// The same, where original clients look for it.
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Another member asks for names in this session's shared directories. Wire type: `peer_dir_request_forward`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerDirRequestForward {
    /// Who asks, as far as the broker knows: the session's key, else the member's.
    pub requester_pubkey: KeyHex,
    /// The directory, if the question is not sealed.
    #[serde(default)]
    pub dir_path: String,
    /// Only names like this, if the question is not sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The sealed question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Base64>,
    /// Goes back with the answer.
    #[serde(default)]
    pub relay_id: String,
    /// The same, where original clients look for it.
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// The broker is about to close the connection. Wire type: `going_away`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GoingAway {
    /// Why: `shutting_down`, `revoked`, `archived`, `slow_reader`.
    pub reason: String,
    /// How long to wait before connecting again, in milliseconds; absent when it is of no use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconnect_after_ms: Option<u64>,
}

macro_rules! server_frames {
    ($( $(#[$doc:meta])* $variant:ident($body:ty) = $kind:literal; )+) => {
        /// A frame from the broker that is not the reply to a request.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ServerFrame {
            $( $(#[$doc])* $variant(Box<$body>), )+
        }

        impl ServerFrame {
            /// Every `type`, with the name of its body.
            pub const KINDS: &'static [(&'static str, &'static str)] = &[$( ($kind, stringify!($body)), )+];

            /// The `type` of the frame.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $( Self::$variant(_) => $kind, )+ }
            }

            /// The JSON text of the frame.
            ///
            /// # Errors
            /// If an embedded value does not serialize.
            pub fn to_json(&self) -> Result<String, serde_json::Error> {
                match self { $( Self::$variant(body) => Frame::new($kind, body.as_ref()).to_json(), )+ }
            }

            /// Reads a frame of this `type`; `None` if it is of another type, for example a reply.
            ///
            /// # Errors
            /// If a frame of a known type does not have its shape.
            pub fn from_value(kind: &str, value: Value) -> Result<Option<Self>, serde_json::Error> {
                fn read<T: DeserializeOwned>(value: Value) -> Result<Box<T>, serde_json::Error> {
                    serde_json::from_value(value).map(Box::new)
                }
                Ok(match kind { $( $kind => Some(Self::$variant(read(value)?)), )+ _ => None })
            }

            /// Every frame's schema generator, by `type`.
            pub(crate) fn schemas() -> Vec<(&'static str, schemars::Schema)> {
                vec![$( ($kind, crate::schema::of::<$body>()), )+]
            }
        }
    };
}

server_frames! {
    /// A fresh nonce for `hello`.
    Challenge(Challenge) = "challenge";
    /// The connection is accepted.
    HelloAck(HelloAck) = "hello_ack";
    /// A request failed, or the connection is refused.
    Error(ErrorFrame) = "error";
    /// A message or an event.
    Push(Push) = "push";
    /// News about a message that this member sent.
    Receipt(Receipt) = "receipt";
    /// A key of the shared state changed.
    StateChange(StateChange) = "state_change";
    /// A task was created or changed.
    TaskChange(TaskChange) = "task_change";
    /// A skill was shared, changed or removed.
    SkillChange(SkillChange) = "skill_change";
    /// An event of a stream.
    StreamData(StreamData) = "stream_data";
    /// Events of a stream that did not reach this session.
    StreamLagged(StreamLagged) = "stream_lagged";
    /// The group log grew.
    GroupEpoch(GroupEpoch) = "group_epoch";
    /// Another device asks for keys.
    KeyRequest(KeyRequestForward) = "key_request_forward";
    /// Another device grants keys.
    KeyGrant(KeyGrantForward) = "key_grant_forward";
    /// Another member asks for a file.
    PeerFileRequest(PeerFileRequestForward) = "peer_file_request_forward";
    /// Another member asks for names of files.
    PeerDirRequest(PeerDirRequestForward) = "peer_dir_request_forward";
    /// The broker is about to close the connection.
    GoingAway(GoingAway) = "going_away";
}
