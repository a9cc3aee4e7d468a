//! The first frames of a connection.
//!
//! A client of protocol 2 sends [`HelloChallenge`], gets a [`Challenge`], and sends a [`Hello`] that proves the member
//! key and the session key over the nonce and the broker's origin. An original client sends its [`Hello`] at once.

use crate::model::{
    EpochHead, Group, HexSignature, KeyHex, MemberId, MeshId, MeshPolicy, MessageMode, PresenceId, Role, Stats,
    Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `type` of [`HelloChallenge`].
pub const HELLO_CHALLENGE: &str = "hello_challenge";
/// `type` of [`Hello`].
pub const HELLO: &str = "hello";

/// What a client of protocol 2 can do; the broker leaves out frames that a client does not announce.
pub mod caps {
    /// Acknowledges messages with `ack_messages`.
    pub const ACK: &str = "ack";
    /// Understands `receipt` frames.
    pub const RECEIPTS: &str = "receipts";
    /// Follows the group log of scheme `epoch/1`.
    pub const EPOCH_1: &str = "epoch/1";
    /// Shares directories: is asked for files of its member.
    pub const PEER_FILES: &str = "peer-files";
}

/// Asks for a nonce. Wire type: `hello_challenge`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HelloChallenge {}

/// A nonce for one `hello` on this socket. Wire type: `challenge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Challenge {
    /// 32 random bytes, base64url without padding.
    pub nonce: String,
    /// Newest protocol version that the broker speaks.
    pub protocol: u32,
    /// The broker's clock.
    pub server_time: Timestamp,
}

/// Authenticates a connection. Wire type: `hello`. Fields up to `signature` are the original's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The mesh.
    pub mesh_id: MeshId,
    /// The member's row, as its configuration says.
    pub member_id: MemberId,
    /// The member's key.
    #[schemars(length(max = 256))]
    pub pubkey: String,
    /// Key of this session, fresh for each process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_pubkey: Option<KeyHex>,
    /// Name of this session; the member's name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub display_name: Option<String>,
    /// Identifier that the host program gave this session.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub session_id: String,
    /// Process id on the client's machine.
    #[serde(default)]
    pub pid: i64,
    /// Working directory.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub cwd: String,
    /// Name of the client's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub hostname: Option<String>,
    /// `ai`, `human`, `connector` or `bridge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub peer_type: Option<String>,
    /// Where the session comes from, for example `claude-code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub channel: Option<String>,
    /// The model behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub model: Option<String>,
    /// Groups that the session is in; those it left with if absent or empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub groups: Vec<Group>,
    /// The client's clock, in milliseconds since the Unix epoch; at most a minute off the broker's.
    pub timestamp: f64,
    /// Signature by the member key: over `meshId|memberId|pubkey|timestamp` in version 1, over the text of
    /// `claudemesh_crypto::HelloV2` in version 2.
    #[schemars(length(max = 512))]
    pub signature: String,

    /// Protocol version; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// What the client can do: see [`caps`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 64)))]
    pub caps: Vec<String>,
    /// The nonce of the broker's challenge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub nonce: Option<String>,
    /// Origin of the broker as the client dialled it: scheme, host and port (`wss://mesh.example.org:443`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub origin: Option<String>,
    /// Signature by the session key over the same text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_signature: Option<HexSignature>,
    /// A one-shot connection: not listed, not announced, gets no mail unless it asks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observer: bool,
    /// How far the client has followed the group log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<EpochHead>,
    /// Visibility; that of the member's last session if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible: Option<bool>,
}

/// The connection is accepted. Wire type: `hello_ack`. Fields up to `services` are the original's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HelloAck {
    /// This session's row.
    pub presence_id: PresenceId,
    /// Name of this session.
    pub member_display_name: String,
    /// What admins set for this member.
    #[serde(default)]
    pub member_profile: MemberProfile,
    /// Rules of the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_policy: Option<MeshPolicy>,
    /// Whether the member was here before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// Summary of the member's last session; it is in force again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_summary: Option<String>,
    /// When the member's last session left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
    /// Groups that are in force again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restored_groups: Vec<Group>,
    /// The member's totals: the base of this session's `set_stats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_stats: Option<Stats>,
    /// Deployed services in scope.
    #[serde(default)]
    pub services: Vec<Value>,

    /// Protocol version of the connection; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// Slug of the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_slug: Option<String>,
    /// The member's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<MemberId>,
    /// The member's standing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The broker's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time: Option<Timestamp>,
    /// How long the broker waits for the acknowledgement of a message before it delivers again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Head of the mesh's group log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<EpochHead>,
    /// Whether this session is shown to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible: Option<bool>,
    /// Waiting messages of priority `low`: fetch them with `pull_messages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_low: Option<u64>,
}

/// What admins set for a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberProfile {
    /// Label.
    pub role_tag: Option<String>,
    /// Default groups.
    pub groups: Vec<Group>,
    /// How the member wants to be told of messages.
    pub message_mode: MessageMode,
}
