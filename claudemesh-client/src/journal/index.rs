//! What the records of a journal come to.

use super::log::Span;
use super::record::Record;
use claudemesh_crypto::SecretKey;
use claudemesh_proto::model::{ClientStage, MessageId, Priority};
use claudemesh_proto::ops::MessageAck;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// How many ids of messages that were taken are remembered.
///
/// The broker repeats a message until it has the acknowledgement on disk, and gives a session at most 256 of each of the
/// three classes before that: what can still come again is always among the last 768.
pub(crate) const REMEMBERED: usize = 8192;

/// Records that are of use until something ends them, in the order in which they came.
#[derive(Default)]
struct Live {
    spans: BTreeMap<u64, (String, Span)>,
    places: HashMap<String, u64>,
    next: u64,
}

impl Live {
    /// Adds a record, or puts it in the place of an earlier one with the same id.
    fn put(&mut self, id: &str, span: Span) {
        let place = *self.places.entry(id.to_owned()).or_insert_with(|| {
            self.next += 1;
            self.next
        });
        self.spans.insert(place, (id.to_owned(), span));
    }

    fn remove(&mut self, id: &str) -> bool {
        let place = self.places.remove(id);
        place.is_some_and(|place| self.spans.remove(&place).is_some())
    }

    fn spans(&self) -> impl Iterator<Item = Span> {
        self.spans.values().map(|(_, span)| *span)
    }

    fn moved(&mut self, to: &mut impl Iterator<Item = Span>) {
        for ((_, span), new) in self.spans.values_mut().zip(to) {
            *span = new;
        }
    }
}

/// The state that a journal's records lead to.
#[derive(Default)]
pub(super) struct Index {
    session: Option<SecretKey>,
    numbers: BTreeMap<(String, Priority), u64>,
    outgoing: Live,
    unconfirmed: Live,
    acks: BTreeMap<MessageId, Vec<MessageAck>>,
    known: HashSet<MessageId>,
    known_order: VecDeque<MessageId>,
}

impl Index {
    /// Takes a record in that is at `span`.
    pub(super) fn apply(&mut self, record: &Record, span: Span) {
        match record {
            Record::Session(key) => {
                self.session = Some(key.0.clone());
                self.numbers.clear();
            }
            Record::Queued(queued) => {
                self.outgoing
                    .put(queued.envelope.id.as_deref().unwrap_or_default(), span);
                let number = self.numbers.entry(queued.lane()).or_default();
                *number = queued.number.max(*number);
            }
            Record::Sent(id) => {
                self.outgoing.remove(id);
            }
            Record::Taken(taken) => {
                let id = &taken.received.message_id;
                self.remember(id);
                self.unconfirmed.put(id.as_str(), span);
                self.ack(MessageAck {
                    message_id: id.clone(),
                    stage: ClientStage::Delivered,
                    adapter: None,
                });
            }
            Record::Acked(ack) => self.ack(ack.clone()),
            Record::Settled(settled) => {
                for (id, stage) in settled {
                    if let Some(acks) = self.acks.get_mut(id) {
                        acks.retain(|ack| ack.stage > *stage);
                        if acks.is_empty() {
                            self.acks.remove(id);
                        }
                    }
                }
            }
            Record::Confirmed(id) => {
                self.unconfirmed.remove(id.as_str());
            }
            Record::Known(ids) => ids.iter().for_each(|id| self.remember(id)),
            Record::Numbers(numbers) => {
                for (lane, priority, number) in numbers {
                    self.numbers.insert((lane.clone(), *priority), *number);
                }
            }
        }
    }

    fn ack(&mut self, ack: MessageAck) {
        let acks = self.acks.entry(ack.message_id.clone()).or_default();
        if !acks.iter().any(|known| known.stage == ack.stage) {
            acks.push(ack);
        }
    }

    fn remember(&mut self, id: &MessageId) {
        if self.known.insert(id.clone()) {
            self.known_order.push_back(id.clone());
        }
        if self.known_order.len() > REMEMBERED
            && let Some(oldest) = self.known_order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Records that say the same as all that were taken in, except those at [`Index::live`], which follow them.
    pub(super) fn snapshot(&self) -> Vec<Record> {
        let mut records = Vec::new();
        records.extend(
            self.session
                .clone()
                .map(|key| Record::Session(super::record::SessionSecret(key))),
        );
        if !self.numbers.is_empty() {
            let numbers = self.numbers.iter();
            let numbers = numbers.map(|((lane, priority), number)| (lane.clone(), *priority, *number));
            records.push(Record::Numbers(numbers.collect()));
        }
        if !self.known_order.is_empty() {
            records.push(Record::Known(self.known_order.iter().cloned().collect()));
        }
        records
    }

    /// Records that follow those at [`Index::live`]: which acknowledgements the broker does not have.
    pub(super) fn after(&self) -> Vec<Record> {
        let unconfirmed = self.unconfirmed.places.keys().map(|id| MessageId(id.clone()));
        let is_due = |id: &MessageId| {
            let acks = self.acks.get(id).map(Vec::as_slice).unwrap_or_default();
            acks.iter().any(|ack| ack.stage == ClientStage::Delivered)
        };
        let settled: Vec<_> = unconfirmed
            .filter(|id| !is_due(id))
            .map(|id| (id, ClientStage::Delivered))
            .collect();
        let settled = (!settled.is_empty()).then_some(Record::Settled(settled));
        settled
            .into_iter()
            .chain(self.acks().map(|ack| Record::Acked(ack.clone())))
            .collect()
    }

    /// Where the records are that are of use as they are.
    pub(super) fn live(&self) -> Vec<Span> {
        self.outgoing.spans().chain(self.unconfirmed.spans()).collect()
    }

    /// The records at [`Index::live`] are now here.
    pub(super) fn moved(&mut self, to: Vec<Span>) {
        let mut to = to.into_iter();
        self.outgoing.moved(&mut to);
        self.unconfirmed.moved(&mut to);
    }

    /// Key of the session that sealed the outgoing messages.
    pub(super) fn session(&self) -> Option<&SecretKey> {
        self.session.as_ref()
    }

    /// The last number of each recipient or label.
    pub(super) fn numbers(&self) -> Vec<(String, Priority, u64)> {
        self.numbers
            .iter()
            .map(|((lane, priority), number)| (lane.clone(), *priority, *number))
            .collect()
    }

    /// Messages that the broker does not have, the oldest first.
    pub(super) fn outgoing(&self) -> Vec<Span> {
        self.outgoing.spans().collect()
    }

    /// Messages that the program has and did not confirm, the oldest first.
    pub(super) fn unconfirmed(&self) -> Vec<Span> {
        self.unconfirmed.spans().collect()
    }

    /// How many messages the program has and did not confirm.
    pub(super) fn unconfirmed_count(&self) -> usize {
        self.unconfirmed.places.len()
    }

    /// Whether the program has the message and did not confirm it.
    pub(super) fn is_unconfirmed(&self, id: &MessageId) -> bool {
        self.unconfirmed.places.contains_key(id.as_str())
    }

    /// Acknowledgements that the broker does not have.
    pub(super) fn acks(&self) -> impl Iterator<Item = &MessageAck> {
        self.acks.values().flatten()
    }

    /// Ids of messages that were given to the program, the oldest first.
    pub(super) fn known(&self) -> Vec<MessageId> {
        self.known_order.iter().cloned().collect()
    }

    /// Whether nothing is left to do.
    pub(super) fn is_empty(&self) -> bool {
        self.outgoing.places.is_empty() && self.unconfirmed.places.is_empty() && self.acks.is_empty()
    }
}
