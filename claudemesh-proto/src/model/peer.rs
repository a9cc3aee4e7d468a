//! Live sessions: what peers see of one another.

use super::{Group, KeyHex, MemberId, PresenceId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a session is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum PeerStatus {
    /// Waiting: gets `now` and `next` messages at once.
    #[default]
    Idle,
    /// Busy: gets `now` messages only.
    Working,
    /// Do not disturb: gets `now` messages only, and hooks do not change it.
    Dnd,
}

impl PeerStatus {
    /// The wire text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Working => "working",
            Self::Dnd => "dnd",
        }
    }
}

/// Who said what a session is doing. A higher rank keeps its name on the record while it is fresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum StatusSource {
    /// Inferred (rank 1).
    #[default]
    Jsonl,
    /// The `set_status` operation (rank 2).
    Manual,
    /// A hook of the agent's host program (rank 3).
    Hook,
}

/// What a peer tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// Emoji or URL of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub avatar: Option<String>,
    /// Short label of the role, for example `Lead architect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub title: Option<String>,
    /// One line about the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub bio: Option<String>,
    /// What the peer can help with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 128)))]
    pub capabilities: Vec<String>,
}

impl Profile {
    /// Whether nothing is told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Counters of a member's work, over all of its sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Messages received.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Tools called.
    pub tool_calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Seconds that the session has been up; not summed over sessions.
    pub uptime: u64,
}

/// A live session, as `list_peers` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Key of the session (of the member for a client that announced no session key).
    pub pubkey: KeyHex,
    /// Key of the member: what messages are addressed to and safety numbers are made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_pubkey: Option<KeyHex>,
    /// Row of the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<MemberId>,
    /// Row of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_id: Option<PresenceId>,
    /// Name of the session.
    pub display_name: String,
    /// What it is doing.
    pub status: PeerStatus,
    /// What it is working on, in its own words.
    #[serde(default)]
    pub summary: Option<String>,
    /// Groups that it is in.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Identifier that its host program gave.
    #[serde(default)]
    pub session_id: String,
    /// When it connected.
    pub connected_at: Timestamp,
    /// Its working directory.
    #[serde(default)]
    pub cwd: String,
    /// Its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// `ai`, `human`, `connector` or `bridge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<String>,
    /// Where it comes from, for example `claude-code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The model behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the member has done so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<Stats>,
    /// `false` when it hides from other members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible: Option<bool>,
    /// What it tells about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Protocol version of its client; absent for version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
}
