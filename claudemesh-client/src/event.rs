//! What a client tells the program while it runs.

use crate::secure::SecureEvent;
use crate::{ConnectionState, Message};
use claudemesh_proto::frame::{GroupEpoch, Push, SkillChange, StateChange, TaskChange};
use claudemesh_proto::model::{Group, KeyHex, Receipt};
use claudemesh_proto::ops::StreamData;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use serde::Deserialize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Something that happened. Every stream of [`MeshClient::events`](crate::MeshClient::events) gets every event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientEvent {
    /// A message came; it also waits in [`MeshClient::recv`](crate::MeshClient::recv).
    Message(Arc<Message>),
    /// News about a message that this member sent.
    Receipt(Receipt),
    /// A key of the shared state changed.
    StateChange(StateChange),
    /// A task was created or changed.
    TaskChange(TaskChange),
    /// A skill was shared, changed or removed by another session.
    SkillChange(SkillChange),
    /// An event of a stream that this session subscribed to.
    StreamData(Arc<StreamData>),
    /// Events of a stream did not reach this session.
    StreamMissed {
        /// Name of the stream.
        stream: String,
        /// How many; `None` if that cannot be known, because the broker was restarted in between.
        count: Option<u64>,
    },
    /// A session connected.
    PeerJoined(PeerEvent),
    /// A session of a member that was here before connected.
    PeerReturned(PeerEvent),
    /// A session left.
    PeerLeft(PeerEvent),
    /// A session shows itself again.
    PeerVisible(PeerEvent),
    /// A session hides.
    PeerHidden(PeerEvent),
    /// Any other event of the mesh.
    System(Arc<Push>),
    /// The group log grew.
    GroupEpoch(Arc<GroupEpoch>),
    /// News of the group keys: members admitted or removed, a decision to take, keys ready.
    Secure(SecureEvent),
    /// The connection changed.
    Connection(ConnectionState),
    /// Something that a person should know; the client goes on.
    Warning(String),
    /// This reader was too slow and missed this many events. Messages are not lost: they wait in `recv`.
    Lagged(u64),
}

/// Who joined or left.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerEvent {
    /// Name of the session.
    #[serde(default)]
    pub name: String,
    /// Key of the session, or of the member.
    pub pubkey: KeyHex,
    /// Its groups.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// What it was working on last.
    #[serde(default)]
    pub summary: Option<String>,
}

impl ClientEvent {
    /// The event of a `system` push.
    pub(crate) fn of_system_push(push: Push) -> Self {
        let make = match push.event.as_deref() {
            Some("peer_joined") => Self::PeerJoined,
            Some("peer_returned") => Self::PeerReturned,
            Some("peer_left") => Self::PeerLeft,
            Some("peer_visible") => Self::PeerVisible,
            Some("peer_hidden") => Self::PeerHidden,
            _ => return Self::System(Arc::new(push)),
        };
        match push.event_data.as_ref().map(PeerEvent::deserialize) {
            Some(Ok(peer)) => make(peer),
            _ => Self::System(Arc::new(push)),
        }
    }
}

/// Events from the moment of the call on. Ends when the client is closed.
pub struct EventStream(BoxStream<'static, ClientEvent>);

impl EventStream {
    pub(crate) fn new(receiver: broadcast::Receiver<ClientEvent>) -> Self {
        let events = stream::unfold(Some(receiver), |receiver| async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Ok(event) => {
                    let last = matches!(&event, ClientEvent::Connection(state) if state.is_closed());
                    Some((event, (!last).then_some(receiver)))
                }
                Err(RecvError::Lagged(missed)) => Some((ClientEvent::Lagged(missed), Some(receiver))),
                Err(RecvError::Closed) => None,
            }
        });
        Self(events.boxed())
    }

    /// The next event; `None` when the client is closed.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        self.0.next().await
    }
}

impl Stream for EventStream {
    type Item = ClientEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        self.0.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventStream")
    }
}
