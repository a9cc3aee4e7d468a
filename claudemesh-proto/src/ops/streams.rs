//! Streams: live events for everybody who subscribed.

use crate::limits::MAX_REPLAY_EVENTS;
use crate::model::{KeyHex, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Creates a named stream for live events. A stream of that name that exists already is given back as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateStream {
    /// Name of the stream.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
}

/// The stream exists, and its name survives restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamCreated {
    /// Id of the stream.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether this request created it.
    #[serde(default)]
    pub created: bool,
}

/// Sends an event to all sessions that subscribed to the stream, except this one. Events are live: who is not connected
/// does not get them later; `subscribe` with `replay` shows the last ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Publish {
    /// Name of the stream.
    #[schemars(length(min = 1, max = 128))]
    pub stream: String,
    /// Any JSON value, at most 64 KiB.
    pub data: Value,
}

/// The event has its place in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Published {
    /// Name of the stream.
    pub stream: String,
    /// Number of the event in its stream, from 1.
    #[serde(default)]
    pub seq: u64,
    /// To how many sessions it is on its way.
    #[serde(default)]
    pub receivers: u32,
}

/// Subscribes this session to a stream: its events arrive as they are published, until `unsubscribe`. With `replay`, the
/// answer shows the last events that were published before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subscribe {
    /// Name of the stream.
    #[schemars(length(min = 1, max = 128))]
    pub stream: String,
    /// How many past events to show. The broker keeps at most the last 256 events or 1 MiB of a stream, for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = MAX_REPLAY_EVENTS))]
    pub replay: Option<u32>,
    /// For programs that come back: show all events after this place that are still kept, instead of the last ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<StreamPlace>,
}

/// A place in a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamPlace {
    /// Which numbering the number belongs to: numbers start anew when the broker restarts.
    #[schemars(length(max = 64))]
    pub incarnation: String,
    /// Number of an event, or 0.
    pub seq: u64,
}

/// The session is subscribed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Subscribed {
    /// Name of the stream.
    pub stream: String,
    /// Number of the last event before the subscription; all later ones arrive.
    #[serde(default)]
    pub seq: u64,
    /// Which numbering the number belongs to.
    #[serde(default)]
    pub incarnation: String,
    /// The past events that were asked for, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<StreamData>,
    /// How many events after `after` are no longer kept; absent if that cannot be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
}

/// Ends this session's subscription to a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unsubscribe {
    /// Name of the stream.
    #[schemars(length(min = 1, max = 128))]
    pub stream: String,
}

/// The session is not subscribed any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unsubscribed {
    /// Name of the stream.
    pub stream: String,
    /// Whether it was.
    pub was_subscribed: bool,
}

/// Lists the streams of the mesh, the oldest first, with creator and number of subscribers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListStreams {}

/// The streams of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamList {
    /// One entry per stream, the oldest first.
    pub streams: Vec<StreamInfo>,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Name of the member that created it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// How many sessions are subscribed.
    pub subscriber_count: u32,
}

/// An event of a stream that this session subscribed to. Wire type: `stream_data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamData {
    /// Name of the stream.
    pub stream: String,
    /// What was published.
    #[serde(default)]
    pub data: Value,
    /// Name of the member that published it.
    #[serde(default)]
    pub published_by: String,
    /// Key of that member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<KeyHex>,
    /// Number of the event in its stream, from 1; 0 from a broker of protocol 1.
    #[serde(default)]
    pub seq: u64,
    /// Which numbering the number belongs to.
    #[serde(default)]
    pub incarnation: String,
    /// When it was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Timestamp>,
}

/// This session read too slowly and did not get events of a stream. Wire type: `stream_lagged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamLagged {
    /// Name of the stream.
    pub stream: String,
    /// How many events were left out here.
    pub missed: u64,
}
