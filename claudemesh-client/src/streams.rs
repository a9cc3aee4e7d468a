//! Streams: subscriptions that outlive a connection.

use crate::inner::Inner;
use crate::pending::lock;
use crate::{ClientError, ClientEvent, MeshClient};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::ops::{StreamData, StreamPlace, Subscribe, Subscribed, Unsubscribe, Unsubscribed};
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// How many items wait for one [`Subscription`].
const CAPACITY: usize = 1024;

/// What a [`Subscription`] gives.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StreamItem {
    /// An event.
    Event(Arc<StreamData>),
    /// Events did not arrive here: this reader or this session was too slow, or the broker does not keep any more what was
    /// published while the session was away. `None`: how many cannot be known, because the broker was restarted.
    Missed(Option<u64>),
}

/// The streams that this session is subscribed to.
#[derive(Default)]
pub(crate) struct Streams {
    entries: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    items: broadcast::Sender<StreamItem>,
    /// Place of the last event that came.
    place: StreamPlace,
    /// The session itself is subscribed, whether somebody reads a [`Subscription`] or not.
    is_kept: bool,
    /// Subscriptions whose request is under way.
    starting: usize,
    /// Events that come while what was published before them is still being fetched.
    held: Option<Vec<StreamData>>,
}

impl Entry {
    fn new() -> Self {
        Self {
            items: broadcast::Sender::new(CAPACITY),
            place: StreamPlace::default(),
            is_kept: false,
            starting: 0,
            held: None,
        }
    }

    fn is_idle(&self) -> bool {
        !self.is_kept && self.starting == 0 && self.items.receiver_count() == 0
    }

    /// Whether the event is a new one; notes its place.
    fn advance(&mut self, data: &StreamData) -> bool {
        // Brokers of protocol 1 do not number events.
        if data.seq == 0 {
            return true;
        }
        if data.incarnation == self.place.incarnation && data.seq <= self.place.seq {
            return false;
        }
        self.place = StreamPlace {
            incarnation: data.incarnation.clone(),
            seq: data.seq,
        };
        true
    }

    /// Notes the place at which a subscription began.
    fn begin(&mut self, subscribed: &Subscribed) {
        if self.place.incarnation != subscribed.incarnation {
            self.place = StreamPlace {
                incarnation: subscribed.incarnation.clone(),
                seq: subscribed.seq,
            };
        }
    }
}

impl Streams {
    /// Ends every subscription: the client is at its end.
    pub(crate) fn close(&self) {
        lock(&self.entries).clear();
    }
}

impl Inner {
    /// Takes an event that the broker sent.
    pub(crate) fn stream_data(&self, data: StreamData) {
        let mut entries = lock(&self.streams.entries);
        if let Some(entry) = entries.get_mut(&data.stream) {
            self.take_event(entry, data);
        }
    }

    /// Hands an event on. With the lock held: everybody gets the events in their order, whichever task they came through.
    fn take_event(&self, entry: &mut Entry, data: StreamData) {
        if let Some(held) = &mut entry.held {
            held.push(data);
        } else if entry.advance(&data) {
            let data = Arc::new(data);
            // Nobody reading is fine.
            let _ = entry.items.send(StreamItem::Event(data.clone()));
            self.emit(ClientEvent::StreamData(data));
        }
    }

    /// Takes the news that events did not reach this session.
    pub(crate) fn stream_missed(&self, stream: &str, count: Option<u64>) {
        if let Some(entry) = lock(&self.streams.entries).get(stream) {
            self.tell_missed(entry, stream, count);
        }
    }

    fn tell_missed(&self, entry: &Entry, stream: &str, count: Option<u64>) {
        let _ = entry.items.send(StreamItem::Missed(count));
        self.emit(ClientEvent::StreamMissed {
            stream: stream.to_owned(),
            count,
        });
    }

    /// Holds back what comes on a new connection until what was published in between is here.
    pub(crate) fn hold_streams(&self) {
        for entry in lock(&self.streams.entries).values_mut() {
            entry.held.get_or_insert_default();
        }
    }

