//! `ping_mesh`.

use crate::model::{DeliveryStage, MessageId, PeerStatus, Priority};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sends a test message to this session itself with each priority, through encryption, the broker's disk and delivery,
/// and measures how long each stage takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PingMesh {
    /// Priorities to test.
    #[schemars(length(min = 1, max = 3))]
    pub priorities: Vec<Priority>,
}

impl Default for PingMesh {
    fn default() -> Self {
        Self {
            priorities: vec![Priority::Now, Priority::Next],
        }
    }
}

/// What `ping_mesh` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PingResult {
    /// Slug of the mesh.
    pub mesh: String,
    /// Whether the connection is open.
    pub connected: bool,
    /// This session's own status: `next` waits unless it is `idle`.
    pub status: PeerStatus,
    /// Number of other live sessions.
    pub peers: u32,
    /// One entry per priority.
    pub legs: Vec<PingLeg>,
}

/// What happened to the test message of one priority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PingLeg {
    /// The priority.
    pub priority: Priority,
    /// Id of the test message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// From the call until the broker had it on disk, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_ms: Option<f64>,
    /// From the call until it came back and was opened, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// How far it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<DeliveryStage>,
    /// Why it did not come back, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
