//! Messages on their way to the broker: kept in order, sent again under the same `id` after a reconnect, until the broker
//! acknowledges or refuses them for good.

use crate::ClientError;
use crate::journal::{Journal, Queued, Text};
use crate::pending::lock;
use claudemesh_crypto::random_id;
use claudemesh_proto::frame::Frame;
use claudemesh_proto::ops::{SendAck, SendEnvelope};
use claudemesh_proto::{ErrorCode, ErrorFrame, Operation};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// The text of a message, kept until the broker has it, to seal it again under newer keys.
pub(crate) type ClearText = Zeroizing<Vec<u8>>;

/// First wait after a retryable refusal that names no time; doubles with each refusal of the same message.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// How often one message is sealed again because its keys were stale.
const MAX_RESEALS: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// To be written to the connection.
    Unsent,
    /// Written to the current connection.
    Sent,
    /// Refused as stale; the secure layer seals it again.
    Resealing,
}

struct Entry {
    id: String,
    envelope: SendEnvelope,
    text: Option<ClearText>,
    reply: oneshot::Sender<Result<SendAck, ClientError>>,
    stage: Stage,
    /// Whether any connection has carried it: the broker may have it.
    ever_sent: bool,
    /// It may be sent when so much of the journal is on disk; 0 for one that was there at the start.
    place: u64,
    refusals: u32,
    reseals: u32,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    paused_until: Option<Instant>,
    closed: Option<ClientError>,
}

/// What to do after the broker refused a message.
pub(crate) enum Refused {
    /// No message of the outbox has this id.
    NotOurs,
    /// Nothing: its sender was told.
    Settled,
    /// Look for unsent messages again at this time.
    RetryAt(Instant),
    /// Seal it again and [`Outbox::replace`] it.
    Reseal(Box<SendEnvelope>, ClearText),
}

/// The messages of one client that the broker has not acknowledged.
pub(crate) struct Outbox {
    state: Mutex<State>,
    capacity: usize,
    journal: Option<Arc<Journal>>,
    /// Signalled when there may be something to write.
    pub(crate) ready: Notify,
    changed: Notify,
}

