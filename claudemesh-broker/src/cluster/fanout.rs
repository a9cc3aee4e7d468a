//! The way of a stream's events to every broker that has subscribers.

use std::fmt;
use std::sync::Arc;

use claudemesh_proto::ErrorFrame;
use claudemesh_proto::model::{KeyHex, MemberId, MeshId, PresenceId, Timestamp};
use claudemesh_proto::ops::{StreamData, StreamPlace};
use futures_util::future::BoxFuture;
use serde_json::Value;

/// A stream of a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// The mesh.
    pub mesh: MeshId,
    /// Name of the stream.
    pub name: String,
}

/// An event that has no place yet.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What is published.
    pub data: Value,
    /// The member that publishes it.
    pub member: MemberId,
    /// Key of that member.
    pub member_key: KeyHex,
    /// Name of that member.
    pub name: String,
    /// The session that publishes it, which gets no echo.
    pub session: PresenceId,
    /// When.
    pub at: Timestamp,
}

/// An event in its place.
#[derive(Clone, Debug)]
pub struct Event {
    /// What subscribers get.
    pub body: StreamData,
    /// The member that published it.
    pub member: MemberId,
    /// The session that published it.
    pub session: PresenceId,
}

/// What became of a published event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its number in the stream.
    pub seq: u64,
    /// To how many sessions of this broker it is on its way.
    pub receivers: usize,
}

/// Which past events a subscriber asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PastEvents {
    /// The last ones, so many at most.
    Last(usize),
    /// All that are kept after this place.
    After(StreamPlace),
}

/// The past of a stream at the moment of a subscription.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Place of the last event before the subscription.
    pub place: StreamPlace,
    /// The events that were asked for, the oldest first.
    pub events: Vec<Arc<Event>>,
    /// How many events after the place that was asked for are gone; `None` if its numbering is not this one.
    pub missed: Option<u64>,
}

/// Why an event has no place.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FanoutError {
    /// The event cannot be sent.
    #[error("{0}")]
    Refused(Box<ErrorFrame>),
}

/// Called once, between the last event of [`Past`] and the first later one.
pub type Register = Box<dyn FnOnce() + Send>;

/// Hands events to the subscribers of one broker.
pub trait Sink: fmt::Debug + Send + Sync {
    /// Queues the event for its subscribers, and tells for how many. Called in the order of the places. Must not wait.
    fn deliver(&self, mesh: &MeshId, event: &Event) -> usize;
}

/// Orders the events of streams and carries them to the [`Sink`] of every broker.
///
/// * Each event gets the next number of its stream; every sink gets the events of a stream in the order of their numbers.
/// * The past is bounded by [`MAX_REPLAY_EVENTS`](claudemesh_proto::limits::MAX_REPLAY_EVENTS) and
///   [`MAX_REPLAY_BYTES`](claudemesh_proto::limits::MAX_REPLAY_BYTES).
/// * [`Fanout::join`] loses nothing and doubles nothing: what is not in the past comes through the sink.
///
/// With NATS the stream is a JetStream subject (`mesh.<mesh>.stream.<name>`, memory storage, the same bounds): `publish` is
/// a publish with acknowledgement, the incarnation is the stream's creation time, and each broker has one ordered consumer.
pub trait Fanout: fmt::Debug + Send + Sync {
    /// Gives the event its place and hands it on. What decides the order happens in the first step of the future.
    fn publish(&self, stream: StreamKey, event: Draft) -> BoxFuture<'_, Result<Placed, FanoutError>>;

    /// Gives the past of a stream and calls `register` so that later events reach the new subscriber.
    fn join(&self, stream: StreamKey, past: PastEvents, register: Register)
    -> BoxFuture<'_, Result<Past, FanoutError>>;
}
