//! Received messages that wait for the program.
//!
//! A message is acknowledged as `delivered` when the program takes it: a process that dies before has taken nothing away.
//! Until then it is only on loan. When the broker's lease runs out it gives the message to whoever reads, so it must not
//! be handed out here any more; if that is this session again, it comes again, and what is behind it in its stream with it.
//!
//! A persistent client writes a message into its journal before the program gets it. What the program did not confirm
//! before it was killed comes first when it is started again.

mod gaps;

pub(crate) use gaps::Loan;

use self::gaps::Gaps;
use crate::journal::{Journal, REMEMBERED};
use crate::pending::lock;
use crate::{ClientError, Message};
use claudemesh_proto::model::MessageId;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often the program's next message is tried to be written down while the disk takes nothing.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// What became of a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It waits for the program.
    Stored,
    /// It is here already; the loan is renewed.
    Waiting,
    /// It was taken before: its acknowledgement may be lost.
    Taken,
    /// There is no room, or the client is closing; the broker delivers it again.
    Dropped,
}

/// What there is for the program.
enum Popped {
    Message(Box<Message>),
    Nothing,
    /// There is something that cannot be given now.
    Blocked,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Message>,
    /// The loan of each message in the queue; none, and so without end, from a broker that knows no leases.
    loans: HashMap<MessageId, Option<Loan>>,
    gaps: Gaps,
    taken: HashSet<MessageId>,
    order: VecDeque<MessageId>,
    /// Nothing on loan is taken in until the next connection.
    disconnected: bool,
    /// No further message is taken in.
    stopped: bool,
    closed: bool,
}

impl State {
    fn remember(&mut self, id: MessageId) {
        if self.taken.insert(id.clone()) {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.taken.remove(&oldest);
        }
    }

    /// Gives up a message whose loan ran out, and what is behind it in its stream.
    fn give_up(&mut self, first: Message) {
        let Some(loan) = self.loans.remove(&first.message_id).flatten() else {
            return;
        };
        let mut given_up = vec![(first.message_id.clone(), loan.believed)];
        let loans = &mut self.loans;
        self.queue.retain(|message| {
            let Some(Some(other)) = loans.get(&message.message_id) else {
                return true;
            };
            let stays = other.stream != loan.stream;
            if !stays {
                given_up.push((message.message_id.clone(), other.believed));
                loans.remove(&message.message_id);
            }
            stays
        });
        self.gaps.given_up(loan.stream, given_up);
    }

    fn give_back(&mut self) {
        let loans = &mut self.loans;
        self.queue
            .retain(|message| loans.get(&message.message_id).is_some_and(Option::is_none));
        loans.retain(|_, until| until.is_none());
    }
}

/// The inbox of one client.
pub(crate) struct Inbox {
    state: Mutex<State>,
    capacity: usize,
    journal: Option<Arc<Journal>>,
    ready: Notify,
}

impl Inbox {
    pub(crate) fn new(capacity: usize, journal: Option<Arc<Journal>>) -> Self {
        Self {
            state: Mutex::default(),
            capacity: capacity.max(1),
            journal,
            ready: Notify::new(),
        }
    }

    /// Takes over from an earlier run: ids of messages that the program had, and those that it did not confirm, which it
    /// gets again first.
    pub(crate) fn restore(&self, known: impl IntoIterator<Item = MessageId>, unconfirmed: Vec<Message>) {
        let mut state = lock(&self.state);
        known.into_iter().for_each(|id| state.remember(id));
        for message in unconfirmed {
            state.remember(message.message_id.clone());
            // They are ours, whatever becomes of the connection.
            state.loans.insert(message.message_id.clone(), None);
            state.queue.push_back(message);
        }
    }

    /// Whether a message with this id came before. If it still waits, its loan is renewed.
    pub(crate) fn repeated(&self, id: &MessageId, loan: Option<&Loan>) -> Option<Offer> {
        let mut state = lock(&self.state);
        if state.taken.contains(id) {
            return Some(Offer::Taken);
        }
        *state.loans.get_mut(id)? = loan.cloned();
        Some(Offer::Waiting)
    }

    /// Whether a message can be kept. If not, it is dropped, and what follows it waits until it comes again.
    pub(crate) fn has_room(&self, id: &MessageId, loan: Option<&Loan>) -> bool {
        let mut state = lock(&self.state);
        self.make_room(&mut state, id, loan)
    }

    fn make_room(&self, state: &mut State, id: &MessageId, loan: Option<&Loan>) -> bool {
        if state.stopped || (state.disconnected && loan.is_some()) {
            return false;
        }
        let has_room = state.queue.len() < self.capacity;
        let Some(loan) = loan else { return has_room };
        if !has_room || state.gaps.are_before(id, loan, Instant::now()) {
            state.gaps.dropped(id, loan.clone());
            return false;
        }
        true
    }