impl Outbox {
    pub(crate) fn new(capacity: usize, journal: Option<Arc<Journal>>) -> Self {
        Self {
            state: Mutex::default(),
            capacity,
            journal,
            ready: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// Adds a message at the end. Its id is kept, or made. `number` is its sequence number. In a persistent client it is in
    /// the journal when this returns.
    pub(crate) fn push(
        &self,
        mut envelope: SendEnvelope,
        number: u64,
        text: Option<ClearText>,
    ) -> Result<PendingSend, ClientError> {
        let id = envelope.id.get_or_insert_with(random_id).clone();
        let (reply, receiver) = oneshot::channel();
        let mut state = lock(&self.state);
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        if state.entries.len() >= self.capacity {
            return Err(ClientError::QueueFull {
                capacity: self.capacity,
            });
        }
        if state.entries.iter().any(|entry| entry.id == id) {
            return Err(ClientError::invalid(
                "id",
                "a message with this id is on its way; use a new id for new content",
            ));
        }
        let place = self.record(&envelope, number, text.as_ref())?;
        state
            .entries
            .push_back(Entry::new(id.clone(), envelope, text, reply, place));
        drop(state);
        self.ready.notify_one();
        Ok(PendingSend { id, receiver })
    }

    /// Puts a message of an earlier run back, at the end. The broker may have it.
    pub(crate) fn restore(&self, queued: Queued) -> PendingSend {
        let id = queued.envelope.id.clone().unwrap_or_default();
        let (reply, receiver) = oneshot::channel();
        let text = queued.text.map(|text| text.0);
        let mut entry = Entry::new(id.clone(), queued.envelope, text, reply, 0);
        entry.ever_sent = true;
        lock(&self.state).entries.push_back(entry);
        PendingSend { id, receiver }
    }

    /// Writes a message down. Gives when it may be sent.
    fn record(&self, envelope: &SendEnvelope, number: u64, text: Option<&ClearText>) -> Result<u64, ClientError> {
        let Some(journal) = &self.journal else { return Ok(0) };
        journal.queued(Queued {
            envelope: envelope.clone(),
            number,
            text: text.cloned().map(Text),
        })
    }

    /// A new connection: everything is to be written again, in order.
    pub(crate) fn rewind(&self) {
        let mut state = lock(&self.state);
        state.paused_until = None;
        for entry in &mut state.entries {
            if entry.stage == Stage::Sent {
                entry.stage = Stage::Unsent;
            }
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Frames of up to `max` messages to write now, in order; they count as sent.
    pub(crate) fn take_frames(&self, max: usize) -> Vec<String> {
        let mut state = lock(&self.state);
        if state.paused_until.is_some_and(|until| until > Instant::now()) {
            return Vec::new();
        }
        state.paused_until = None;
        let durable = self.journal.as_ref().map_or(u64::MAX, |journal| journal.durable());
        let mut frames = Vec::new();
        for entry in &mut state.entries {
            match entry.stage {
                Stage::Sent => continue,
                // Later messages wait, so that they are not read before this one.
                Stage::Resealing => break,
                Stage::Unsent if frames.len() == max || entry.place > durable => break,
                Stage::Unsent => {}
            }
            let frame = Frame {
                kind: SendEnvelope::META.wire_type,
                request_id: Some(&entry.id),
                body: &entry.envelope,
            };
            // An envelope is texts and numbers: it always serializes.
            if let Ok(text) = frame.to_json() {
                entry.stage = Stage::Sent;
                entry.ever_sent = true;
                frames.push(text);
            }
        }
        frames
    }

    /// The broker has a message; `false` if it is none of the outbox.
    pub(crate) fn acknowledge(&self, ack: SendAck) -> bool {
        let Some(entry) = self.remove(&ack.id) else {
            return false;
        };
        let _ = entry.reply.send(Ok(ack));
        true
    }

    /// The broker refused the message of this id.
    pub(crate) fn refuse(&self, id: &str, error: &ErrorFrame) -> Refused {
        let mut state = lock(&self.state);
        let Some(entry) = state.entries.iter_mut().find(|entry| entry.id == id) else {
            return Refused::NotOurs;
        };
        if error.code == ErrorCode::StaleEpoch
            && entry.reseals < MAX_RESEALS
            && let Some(text) = &entry.text
        {
            entry.stage = Stage::Resealing;
            entry.reseals += 1;
            return Refused::Reseal(Box::new(entry.envelope.clone()), text.clone());
        }
        if error.retryable && error.code != ErrorCode::StaleEpoch {
            entry.stage = Stage::Unsent;
            entry.refusals += 1;
            let doubled = FIRST_RETRY
                .saturating_mul(1 << entry.refusals.min(8))
                .min(LONGEST_RETRY);
            let until = Instant::now() + error.retry_after_ms.map_or(doubled, Duration::from_millis);
            state.paused_until = Some(state.paused_until.map_or(until, |earlier| earlier.max(until)));
            return Refused::RetryAt(until);
        }
        drop(state);
        self.fail(id, error.clone().into());
        Refused::Settled
    }

    /// Puts the newly sealed form of a message in its place.
    pub(crate) fn replace(&self, id: &str, mut envelope: SendEnvelope) {
        envelope.id = Some(id.to_owned());
        let mut state = lock(&self.state);
        if let Some(entry) = state.entries.iter_mut().find(|entry| entry.id == id) {
            let number = envelope.sealed.as_ref().map_or(0, |seal| seal.seq);
            match self.record(&envelope, number, entry.text.as_ref()) {
                Ok(place) => entry.place = place,
                // The old form is there: after a restart it is refused and sealed again.
                Err(error) => tracing::warn!(%error, "a message that was sealed again is not in the journal"),
            }
            entry.envelope = envelope;
            entry.stage = Stage::Unsent;
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Gives up one message.
    pub(crate) fn fail(&self, id: &str, error: ClientError) {
        if let Some(entry) = self.remove(id) {
            if self.journal.is_some() && entry.place == 0 {
                tracing::warn!(%error, id, "a message of before the restart was not accepted");
            }
            let _ = entry.reply.send(Err(error));
        }
        // Messages behind one that was being sealed again may go now.
        self.ready.notify_one();
    }

    /// Takes back a message that no connection has carried. `false` if the broker may have it.
    pub(crate) fn withdraw(&self, id: &str) -> bool {
        let mut state = lock(&self.state);
        let unsent = state
            .entries
            .iter()
            .position(|entry| entry.id == id && !entry.ever_sent);
        let withdrawn = unsent.is_some_and(|index| state.entries.remove(index).is_some());
        if let (true, Some(journal)) = (withdrawn, &self.journal) {
            journal.sent(id);
        }
        withdrawn
    }

    /// Whether the message is on its way.
    pub(crate) fn contains(&self, id: &str) -> bool {
        lock(&self.state).entries.iter().any(|entry| entry.id == id)
    }

    /// Ends the outbox: what is in it and what comes later fails with `error`. A persistent client sends what is in it when
    /// it is started again.
    pub(crate) fn close(&self, error: ClientError) {
        let mut state = lock(&self.state);
        let entries = std::mem::take(&mut state.entries);
        state.closed = Some(error.clone());
        drop(state);
        for entry in entries {
            let _ = entry.reply.send(Err(error.clone()));
        }
        self.changed.notify_waiters();
    }

    /// Waits until every message is acknowledged or refused.
    pub(crate) async fn drained(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if lock(&self.state).entries.is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn remove(&self, id: &str) -> Option<Entry> {
        let mut state = lock(&self.state);
        let index = state.entries.iter().position(|entry| entry.id == id)?;
        let entry = state.entries.remove(index);
        if let Some(journal) = &self.journal {
            journal.sent(id);
        }
        drop(state);
        self.changed.notify_waiters();
        entry
    }
}

impl Entry {
    fn new(
        id: String,
        envelope: SendEnvelope,
        text: Option<ClearText>,
        reply: oneshot::Sender<Result<SendAck, ClientError>>,
        place: u64,
    ) -> Self {
        Self {
            id,
            envelope,
            text,
            reply,
            stage: Stage::Unsent,
            ever_sent: false,
            place,
            refusals: 0,
            reseals: 0,
        }
    }
}

/// A message on its way. Resolves when the broker has it on disk, or refused it for good; through reconnects, without a
/// time limit. Dropping it does not take the message back.
#[derive(Debug)]
#[must_use = "the message is sent anyway, but only awaiting this tells whether the broker took it"]
pub struct PendingSend {
    id: String,
    receiver: oneshot::Receiver<Result<SendAck, ClientError>>,
}

impl PendingSend {
    /// The message's id: for `message_status` and receipts, also before it is acknowledged.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Future for PendingSend {
    type Output = Result<SendAck, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|result| result.unwrap_or(Err(ClientError::Closed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claudemesh_proto::model::Priority;

    fn envelope(id: &str) -> SendEnvelope {
        SendEnvelope {
            target_spec: "*".to_owned(),
            priority: Priority::Next,
            nonce: String::new().into(),
            ciphertext: "aGk=".into(),
            id: Some(id.to_owned()),
            meta: None,
            sealed: None,
            session_hint: None,
            ttl_ms: None,
            subtype: None,
        }
    }

    fn ids(frames: &[String]) -> Vec<String> {
        let id = |text: &String| {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            value["id"].as_str().unwrap().to_owned()
        };
        frames.iter().map(id).collect()
    }

    fn ack(id: &str) -> SendAck {
        SendAck {
            id: id.to_owned(),
            message_id: id.into(),
            queued: true,
            recipients: 1,
            refused: 0,
            duplicate: false,
        }
    }

    #[tokio::test]
    async fn what_is_not_acknowledged_is_sent_again_in_order() {
        let outbox = Outbox::new(8, None);
        let first = outbox.push(envelope("a"), 1, None).unwrap();
        let second = outbox.push(envelope("b"), 1, None).unwrap();
        let third = outbox.push(envelope("c"), 1, None).unwrap();
        assert_eq!(ids(&outbox.take_frames(2)), ["a", "b"]);
        assert!(outbox.acknowledge(ack("a")));
        outbox.rewind();
        assert_eq!(ids(&outbox.take_frames(8)), ["b", "c"]);
        assert!(outbox.take_frames(8).is_empty());
        assert!(outbox.acknowledge(ack("b")) && outbox.acknowledge(ack("c")));
        assert!(!outbox.acknowledge(ack("c")));
        for sent in [first, second, third] {
            assert!(sent.await.is_ok());
        }
        outbox.drained().await;
    }

    #[tokio::test]
    async fn defect_110_it_is_bounded_and_ids_are_unique() {
        let outbox = Outbox::new(2, None);
        let _first = outbox.push(envelope("a"), 1, None).unwrap();
        assert!(matches!(
            outbox.push(envelope("a"), 1, None),
            Err(ClientError::InvalidArgument { .. })
        ));
        let _second = outbox.push(envelope("b"), 1, None).unwrap();
        assert_eq!(
            outbox.push(envelope("c"), 1, None).unwrap_err(),
            ClientError::QueueFull { capacity: 2 }
        );
        assert!(outbox.withdraw("b"));
        assert_eq!(ids(&outbox.take_frames(8)), ["a"]);
        assert!(!outbox.withdraw("a"), "the broker may have it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_pauses_the_outbox_and_keeps_the_order() {
        let outbox = Outbox::new(8, None);
        let _sent = (
            outbox.push(envelope("a"), 1, None).unwrap(),
            outbox.push(envelope("b"), 1, None).unwrap(),
        );
        assert_eq!(outbox.take_frames(8).len(), 2);
        let limited = ErrorFrame::new(ErrorCode::RateLimited, "slow down").retry_after(1_000);
        assert!(matches!(outbox.refuse("a", &limited), Refused::RetryAt(_)));
        assert!(matches!(outbox.refuse("b", &limited), Refused::RetryAt(_)));
        assert!(outbox.take_frames(8).is_empty());
        tokio::time::advance(Duration::from_millis(1_001)).await;
        assert_eq!(ids(&outbox.take_frames(8)), ["a", "b"]);
    }

    #[tokio::test]
    async fn a_stale_message_is_sealed_again_in_its_place() {
        let outbox = Outbox::new(8, None);
        let text = Zeroizing::new(b"hi".to_vec());
        let first = outbox.push(envelope("a"), 1, Some(text)).unwrap();
        assert_eq!(outbox.take_frames(8).len(), 1);
        let stale = ErrorFrame::new(ErrorCode::StaleEpoch, "old keys");
        let Refused::Reseal(old, text) = outbox.refuse("a", &stale) else {
            panic!("expected a new seal")
        };
        let _second = outbox.push(envelope("b"), 1, None).unwrap();
        assert!(outbox.take_frames(8).is_empty(), "b waits for a");
        assert_eq!(text.as_slice(), b"hi");
        outbox.replace("a", *old);
        assert_eq!(ids(&outbox.take_frames(8)), ["a", "b"]);
        let refused = ErrorFrame::new(ErrorCode::Refused, "no");
        assert!(matches!(outbox.refuse("a", &refused), Refused::Settled));
        assert_eq!(first.await.unwrap_err().code(), ErrorCode::Refused);
    }

    #[tokio::test]
    async fn closing_tells_everybody() {
        let outbox = Outbox::new(8, None);
        let sent = outbox.push(envelope("a"), 1, None).unwrap();
        outbox.close(ClientError::Closed);
        assert_eq!(sent.await.unwrap_err(), ClientError::Closed);
        assert_eq!(outbox.push(envelope("b"), 1, None).unwrap_err(), ClientError::Closed);
    }
}
