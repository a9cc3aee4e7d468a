//! Received messages that wait for the program.
//!
//! A message is acknowledged as `delivered` when it has a place here. When the program does not read, further messages
//! are kept without being acknowledged: the broker's window fills, it stops pushing, and stores the rest.

use crate::Message;
use crate::pending::lock;
use claudemesh_proto::model::MessageId;
use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use tokio::sync::Notify;

/// How many message ids are remembered to recognise repetitions.
const REMEMBERED: usize = 8192;
/// How many messages are kept beyond the capacity, unacknowledged: more than a broker's window.
const OVERFLOW: usize = 1024;

/// What became of a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It waits for the program, and is acknowledged.
    Stored,
    /// It waits beyond the capacity; it is acknowledged when there is a place.
    Held,
    /// It came before. Acknowledge it again if it was acknowledged: that one may be lost.
    Repeated {
        /// Whether it was acknowledged.
        acknowledged: bool,
    },
    /// There is no room; the broker delivers it again.
    Dropped,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Message>,
    /// How many at the front of the queue are acknowledged.
    acknowledged: usize,
    /// Messages that came, and whether they were acknowledged.
    seen: HashMap<MessageId, bool>,
    order: VecDeque<MessageId>,
    /// No further message is taken.
    stopped: bool,
    closed: bool,
}

impl State {
    fn remember(&mut self, id: MessageId, acknowledged: bool) {
        if self.seen.insert(id.clone(), acknowledged).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
    }
}

/// The inbox of one client.
pub(crate) struct Inbox {
    state: Mutex<State>,
    capacity: usize,
    ready: Notify,
}

