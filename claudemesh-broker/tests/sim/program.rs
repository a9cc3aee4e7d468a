//! A program with a client: its outbox, inbox and acknowledgements, by the rules of `claudemesh-client`.

use super::faults::Fault;
use super::mesh::Message;
use claudemesh_proto::model::{DeliveryStage, KeyHex, MessageId, Priority, TargetKind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Protocol 2: acknowledges and pulls.
    Current,
    /// Protocol 1: has what is written to it, cannot pull.
    Old,
    /// Comes to look, or to fetch what nobody else does.
    Observer,
}

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub id: MessageId,
    pub kind: TargetKind,
    pub to: usize,
    pub hint: Option<KeyHex>,
    pub priority: Priority,
    pub ttl_ms: i64,
}

/// A message that the broker has not acknowledged.
pub struct Outgoing {
    pub request: Request,
    pub sent: bool,
}

/// Something that came and is to be opened.
pub enum Job {
    Connected,
    Push(Arc<Message>, u32),
}

struct Waiting {
    message: Arc<Message>,
    loan: Loan,
}

/// Until when a message may be given out, and until when the broker may still believe that it is here.
#[derive(Clone, Copy, Debug)]
pub struct Loan {
    until_ms: i64,
    believed_ms: i64,
}

impl Loan {
    /// Of a message that comes now, under a lease of this length: the rest is for the way.
    pub fn new(now_ms: i64, lease_ms: i64) -> Self {
        Self {
            until_ms: now_ms + lease_ms * 4 / 5,
            believed_ms: now_ms + lease_ms * 5 / 4,
        }
    }
}

/// A message that was dropped, and until when the broker may believe that it is here.
struct Gap {
    id: MessageId,
    believed_ms: i64,
}

/// What became of a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    Stored,
    Waiting,
    Taken,
    Dropped,
}

/// One process. When it dies another one takes its place and knows nothing.
pub struct Program {
    pub serial: u64,
    pub member: usize,
    pub place: usize,
    pub kind: Kind,
    /// The connection that it uses or opens.
    pub connection: Option<u64>,
    /// `hello` was answered.
    pub open: bool,
    pub outbox: VecDeque<Outgoing>,
    pub paused_until_ms: i64,
    pub jobs: VecDeque<Job>,
    pub acks: VecDeque<(MessageId, DeliveryStage)>,
    pub acks_under_way: Vec<(MessageId, DeliveryStage)>,
    inbox: VecDeque<Waiting>,
    taken: BTreeSet<MessageId>,
    /// What was dropped, by stream and in order: what follows must not come first.
    gaps: BTreeMap<(String, Priority), Vec<Gap>>,
    disconnected: bool,
    capacity: usize,
    fault: Option<Fault>,
}

fn stream(message: &Message) -> (String, Priority) {
    (message.sender().to_owned(), message.priority)
}

impl Program {
    pub fn new(serial: u64, member: usize, place: usize, kind: Kind, capacity: usize, fault: Option<Fault>) -> Self {
        Self {
            serial,
            member,
            place,
            kind,
            connection: None,
            open: false,
            outbox: VecDeque::new(),
            paused_until_ms: i64::MIN,
            jobs: VecDeque::new(),
            acks: VecDeque::new(),
            acks_under_way: Vec::new(),
            inbox: VecDeque::new(),
            taken: BTreeSet::new(),
            gaps: BTreeMap::new(),
            disconnected: false,
            capacity,
            fault,
        }
    }

    /// The connection is lost: every loan is, and what was on its way goes again.
    pub fn lost_connection(&mut self) {
        self.connection = None;
        self.open = false;
        self.disconnected = true;
        self.inbox.clear();
        for ack in std::mem::take(&mut self.acks_under_way).into_iter().rev() {
            self.acks.push_front(ack);
        }
    }

    /// A new connection: what is not acknowledged is sent again, in order.
    pub fn opened(&mut self) {
        self.open = true;
        self.paused_until_ms = i64::MIN;
        self.outbox.iter_mut().for_each(|outgoing| outgoing.sent = false);
        self.jobs.push_back(Job::Connected);
    }

    /// What comes from now on came over the new connection, and everything that was dropped comes again, in order.
    pub fn connected(&mut self) {
        self.disconnected = false;
        self.gaps.clear();
    }

    pub fn offer(&mut self, message: &Arc<Message>, now_ms: i64, loan: Loan) -> Offer {
        if self.taken.contains(&message.id) {
            return Offer::Taken;
        }
        if let Some(waiting) = self.inbox.iter_mut().find(|waiting| waiting.message.id == message.id) {
            waiting.loan = loan;
            return Offer::Waiting;
        }
        if self.disconnected {
            return Offer::Dropped;
        }
        let gaps = self.gaps.entry(stream(message)).or_default();
        if gaps.iter().all(|gap| gap.believed_ms <= now_ms) {
            gaps.clear();
        }
        let place = gaps.iter().position(|gap| gap.id == message.id);
        // Something before it was dropped, and the broker has not sent that again yet.
        let before = &gaps[..place.unwrap_or(gaps.len())];
        let jumps = before.iter().any(|gap| gap.believed_ms > now_ms) && self.fault != Some(Fault::JumpGap);
        if !jumps && self.inbox.len() < self.capacity {
            place.map(|place| gaps.remove(place));
            let message = message.clone();
            self.inbox.push_back(Waiting { message, loan });
            return Offer::Stored;
        }
        match place {
            Some(place) => gaps[place].believed_ms = loan.believed_ms,
            None => gaps.push(Gap {
                id: message.id.clone(),
                believed_ms: loan.believed_ms,
            }),
        }
        Offer::Dropped
    }

    /// The oldest message whose loan has not run out, for the program. With one that has, those after it of the same stream
    /// go: they come again, in order.
    pub fn take(&mut self, now_ms: i64) -> Option<Arc<Message>> {
        while let Some(waiting) = self.inbox.pop_front() {
            if waiting.loan.until_ms > now_ms || self.fault == Some(Fault::IgnoreLoan) {
                self.remember(&waiting.message.id);
                return Some(waiting.message);
            }
            let lost = stream(&waiting.message);
            let mut gone = vec![waiting];
            if self.fault != Some(Fault::JumpGap) {
                let (after, kept): (VecDeque<_>, VecDeque<_>) = self
                    .inbox
                    .drain(..)
                    .partition(|waiting| stream(&waiting.message) == lost);
                self.inbox = kept;
                gone.extend(after);
            }
            // What was dropped on its way in comes after everything that was here.
            let dropped = gone.into_iter().map(|waiting| Gap {
                id: waiting.message.id.clone(),
                believed_ms: waiting.loan.believed_ms,
            });
            self.gaps.entry(lost).or_default().splice(0..0, dropped);
        }
        None
    }

    /// A message that was pulled. `true`: it is for the program now.
    pub fn pulled(&mut self, message: &Arc<Message>) -> Offer {
        if self.taken.contains(&message.id) {
            return Offer::Taken;
        }
        self.remember(&message.id);
        Offer::Stored
    }

    fn remember(&mut self, id: &MessageId) {
        if self.fault != Some(Fault::ForgetTaken) {
            self.taken.insert(id.clone());
        }
    }
}
