//! Sequence numbers out and in, and which messages this session has seen.

use claudemesh_crypto::PublicKey;
use claudemesh_crypto::group::{Label, SequenceReport, SequenceTracker};
use std::collections::{HashMap, HashSet, VecDeque};

const MAX_SEEN: usize = 8192;
const MAX_PEERS: usize = 8192;

/// What a message is in its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Good.
    New {
        /// How many before it have not come to this session.
        missing: u64,
    },
    /// Good; messages that were sent after it came before it.
    Late,
    /// The same message again.
    Duplicate,
    /// Another message with a number that was used, or too old to tell.
    Replay,
}

/// Counters of this session.
#[derive(Default)]
pub(super) struct Lanes {
    sent: HashMap<(String, &'static str), u64>,
    tracker: SequenceTracker,
    seen: HashSet<(PublicKey, String)>,
    seen_order: VecDeque<(PublicKey, String)>,
    with_meta: HashSet<PublicKey>,
}

impl Lanes {
    /// The next number for a recipient or label, from 1.
    pub(super) fn next(&mut self, lane: &str, priority: &'static str) -> u64 {
        let next = self.sent.entry((lane.to_owned(), priority)).or_default();
        *next = next.saturating_add(1);
        *next
    }

    /// What [`Lanes::next`] would give.
    pub(super) fn peek(&self, lane: &str, priority: &'static str) -> u64 {
        self.sent
            .get(&(lane.to_owned(), priority))
            .copied()
            .unwrap_or(0)
            .saturating_add(1)
    }

    /// Goes on after this number.
    pub(super) fn resume(&mut self, lane: String, priority: &'static str, number: u64) {
        self.sent.insert((lane, priority), number);
    }

    /// Judges a message whose number is authenticated.
    pub(super) fn arrived(
        &mut self,
        session: &PublicKey,
        label: &Label,
        priority: &str,
        seq: u64,
        message_id: &str,
    ) -> Arrival {
        if self.seen(session, message_id) {
            return Arrival::Duplicate;
        }
        let report = self.tracker.observe(session, label, priority, seq, message_id);
        let arrival = match report {
            SequenceReport::Ok => Arrival::New { missing: 0 },
            SequenceReport::Gap { missing, .. } => Arrival::New { missing },
            SequenceReport::Late => Arrival::Late,
            SequenceReport::Replay => return Arrival::Replay,
        };
        self.note(session, message_id);
        arrival
    }

    /// Whether this session has opened the message before.
    pub(super) fn seen(&self, session: &PublicKey, message_id: &str) -> bool {
        self.seen.contains(&(*session, message_id.to_owned()))
    }

    /// Notes a message that has no number.
    pub(super) fn note(&mut self, session: &PublicKey, message_id: &str) {
        let key = (*session, message_id.to_owned());
        if self.seen.insert(key.clone()) {
            self.seen_order.push_back(key);
        }
        if self.seen_order.len() > MAX_SEEN
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
    }

    /// Notes that a session or member seals metadata beside its messages.
    pub(super) fn has_meta(&mut self, key: PublicKey) {
        if self.with_meta.len() < MAX_PEERS {
            self.with_meta.insert(key);
        }
    }

    /// Whether it has done so before.
    pub(super) fn had_meta(&self, key: &PublicKey) -> bool {
        self.with_meta.contains(key)
    }
}