impl Inbox {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            capacity: capacity.max(1),
            ready: Notify::new(),
        }
    }

    /// Whether a message with this id came before, without storing anything.
    pub(crate) fn repeated(&self, id: &MessageId) -> Option<Offer> {
        lock(&self.state).seen.get(id).map(|acknowledged| Offer::Repeated {
            acknowledged: *acknowledged,
        })
    }

    /// Whether no further message can be kept.
    pub(crate) fn is_full(&self) -> bool {
        let state = lock(&self.state);
        state.stopped || state.queue.len() >= self.capacity + OVERFLOW
    }

    /// Takes no further message, and gives up those that are not acknowledged: the broker has them for the next session.
    pub(crate) fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        let acknowledged = state.acknowledged;
        state.queue.truncate(acknowledged);
    }

    /// Notes a message that is handled without the inbox.
    pub(crate) fn note(&self, id: &MessageId) {
        lock(&self.state).remember(id.clone(), true);
    }

    /// Puts a message at the end. `acknowledge` is called if it is stored, before anybody can take it out: whoever has it
    /// and closes the client must find its acknowledgement on the way.
    pub(crate) fn offer(&self, message: Message, acknowledge: impl FnOnce()) -> Offer {
        let mut state = lock(&self.state);
        let id = &message.message_id;
        if let Some(acknowledged) = state.seen.get(id) {
            return Offer::Repeated {
                acknowledged: *acknowledged,
            };
        }
        let offer = match state.queue.len() {
            _ if state.stopped => return Offer::Dropped,
            length if length < self.capacity => Offer::Stored,
            length if length < self.capacity + OVERFLOW => Offer::Held,
            _ => return Offer::Dropped,
        };
        let acknowledged = offer == Offer::Stored;
        if acknowledged {
            acknowledge();
        }
        state.acknowledged += usize::from(acknowledged);
        state.remember(id.clone(), acknowledged);
        state.queue.push_back(message);
        drop(state);
        self.ready.notify_one();
        offer
    }

    /// The oldest message, and one that has its place now and is to be acknowledged.
    pub(crate) fn pop(&self) -> Option<(Message, Option<MessageId>)> {
        let mut state = lock(&self.state);
        let message = state.queue.pop_front()?;
        state.acknowledged = state.acknowledged.saturating_sub(1);
        let next = state.acknowledged;
        let freed = if next < self.capacity {
            state.queue.get(next).map(|held| held.message_id.clone())
        } else {
            None
        };
        if let Some(id) = &freed {
            state.acknowledged += 1;
            state.remember(id.clone(), true);
        }
        let more = !state.queue.is_empty();
        drop(state);
        if more {
            self.ready.notify_one();
        }
        Some((message, freed))
    }

    /// Waits for the oldest message; `None` when the client is closed and nothing is left.
    pub(crate) async fn next(&self) -> Option<(Message, Option<MessageId>)> {
        loop {
            let ready = self.ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            if let Some(found) = self.pop() {
                return Some(found);
            }
            if lock(&self.state).closed {
                return None;
            }
            ready.await;
        }
    }

    /// Ends waiting: no further message will come.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.ready.notify_waiters();
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claudemesh_proto::model::{Priority, Timestamp};
    use claudemesh_proto::tools::{MessageKind, ReceivedMessage};
    use std::sync::Weak;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn message(id: &str) -> Message {
        let received = ReceivedMessage {
            message_id: id.into(),
            mesh: "m".to_owned(),
            from: "ana".to_owned(),
            from_pubkey: None,
            kind: MessageKind::Direct,
            target: None,
            priority: Priority::Next,
            text: Some("hi".to_owned()),
            authenticated: true,
            subtype: None,
            warnings: Vec::new(),
            sent_at: Timestamp::from_ms(0),
        };
        Message::new(received, None, Weak::new())
    }

    fn offer(inbox: &Inbox, id: &str) -> Offer {
        inbox.offer(message(id), || {})
    }

    #[test]
    fn who_has_a_message_finds_its_acknowledgement() {
        let inbox = Inbox::new(2);
        let acknowledged = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while inbox.pop().is_none() {
                    std::thread::yield_now();
                }
                acknowledged.load(Ordering::SeqCst)
            });
            inbox.offer(message("a"), || {
                std::thread::sleep(std::time::Duration::from_millis(20));
                acknowledged.store(true, Ordering::SeqCst);
            });
            assert!(reader.join().unwrap());
        });
        assert_eq!(
            inbox.offer(message("a"), || panic!("it came before")),
            Offer::Repeated { acknowledged: true }
        );
    }

    #[test]
    fn a_full_inbox_holds_without_acknowledging_and_loses_nothing() {
        let inbox = Inbox::new(2);
        assert_eq!(offer(&inbox, "a"), Offer::Stored);
        assert_eq!(offer(&inbox, "b"), Offer::Stored);
        assert_eq!(offer(&inbox, "c"), Offer::Held);
        assert_eq!(offer(&inbox, "c"), Offer::Repeated { acknowledged: false });
        let (first, freed) = inbox.pop().unwrap();
        assert_eq!((first.message_id.as_str(), freed), ("a", Some("c".into())));
        assert_eq!(offer(&inbox, "c"), Offer::Repeated { acknowledged: true });
        assert_eq!(offer(&inbox, "d"), Offer::Held);
        let order: Vec<_> = std::iter::from_fn(|| inbox.pop())
            .map(|(message, freed)| (message.message_id.0.clone(), freed))
            .collect();
        assert_eq!(
            order,
            [
                ("b".to_owned(), Some("d".into())),
                ("c".to_owned(), None),
                ("d".to_owned(), None)
            ]
        );
    }

    #[test]
    fn beyond_the_overflow_messages_are_left_to_the_broker() {
        let inbox = Inbox::new(1);
        for index in 0..=OVERFLOW {
            assert_ne!(offer(&inbox, &index.to_string()), Offer::Dropped);
        }
        assert_eq!(offer(&inbox, "x"), Offer::Dropped);
        inbox.pop().unwrap();
        assert_eq!(
            offer(&inbox, "x"),
            Offer::Held,
            "a dropped message is not taken for a repetition"
        );
    }

    #[test]
    fn a_stopped_inbox_keeps_only_what_is_acknowledged() {
        let inbox = Inbox::new(1);
        offer(&inbox, "a");
        offer(&inbox, "b");
        inbox.stop();
        assert_eq!(offer(&inbox, "c"), Offer::Dropped);
        assert_eq!(inbox.pop().unwrap().1, None);
        assert!(inbox.pop().is_none());
    }

    #[tokio::test]
    async fn waiting_ends_when_the_client_is_closed() {
        let inbox = Inbox::new(4);
        offer(&inbox, "a");
        inbox.close();
        assert!(inbox.next().await.is_some());
        assert!(inbox.next().await.is_none());
    }
}