    /// Subscribes again on a new connection, to what was published in between as well.
    pub(crate) async fn resume_streams(&self) {
        let streams: Vec<String> = {
            let mut entries = lock(&self.streams.entries);
            entries.retain(|_, entry| !entry.is_idle());
            entries.keys().cloned().collect()
        };
        for stream in streams {
            self.resume_stream(&stream).await;
        }
    }

    async fn resume_stream(&self, stream: &str) {
        let place = {
            let mut entries = lock(&self.streams.entries);
            let Some(entry) = entries.get_mut(stream) else { return };
            entry.held.get_or_insert_default();
            entry.place.clone()
        };
        let request = Subscribe {
            stream: stream.to_owned(),
            replay: None,
            after: (!place.incarnation.is_empty()).then(|| place.clone()),
        };
        match self.request(&request).await {
            Ok(subscribed) => self.resumed(stream, &place, subscribed),
            // The next connection does it again.
            Err(ClientError::NotConnected { .. } | ClientError::Closed) => {}
            Err(error) => {
                self.release(stream);
                if matches!(error.code(), ErrorCode::NotFound | ErrorCode::Forbidden) {
                    lock(&self.streams.entries).remove(stream);
                }
                self.warn(format!(
                    "the subscription to the stream {stream} was not restored: {error}"
                ));
            }
        }
    }

    /// Takes what was published in between, then what came since.
    fn resumed(&self, stream: &str, before: &StreamPlace, subscribed: Subscribed) {
        let mut entries = lock(&self.streams.entries);
        let Some(entry) = entries.get_mut(stream) else { return };
        let is_new = before.incarnation != subscribed.incarnation;
        if is_new && before.seq > 0 {
            self.tell_missed(entry, stream, None);
        }
        if let Some(missed) = subscribed.missed.filter(|missed| *missed > 0 && !is_new) {
            self.tell_missed(entry, stream, Some(missed));
        }
        let held = entry.held.take().unwrap_or_default();
        for data in subscribed.events {
            self.take_event(entry, data);
        }
        // What was not for this session has a number too.
        if entry.place.incarnation != subscribed.incarnation || entry.place.seq < subscribed.seq {
            entry.place = StreamPlace {
                incarnation: subscribed.incarnation,
                seq: subscribed.seq,
            };
        }
        for data in held {
            self.take_event(entry, data);
        }
    }

    /// Takes the events that were held after all.
    fn release(&self, stream: &str) {
        let mut entries = lock(&self.streams.entries);
        let Some(entry) = entries.get_mut(stream) else { return };
        for data in entry.held.take().unwrap_or_default() {
            self.take_event(entry, data);
        }
    }

    /// Ends the subscription at the broker if nobody is left who wants it.
    async fn leave_idle_stream(&self, stream: &str) {
        if !lock(&self.streams.entries).get(stream).is_some_and(Entry::is_idle) {
            return;
        }
        if self.is_open() {
            let request = Unsubscribe {
                stream: stream.to_owned(),
            };
            if let Err(error) = self.request(&request).await {
                tracing::debug!(%error, stream, "a subscription was not ended");
            }
        }
        {
            let mut entries = lock(&self.streams.entries);
            if entries.get(stream).is_some_and(Entry::is_idle) {
                entries.remove(stream);
                return;
            }
        }
        // Somebody subscribed in the meantime, perhaps before the request above was served.
        self.resume_stream(stream).await;
    }
}

/// Counts a request under way; dropped when it has ended, however it did.
struct Starting<'a> {
    inner: &'a Inner,
    stream: &'a str,
}

impl<'a> Starting<'a> {
    /// Gives what comes from now on.
    fn new(inner: &'a Inner, stream: &'a str) -> (Self, broadcast::Receiver<StreamItem>) {
        let mut entries = lock(&inner.streams.entries);
        let entry = entries.entry(stream.to_owned()).or_insert_with(Entry::new);
        entry.starting += 1;
        let items = entry.items.subscribe();
        (Self { inner, stream }, items)
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        let mut entries = lock(&self.inner.streams.entries);
        if let Some(entry) = entries.get_mut(self.stream) {
            entry.starting = entry.starting.saturating_sub(1);
            // A subscription that failed; its receiver may be alive still.
            if entry.is_idle() {
                entries.remove(self.stream);
            }
        }
    }
}

