//! The messages of one recipient and one delivery class: those that wait, and those that a session has under lease.

use super::delivery::{Limits, LoadRequest};
use super::{Deadlines, Message, Now};
use claudemesh_proto::model::MessageId;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

/// A message that waits for a session.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) message: Arc<Message>,
    /// How often it has been pushed.
    pub(super) attempts: u32,
}

/// A message that a session has and has not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) message: Arc<Message>,
    /// Which push this is, from 1.
    pub(super) attempt: u32,
    /// Ordinal of the session.
    pub(super) session: u64,
    /// When it counts as lost, by the steady clock.
    pub(super) deadline_ms: i64,
}

/// What one sender has in flight. All of it is with one session: if a newer message went to another one, it could be
/// read first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) session: u64,
    count: usize,
}

/// A read of the store that is under way.
#[derive(Clone, Debug)]
struct Load {
    request: LoadRequest,
    /// A message was accepted since, which the read may or may not have seen.
    overtaken: bool,
    /// Messages that were acknowledged since and that memory does not know: the read may have seen them.
    over: HashSet<MessageId>,
}

/// One lane. Memory holds a bounded window of it; the store holds the rest, all of it after `cursor`.
#[derive(Debug)]
pub(super) struct Lane {
    waiting: BTreeMap<i64, Waiting>,
    waiting_bytes: usize,
    flights: BTreeMap<i64, Flight>,
    streams: HashMap<String, Stream>,
    /// Everything up to here is in memory or over.
    cursor: i64,
    /// Whether the store may hold messages after the cursor.
    more: bool,
    load: Option<Load>,
    /// By the steady clock.
    retry_at_ms: i64,
}

impl Lane {
    /// A lane of which only the store knows what is in it.
    pub(super) fn unread() -> Self {
        Self {
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            flights: BTreeMap::new(),
            streams: HashMap::new(),
            cursor: i64::MIN,
            more: true,
            load: None,
            retry_at_ms: i64::MIN,
        }
    }

    /// Whether a message that has just been accepted belongs into memory. If not, a later read brings it.
    pub(super) fn takes_in(&mut self, seq: i64, limits: &Limits) -> bool {
        if seq <= self.cursor {
            return true; // no later read would return it
        }
        if mutant!(TakeInAhead) {
            return true;
        }
        if !self.more && self.waiting.len() < limits.window && self.waiting_bytes < limits.window_bytes {
            return true;
        }
        self.more = true;
        if let Some(load) = &mut self.load {
            load.overtaken = true;
        }
        false
    }

    /// Whether no read would bring a message that is on disk and not in memory. If one would, it is made sure of.
    pub(super) fn has_missed(&mut self, seq: i64) -> bool {
        if seq <= self.cursor || !self.more {
            return true;
        }
        if let Some(load) = &mut self.load {
            load.overtaken = true;
        }
        false
    }

    /// Puts a message into memory. Unless the store is read up to here, [`Lane::pass`] has to be told too.
    pub(super) fn insert(&mut self, waiting: Waiting) {
        let seq = waiting.message.seq;
        self.waiting_bytes += waiting.message.size();
        let before = self.waiting.insert(seq, waiting);
        debug_assert!(before.is_none() && !self.flights.contains_key(&seq));
    }

    /// Notes that the message with this number is in memory or over.
    pub(super) fn pass(&mut self, seq: i64) {
        self.cursor = self.cursor.max(seq);
    }

    /// The first waiting message after `seq`.
    pub(super) fn next_after(&self, seq: i64) -> Option<&Waiting> {
        self.waiting
            .range((Bound::Excluded(seq), Bound::Unbounded))
            .next()
            .map(|(_, waiting)| waiting)
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.values()
    }

    pub(super) fn flights(&self) -> impl Iterator<Item = &Flight> {
        self.flights.values()
    }

    pub(super) fn flight_count(&self) -> usize {
        self.flights.len()
    }

    /// The session that has messages of this sender, if one has.
    pub(super) fn stream(&self, sender: &str) -> Option<Stream> {
        self.streams.get(sender).copied()
    }

    /// The message with this number, if it is in memory.
    pub(super) fn message(&self, seq: i64) -> Option<&Arc<Message>> {
        let waiting = self.waiting.get(&seq).map(|waiting| &waiting.message);
        waiting.or_else(|| self.flights.get(&seq).map(|flight| &flight.message))
    }

