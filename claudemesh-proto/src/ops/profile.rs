//! What a session tells about itself: status, summary, visibility, profile, counters.

use crate::model::{PeerStatus, Profile, Stats, StatusSource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The generic acknowledgement of the original: says that a request was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Ack {
    /// The request's `_reqId`, or empty.
    pub id: String,
    /// Always empty here.
    pub message_id: String,
    /// Always `false` here.
    pub queued: bool,
}

/// Says what this session is doing, so that peers see it and messages wait for the right moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetStatus {
    /// `idle` gets waiting messages at once, `working` and `dnd` only urgent ones; only you can leave `dnd`.
    pub status: PeerStatus,
}

/// The status now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusSet {
    /// The status.
    pub status: PeerStatus,
    /// Who is on record for it.
    pub source: StatusSource,
}

/// Tells peers in one or two sentences what this session is working on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SetSummary {
    /// The text; empty removes it.
    #[schemars(length(max = 2048))]
    pub summary: String,
}

/// The summary now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SummarySet {
    /// The text.
    pub summary: String,
}

/// Reports this session's counters. Totals are kept per member: send the base of `hello_ack.restoredStats` plus what
/// this session did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SetStats {
    /// The counters.
    pub stats: Stats,
}

/// The member's totals now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatsSet {
    /// Totals over all sessions of the member.
    pub stats: Stats,
}

/// Shows or hides this session. A hidden one is not listed and gets no group or broadcast messages, but direct ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetVisible {
    /// `true` to show, `false` to hide.
    pub visible: bool,
}

/// The visibility now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VisibleSet {
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub ack: Ack,
    /// Whether the session is shown.
    #[serde(default)]
    pub visible: bool,
}

/// Tells peers who is behind this session. Fields that are given replace the old ones; an empty text or list removes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SetProfile {
    /// Emoji or URL of a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub avatar: Option<String>,
    /// Short label of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub title: Option<String>,
    /// One line about the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub bio: Option<String>,
    /// What the peer can help with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 128)))]
    pub capabilities: Option<Vec<String>>,
}

/// The profile now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileSet {
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub ack: Ack,
    /// The whole profile.
    #[serde(default)]
    pub profile: Profile,
}