impl MeshClient {
    /// Subscribes to a stream: past events if the request asks for them, then every event as it is published. The
    /// subscription outlives connections: what was published in between comes too, as far as the broker keeps it. It ends
    /// when it is dropped.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`]: `not_found` if there is no such stream.
    pub async fn subscribe(&self, request: Subscribe) -> Result<Subscription, ClientError> {
        let inner = self.inner();
        let stream = request.stream.clone();
        let (starting, items) = Starting::new(inner, &stream);
        let subscribed = self.request(request).await?;
        if let Some(entry) = lock(&inner.streams.entries).get_mut(&stream) {
            entry.begin(&subscribed);
        }
        let subscription = Subscription::new(inner, subscribed, items);
        drop(starting);
        Ok(subscription)
    }

    /// The tool `subscribe`: this session is subscribed until [`MeshClient::unsubscribe`], over reconnects as well; events
    /// come as [`ClientEvent::StreamData`]. The answer shows the past events that were asked for.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`].
    pub async fn subscribe_session(&self, request: Subscribe) -> Result<Subscribed, ClientError> {
        let inner = self.inner();
        let stream = request.stream.clone();
        let (_starting, _items) = Starting::new(inner, &stream);
        let subscribed = self.request(request).await?;
        if let Some(entry) = lock(&inner.streams.entries).get_mut(&stream) {
            entry.is_kept = true;
            entry.begin(&subscribed);
        }
        Ok(subscribed)
    }

    /// Ends this session's subscription to a stream, and every [`Subscription`] to it.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`].
    pub async fn unsubscribe(&self, request: Unsubscribe) -> Result<Unsubscribed, ClientError> {
        let stream = request.stream.clone();
        let done = self.request(request).await?;
        lock(&self.inner().streams.entries).remove(&stream);
        Ok(done)
    }
}

/// The events of a stream, in order. Ends when the client is closed or the session is unsubscribed.
pub struct Subscription {
    subscribed: Subscribed,
    items: Option<BoxStream<'static, StreamItem>>,
    inner: Weak<Inner>,
}

impl Subscription {
    fn new(inner: &Arc<Inner>, mut subscribed: Subscribed, receiver: broadcast::Receiver<StreamItem>) -> Self {
        let past: VecDeque<_> = std::mem::take(&mut subscribed.events).into();
        let begin = StreamPlace {
            incarnation: subscribed.incarnation.clone(),
            seq: subscribed.seq,
        };
        // Somebody else's subscription may have brought events that the past has already.
        let is_past =
            move |data: &StreamData| data.seq != 0 && data.incarnation == begin.incarnation && data.seq <= begin.seq;
        let live = stream::unfold(receiver, move |mut receiver| {
            let is_past = is_past.clone();
            async move {
                loop {
                    let item = match receiver.recv().await {
                        Ok(StreamItem::Event(data)) if is_past(&data) => continue,
                        Ok(item) => item,
                        Err(RecvError::Lagged(missed)) => StreamItem::Missed(Some(missed)),
                        Err(RecvError::Closed) => return None,
                    };
                    return Some((item, receiver));
                }
            }
        });
        let past = stream::iter(past.into_iter().map(|data| StreamItem::Event(Arc::new(data))));
        Self {
            subscribed,
            items: Some(past.chain(live).boxed()),
            inner: Arc::downgrade(inner),
        }
    }

    /// The broker's answer, without the past events: those come first.
    #[must_use]
    pub fn subscribed(&self) -> &Subscribed {
        &self.subscribed
    }

    /// The next event, or the news that some are missing; `None` when the subscription has ended.
    pub async fn next(&mut self) -> Option<StreamItem> {
        self.items.as_mut()?.next().await
    }
}

impl Stream for Subscription {
    type Item = StreamItem;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<StreamItem>> {
        match &mut self.items {
            Some(items) => items.poll_next_unpin(context),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // First, so that it is not counted any more.
        self.items = None;
        let (Some(inner), Ok(runtime)) = (self.inner.upgrade(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let stream = std::mem::take(&mut self.subscribed.stream);
        runtime.spawn(async move { inner.leave_idle_stream(&stream).await });
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Subscription").field(&self.subscribed.stream).finish()
    }
}
