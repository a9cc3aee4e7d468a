//! Who hears which stream.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::ws::Utf8Bytes;
use claudemesh_proto::frame::ServerFrame;
use claudemesh_proto::model::{Capability, MemberId, MeshId, PresenceId};
use claudemesh_proto::{ErrorCode, ErrorFrame, PROTOCOL_VERSION};

use super::{Hub, LiveState};
use crate::cluster::{Event, Sink};
use crate::mesh::near;
use crate::store::StreamRow;

/// The streams of a mesh and their subscribers.
#[derive(Debug, Default)]
pub struct Streams {
    by_name: BTreeMap<String, Stream>,
}

/// One stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its row.
    pub row: StreamRow,
    /// Sessions that subscribed. Each is a live one.
    subscribers: BTreeSet<PresenceId>,
}

impl Stream {
    /// How many sessions are subscribed.
    #[must_use]
    pub fn subscriber_count(&self) -> usize {
        self.subscribers.len()
    }
}

impl Streams {
    /// Streams without subscribers.
    pub(super) fn new(rows: Vec<StreamRow>) -> Self {
        let mut streams = Self::default();
        rows.into_iter().for_each(|row| streams.add(row));
        streams
    }

    /// Adds a stream, if there is none of its name.
    pub fn add(&mut self, row: StreamRow) {
        self.by_name.entry(row.name.clone()).or_insert_with(|| Stream {
            row,
            subscribers: BTreeSet::new(),
        });
    }

    /// Every stream, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<&Stream> {
        let mut streams: Vec<_> = self.by_name.values().collect();
        streams.sort_by_key(|stream| stream.row.created_at.as_ms());
        streams
    }

    /// Whether there is a stream of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// That there is no stream of this name, with names that may have been meant.
    #[must_use]
    pub fn unknown(&self, name: &str) -> ErrorFrame {
        let shown: String = name.chars().take(64).collect();
        let names = near(self.by_name.keys().map(String::as_str), &name.to_lowercase());
        let text = format!("this mesh has no stream `{shown}`; create it with create_stream, or see list_streams");
        ErrorFrame::new(ErrorCode::NotFound, text).at("/stream").suggest(names)
    }

    /// To how many streams the session has subscribed.
    #[must_use]
    pub fn subscriptions(&self, presence: &PresenceId) -> usize {
        let streams = self.by_name.values();
        streams.filter(|stream| stream.subscribers.contains(presence)).count()
    }

    /// Whether the session has subscribed to the stream.
    #[must_use]
    pub fn is_subscribed(&self, name: &str, presence: &PresenceId) -> bool {
        let stream = self.by_name.get(name);
        stream.is_some_and(|stream| stream.subscribers.contains(presence))
    }

    /// Ends a subscription, and tells whether there was one.
    pub fn unsubscribe(&mut self, name: &str, presence: &PresenceId) -> bool {
        let stream = self.by_name.get_mut(name);
        stream.is_some_and(|stream| stream.subscribers.remove(presence))
    }

    /// Ends all subscriptions of a session.
    pub(super) fn forget(&mut self, presence: &PresenceId) {
        for stream in self.by_name.values_mut() {
            stream.subscribers.remove(presence);
        }
    }
}

impl LiveState {
    /// Adds a live session to the subscribers of a stream.
    pub fn subscribe(&mut self, name: &str, presence: &PresenceId) {
        if self.session(presence).is_none() {
            return;
        }
        if let Some(stream) = self.streams.by_name.get_mut(name) {
            stream.subscribers.insert(presence.clone());
        }
    }

    /// Whether events of `publisher` are for `subscriber`: the publisher lets it read what it writes into the mesh, and it
    /// lets the publisher reach it.
    #[must_use]
    pub fn may_hear(&self, publisher: &MemberId, subscriber: &MemberId) -> bool {
        // What a removed member published stays readable.
        self.mesh.member(publisher).is_none()
            || self.mesh.allows(publisher, subscriber, Capability::StateRead)
                && self.mesh.allows(subscriber, publisher, Capability::Broadcast)
    }

    /// Queues an event for its subscribers.
    fn deliver(&self, event: &Event) -> usize {
        let Some(stream) = self.streams.by_name.get(&event.body.stream) else {
            return 0;
        };
        let mut text: Option<Utf8Bytes> = None;
        let mut receivers = 0;
        let others = stream.subscribers.iter().filter(|presence| **presence != event.session);
        for session in others.filter_map(|presence| self.session(presence)) {
            if !self.may_hear(&event.member, &session.member) {
                continue;
            }
            let text = match &text {
                Some(text) => text,
                None => match ServerFrame::StreamData(Box::new(event.body.clone())).to_json() {
                    Ok(json) => text.insert(Utf8Bytes::from(json)),
                    Err(error) => {
                        tracing::error!(%error, "an event of a stream does not serialize");
                        return 0;
                    }
                },
            };
            let is_told = session.protocol >= PROTOCOL_VERSION;
            if session.outbound.send_event(&event.body.stream, text.clone(), is_told) {
                receivers += 1;
            }
        }
        receivers
    }
}

impl Sink for Hub {
    fn deliver(&self, mesh: &MeshId, event: &Event) -> usize {
        self.loaded(mesh)
            .map(|mesh| mesh.lock().deliver(event))
            .unwrap_or_default()
    }
}