    pub(super) fn take_waiting(&mut self, seq: i64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&seq)?;
        self.waiting_bytes -= waiting.message.size();
        Some(waiting)
    }

    pub(super) fn launch(&mut self, flight: Flight) {
        let stream = self.streams.entry(flight.message.sender().to_owned());
        let stream = stream.or_insert(Stream {
            session: flight.session,
            count: 0,
        });
        debug_assert_eq!(stream.session, flight.session);
        stream.count += 1;
        self.flights.insert(flight.message.seq, flight);
    }

    pub(super) fn take_flight(&mut self, seq: i64) -> Option<Flight> {
        let flight = self.flights.remove(&seq)?;
        let sender = flight.message.sender();
        if let Some(stream) = self.streams.get_mut(sender) {
            stream.count -= 1;
            if stream.count == 0 {
                self.streams.remove(sender);
            }
        }
        Some(flight)
    }

    /// Puts what `session` has back in front, in order. Returns what was put back.
    pub(super) fn recall_session(&mut self, session: u64) -> Vec<Flight> {
        let flights = self.flights.iter().filter(|(_, flight)| flight.session == session);
        let seqs: Vec<_> = flights.map(|(&seq, _)| seq).collect();
        self.recall(seqs)
    }

    /// Puts each message whose lease is over back in front, and with it all later ones of the same sender that are in
    /// flight: they are sent again in order. Returns what was put back.
    pub(super) fn recall_lapsed(&mut self, now: Now) -> Vec<Flight> {
        let mut first_lapsed: HashMap<&str, i64> = HashMap::new();
        for (&seq, flight) in self
            .flights
            .iter()
            .filter(|(_, flight)| flight.deadline_ms <= now.lasting_ms())
        {
            first_lapsed.entry(flight.message.sender()).or_insert(seq);
        }
        if first_lapsed.is_empty() || mutant!(SkipLeases) {
            return Vec::new();
        }
        let recalled = self.flights.iter().filter(|(seq, flight)| {
            first_lapsed
                .get(flight.message.sender())
                .is_some_and(|first| *seq >= first)
        });
        let seqs: Vec<_> = recalled.map(|(&seq, _)| seq).collect();
        self.recall(seqs)
    }

    fn recall(&mut self, seqs: Vec<i64>) -> Vec<Flight> {
        let flights: Vec<_> = seqs.into_iter().filter_map(|seq| self.take_flight(seq)).collect();
        for flight in &flights {
            self.insert(Waiting {
                message: flight.message.clone(),
                attempts: flight.attempt,
            });
        }
        flights
    }

    /// The read that this lane needs before its next message can be delivered, unless it is under way.
    pub(super) fn wants_load(&self, now: Now, limits: &Limits) -> bool {
        self.more
            && self.load.is_none()
            && now.lasting_ms() >= self.retry_at_ms
            && self.waiting.len() <= limits.window / 2
            && self.waiting_bytes <= limits.window_bytes / 2
    }

    /// Whether memory has the oldest `count` waiting messages, or as many as it may hold.
    pub(super) fn has(&self, count: usize, limits: &Limits) -> bool {
        !self.more || self.waiting.len() >= count || self.waiting_bytes >= limits.window_bytes
    }

    /// The read under way, or a new one.
    pub(super) fn load(&mut self, new: impl FnOnce(i64) -> LoadRequest) -> LoadRequest {
        let cursor = self.cursor;
        self.load
            .get_or_insert_with(|| Load {
                request: new(cursor),
                overtaken: false,
                over: HashSet::new(),
            })
            .request
            .clone()
    }

    /// Reads the store from the beginning. A read that is under way has begun too late.
    pub(super) fn rewind(&mut self) {
        self.cursor = i64::MIN;
        self.more = true;
        self.load = None;
    }

    /// Notes that a message is over that memory does not know.
    pub(super) fn over_meanwhile(&mut self, id: &MessageId) {
        if let Some(load) = &mut self.load {
            load.over.insert(id.clone());
        }
    }

    /// Whether a message that is being read was over before the read has ended.
    pub(super) fn is_over_meanwhile(&self, id: &MessageId) -> bool {
        self.load.as_ref().is_some_and(|load| load.over.contains(id))
    }

    /// Ends the read with this ticket. `false`: it is not the one under way.
    pub(super) fn loaded(&mut self, ticket: u64, more: bool) -> bool {
        match self.load.take_if(|load| load.request.ticket == ticket) {
            Some(load) => {
                self.more = more || load.overtaken && !mutant!(ForgetOvertaken);
                self.retry_at_ms = i64::MIN;
                true
            }
            None => false,
        }
    }

    /// Ends the read with this ticket without a result; the next may start at `retry_at_ms`.
    pub(super) fn load_failed(&mut self, ticket: u64, retry_at_ms: i64) -> bool {
        let ended = self.load.take_if(|load| load.request.ticket == ticket).is_some();
        if ended {
            self.retry_at_ms = retry_at_ms;
        }
        ended
    }

    pub(super) fn is_loading(&self, ticket: u64) -> bool {
        self.load.as_ref().is_some_and(|load| load.request.ticket == ticket)
    }

    /// The next time at which something here ends: a lease, a message's time, a pause after a failed read.
    pub(super) fn deadline(&self, now: Now) -> Deadlines {
        let leases = self.flights.values().map(|flight| flight.deadline_ms);
        let pauses = self.more && self.load.is_none() && self.retry_at_ms > now.lasting_ms();
        let expiries = self.waiting.values().map(|waiting| waiting.message.expires_at_ms);
        Deadlines {
            wall_ms: expiries.min(),
            steady_ms: leases.chain(pauses.then_some(self.retry_at_ms)).min(),
        }
    }

    pub(super) fn invariants(&self) {
        assert_eq!(
            self.waiting_bytes,
            self.waiting
                .values()
                .map(|waiting| waiting.message.size())
                .sum::<usize>()
        );
        assert!(
            self.load.is_none() || self.more,
            "a lane that is complete is being read"
        );
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for (seq, flight) in &self.flights {
            assert!(!self.waiting.contains_key(seq), "{seq} waits and is in flight");
            let sender = flight.message.sender();
            assert_eq!(
                self.streams[sender].session, flight.session,
                "{sender} is in flight to two sessions"
            );
            *counts.entry(sender).or_default() += 1;
        }
        assert_eq!(counts.len(), self.streams.len());
        for (sender, count) in counts {
            assert_eq!(self.streams[sender].count, count);
        }
    }
}