    /// Takes no further message in, and gives up those on loan: the broker has them for the next session.
    pub(crate) fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        state.give_back();
    }

    /// The connection is lost, and with it every loan: the broker delivers those messages again, in order. What is still
    /// being opened must not overtake them.
    pub(crate) fn disconnected(&self) {
        let mut state = lock(&self.state);
        state.disconnected = true;
        state.give_back();
    }

    /// What comes from now on came over the new connection, and whatever was dropped comes again, in order.
    pub(crate) fn connected(&self) {
        let mut state = lock(&self.state);
        state.disconnected = false;
        state.gaps.clear();
    }

    /// Notes a message that is handled without the inbox.
    pub(crate) fn note(&self, id: &MessageId) {
        lock(&self.state).remember(id.clone());
    }

    /// Puts a message at the end.
    pub(crate) fn offer(&self, message: Message, loan: Option<Loan>) -> Offer {
        if let Some(repeated) = self.repeated(&message.message_id, loan.as_ref()) {
            return repeated;
        }
        let mut state = lock(&self.state);
        if !self.make_room(&mut state, &message.message_id, loan.as_ref()) {
            return Offer::Dropped;
        }
        if let Some(loan) = &loan {
            state.gaps.arrived(&message.message_id, loan);
        }
        state.loans.insert(message.message_id.clone(), loan);
        state.queue.push_back(message);
        drop(state);
        self.ready.notify_one();
        Offer::Stored
    }

    /// Takes the oldest message whose loan has not run out. `acknowledge` is called before anybody else can look: whoever
    /// has a message and closes the client must find its acknowledgement on the way.
    pub(crate) fn pop(&self, acknowledge: impl FnOnce(&MessageId)) -> Option<Message> {
        match self.look(acknowledge) {
            Popped::Message(message) => Some(*message),
            Popped::Nothing | Popped::Blocked => None,
        }
    }

    fn look(&self, acknowledge: impl FnOnce(&MessageId)) -> Popped {
        let mut state = lock(&self.state);
        let message = loop {
            let Some(message) = state.queue.pop_front() else {
                return Popped::Nothing;
            };
            let loan = state.loans.get(&message.message_id).and_then(Option::as_ref);
            if loan.is_none_or(|loan| loan.until > Instant::now()) {
                break message;
            }
            state.give_up(message);
        };
        if !message.redelivered() && !self.may_take(&message) {
            state.queue.push_front(message);
            return Popped::Blocked;
        }
        state.loans.remove(&message.message_id);
        state.remember(message.message_id.clone());
        // In a persistent client the journal does it, when the message is on disk.
        if self.journal.is_none() {
            acknowledge(&message.message_id);
        }
        let more = !state.queue.is_empty();
        drop(state);
        if more {
            self.ready.notify_one();
        }
        Popped::Message(Box::new(message))
    }

    /// Writes a message down before the program gets it. `false` if it must wait: the disk does not take it, or the program
    /// has too many that it did not confirm.
    fn may_take(&self, message: &Message) -> bool {
        let Some(journal) = &self.journal else { return true };
        if journal.unconfirmed() >= self.capacity {
            tracing::debug!("the program has as many messages as the inbox holds and did not confirm them");
            return false;
        }
        let taken = journal.taken(message.to_taken());
        if let Err(error) = &taken {
            tracing::warn!(%error, "a message waits until it can be written down");
        }
        taken.is_ok()
    }

    /// Notes a message that the program gets without the inbox. In a persistent client it is acknowledged when it is on
    /// disk, else `acknowledge` is called.
    pub(crate) fn take_past(&self, message: &Message, acknowledge: impl FnOnce(&MessageId)) -> Result<(), ClientError> {
        match &self.journal {
            Some(journal) => journal.taken(message.to_taken())?,
            None => acknowledge(&message.message_id),
        }
        self.note(&message.message_id);
        Ok(())
    }

    /// Waits for the oldest message; `None` when the client is closed and nothing is left.
    pub(crate) async fn next(&self, acknowledge: impl Fn(&MessageId)) -> Option<Message> {
        loop {
            let ready = self.ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            let blocked = match self.look(&acknowledge) {
                Popped::Message(message) => return Some(*message),
                Popped::Nothing => false,
                Popped::Blocked => true,
            };
            if lock(&self.state).closed {
                return None;
            }
            if blocked {
                let _ = tokio::time::timeout(DISK_RETRY, ready).await;
            } else {
                ready.await;
            }
        }
    }

    /// Lets whoever waits look again: the program confirmed a message.
    pub(crate) fn wake(&self) {
        self.ready.notify_one();
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
    use std::time::Duration;

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

    fn loan(seconds: u64) -> Option<Loan> {
        Some(Loan {
            stream: ("ana".to_owned(), Priority::Next),
            until: Instant::now() + Duration::from_secs(seconds),
            believed: Instant::now() + Duration::from_secs(60),
        })
    }

    fn later() -> Option<Loan> {
        loan(60)
    }

    fn over() -> Option<Loan> {
        loan(0)
    }

    fn of_another(stream: Option<Loan>) -> Option<Loan> {
        stream.map(|loan| Loan {
            stream: ("ben".to_owned(), Priority::Next),
            ..loan
        })
    }

    fn take(inbox: &Inbox) -> Option<String> {
        let mut acknowledged = None;
        let message = inbox.pop(|id| acknowledged = Some(id.0.clone()))?;
        assert_eq!(
            acknowledged.as_ref(),
            Some(&message.message_id.0),
            "who takes acknowledges"
        );
        acknowledged
    }

    #[test]
    fn a_message_is_taken_once() {
        let inbox = Inbox::new(2, None);
        assert_eq!(inbox.offer(message("a"), later()), Offer::Stored);
        assert_eq!(inbox.offer(message("a"), later()), Offer::Waiting);
        assert_eq!(take(&inbox).as_deref(), Some("a"));
        assert_eq!(inbox.offer(message("a"), later()), Offer::Taken);
        assert_eq!(take(&inbox), None);
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_broker() {
        let inbox = Inbox::new(1, None);
        assert_eq!(inbox.offer(message("a"), later()), Offer::Stored);
        assert!(!inbox.has_room(&"b".into(), later().as_ref()));
        assert_eq!(inbox.offer(message("b"), later()), Offer::Dropped);
        assert_eq!(take(&inbox).as_deref(), Some("a"));
        assert_eq!(
            inbox.offer(message("b"), later()),
            Offer::Stored,
            "it is not taken for a repetition"
        );
    }

    #[test]
    fn a_loan_that_ran_out_is_not_handed_out_and_may_come_again() {
        let inbox = Inbox::new(4, None);
        inbox.offer(message("a"), over());
        inbox.offer(message("b"), of_another(later()));
        assert_eq!(take(&inbox).as_deref(), Some("b"));
        assert_eq!(inbox.offer(message("a"), over()), Offer::Stored);
        assert_eq!(
            inbox.offer(message("a"), later()),
            Offer::Waiting,
            "the loan is renewed"
        );
        assert_eq!(take(&inbox).as_deref(), Some("a"));
    }

    #[test]
    fn what_follows_a_lost_loan_waits_for_it() {
        let inbox = Inbox::new(4, None);
        inbox.offer(message("a"), over());
        inbox.offer(message("b"), later());
        inbox.offer(message("c"), of_another(later()));
        assert_eq!(take(&inbox).as_deref(), Some("c"), "b is behind a and goes with it");
        assert_eq!(inbox.offer(message("d"), later()), Offer::Dropped);
        assert_eq!(inbox.offer(message("b"), later()), Offer::Dropped, "a comes first");
        assert_eq!(inbox.offer(message("a"), later()), Offer::Stored);
        assert_eq!(inbox.offer(message("d"), later()), Offer::Dropped, "b is missing");
        assert_eq!(inbox.offer(message("b"), later()), Offer::Stored);
        assert_eq!(inbox.offer(message("d"), later()), Offer::Stored);
        let order: Vec<_> = std::iter::from_fn(|| take(&inbox)).collect();
        assert_eq!(order, ["a", "b", "d"]);
    }

    #[test]
    fn what_did_not_fit_is_not_overtaken() {
        let inbox = Inbox::new(1, None);
        inbox.offer(message("a"), later());
        assert_eq!(inbox.offer(message("b"), later()), Offer::Dropped);
        assert_eq!(take(&inbox).as_deref(), Some("a"));
        assert_eq!(inbox.offer(message("c"), later()), Offer::Dropped);
        assert_eq!(inbox.offer(message("b"), later()), Offer::Stored);
    }

    #[test]
    fn what_the_broker_gave_to_somebody_else_holds_nobody_up() {
        let inbox = Inbox::new(1, None);
        inbox.offer(message("a"), of_another(later()));
        let lost = loan(0).map(|loan| Loan {
            believed: Instant::now(),
            ..loan
        });
        assert_eq!(inbox.offer(message("b"), lost), Offer::Dropped);
        take(&inbox);
        assert_eq!(inbox.offer(message("c"), later()), Offer::Stored);
    }

    #[test]
    fn a_lost_connection_ends_every_loan() {
        let inbox = Inbox::new(4, None);
        inbox.offer(message("a"), later());
        inbox.offer(message("kept"), None);
        inbox.disconnected();
        assert_eq!(
            take(&inbox).as_deref(),
            Some("kept"),
            "a broker without leases has given it for good"
        );
        assert_eq!(take(&inbox), None);
        assert_eq!(
            inbox.offer(message("b"), later()),
            Offer::Dropped,
            "it was still being opened"
        );
        inbox.connected();
        assert_eq!(inbox.offer(message("a"), later()), Offer::Stored);
    }

    #[test]
    fn a_stopped_inbox_takes_nothing_in() {
        let inbox = Inbox::new(4, None);
        inbox.offer(message("a"), later());
        inbox.stop();
        assert_eq!(inbox.offer(message("b"), later()), Offer::Dropped);
        assert_eq!(take(&inbox), None);
    }

    #[tokio::test]
    async fn waiting_ends_when_the_client_is_closed() {
        let inbox = Inbox::new(4, None);
        inbox.offer(message("a"), later());
        inbox.close();
        assert!(inbox.next(|_| {}).await.is_some());
        assert!(inbox.next(|_| {}).await.is_none());
    }
}
