//! Delivery to one member: its lanes, its sessions, and which message goes to which of them.

use super::delivery::{Context, LoadRequest, Output, Pulled};
use super::lane::{Flight, Lane, Waiting};
use super::session::is_in_group;
use super::{Deadlines, Message, Now, SessionView};
use claudemesh_proto::model::{DeliveryStage, MemberId, MessageId, PeerStatus, Priority};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Why what waits for a removed member ends.
pub(super) const REVOKED: &str = "the recipient was removed from the mesh";
/// How long a message that is over is remembered, so that a read of the store that was made before the store knew
/// does not bring it back.
const SETTLE_MS: i64 = 60_000;
/// How many are remembered at most.
const MAX_SETTLING: usize = 4096;
/// A lease is doubled with each attempt, but no more often than this: a client that is stuck is not flooded.
const MAX_LEASE_DOUBLINGS: u32 = 3;

/// One live session, and what it has.
#[derive(Debug)]
struct Slot {
    view: SessionView,
    in_flight: usize,
    in_flight_bytes: usize,
    /// It let a lease lapse and has acknowledged nothing since: others are preferred.
    stuck: bool,
}

impl Slot {
    /// Whether messages of this class may be pushed to it now: the busy gate.
    fn takes(&self, priority: Priority) -> bool {
        let idle = self.view.status == PeerStatus::Idle || mutant!(IgnoreBusyGate);
        (!self.view.observer || mutant!(PushToObservers))
            && match priority {
                Priority::Now => true,
                Priority::Next => idle,
                Priority::Low => idle && !self.view.pulls,
            }
    }

    /// Whether this message is for sessions like this one at all, busy or not.
    fn is_for(&self, message: &Message) -> bool {
        (!self.view.observer || mutant!(PushToObservers))
            && (self.view.visible || !message.is_multicast() || mutant!(BroadcastToHidden))
    }

    fn has_room(&self, context: &Context<'_>) -> bool {
        let limits = context.limits;
        !self.view.acks
            || mutant!(NoWindow)
            || self.in_flight < limits.in_flight && self.in_flight_bytes < limits.in_flight_bytes
    }
}

/// What is remembered of a message that was pushed and is out of memory.
#[derive(Clone, Copy, Debug)]
struct Earlier {
    attempts: u32,
    expires_at_ms: i64,
}

/// Delivery to one member.
#[derive(Debug)]
pub(super) struct MemberQueue {
    member: MemberId,
    lanes: [Lane; 3],
    sessions: BTreeMap<u64, Slot>,
    /// Where each message in memory is.
    index: HashMap<MessageId, (Priority, i64)>,
    earlier: BTreeMap<i64, Earlier>,
    /// When they were over, by the steady clock.
    settling: VecDeque<(i64, i64)>,
    settled: HashSet<i64>,
}

impl MemberQueue {
    pub(super) fn new(member: MemberId) -> Self {
        Self {
            member,
            lanes: [Lane::unread(), Lane::unread(), Lane::unread()],
            sessions: BTreeMap::new(),
            index: HashMap::new(),
            earlier: BTreeMap::new(),
            settling: VecDeque::new(),
            settled: HashSet::new(),
        }
    }

    /// Whether there is nothing here that a new queue would not know.
    pub(super) fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.earlier.is_empty() && self.settling.is_empty()
    }

    pub(super) fn accepted(&mut self, message: Arc<Message>, context: &mut Context<'_>) {
        if self.sessions.is_empty() || self.is_known(&message) {
            return;
        }
        let priority = message.priority;
        if self.lane_mut(priority).takes_in(message.seq, context.limits) {
            self.lane_mut(priority).pass(message.seq);
            self.take_in(message, context);
        }
        self.pump_lane(priority, context);
    }

    pub(super) fn repeated(&mut self, (id, priority, seq): (&MessageId, Priority, i64), context: &mut Context<'_>) {
        let is_known = self.index.contains_key(id) || self.settled.contains(&seq);
        if self.sessions.is_empty() || is_known || !self.lane_mut(priority).has_missed(seq) {
            return;
        }
        self.lane_mut(priority).rewind();
        self.pump_lane(priority, context);
    }

    pub(super) fn loaded(
        &mut self,
        request: &LoadRequest,
        messages: Vec<Arc<Message>>,
        more: bool,
        context: &mut Context<'_>,
    ) {
        if !self.lane(request.priority).is_loading(request.ticket) {
            return; // the sessions that it was for are gone
        }
        let more = more && !messages.is_empty();
        for message in messages {
            debug_assert_eq!(message.priority, request.priority);
            self.lane_mut(request.priority).pass(message.seq);
            let is_over = self.lane(request.priority).is_over_meanwhile(&message.id) && !mutant!(ForgetOverMeanwhile);
            if !self.is_known(&message) && !is_over {
                self.take_in(message, context);
            }
        }
        self.lane_mut(request.priority).loaded(request.ticket, more);
        self.pump_lane(request.priority, context);
    }

    pub(super) fn load_failed(&mut self, request: &LoadRequest, retry_at_ms: i64, context: &mut Context<'_>) {
        if mutant!(NotReadAfterFailure) {
            return;
        }
        if self.lane_mut(request.priority).load_failed(request.ticket, retry_at_ms) {
            context.wake.steady(retry_at_ms);
        }
    }

    pub(super) fn session_opened(&mut self, view: SessionView, context: &mut Context<'_>) {
        let slot = Slot {
            view,
            in_flight: 0,
            in_flight_bytes: 0,
            stuck: false,
        };
        let before = self.sessions.insert(slot.view.ordinal, slot);
        debug_assert!(before.is_none(), "a session was opened twice");
        self.pump(context);
    }

    pub(super) fn session_changed(&mut self, view: SessionView, context: &mut Context<'_>) {
        if let Some(slot) = self.sessions.get_mut(&view.ordinal) {
            slot.view = view;
            self.pump(context);
        }
    }

    pub(super) fn session_closed(&mut self, ordinal: u64, context: &mut Context<'_>) {
        if self.sessions.remove(&ordinal).is_none() {
            return;
        }
        for lane in &mut self.lanes {
            for flight in lane.recall_session(ordinal) {
                context.wake.wall(flight.message.expires_at_ms);
                if mutant!(LoseOnClose) {
                    lane.take_waiting(flight.message.seq);
                    self.index.remove(&flight.message.id);
                }
            }
        }
        if self.sessions.is_empty() {
            self.forget_messages();
        } else {
            self.pump(context);
        }
    }

    /// Reads everything again; what is known stays where it is.
    pub(super) fn read_again(&mut self, context: &mut Context<'_>) {
        self.lanes.iter_mut().for_each(Lane::rewind);
        self.pump(context);
    }

    /// Takes messages off that the member has. Returns how many were still to be delivered.
    pub(super) fn acked<'a>(
        &mut self,
        ordinal: Option<u64>,
        ids: impl IntoIterator<Item = &'a MessageId>,
        context: &mut Context<'_>,
    ) -> usize {
        if let Some(slot) = ordinal.and_then(|ordinal| self.sessions.get_mut(&ordinal)) {
            slot.stuck = false;
        }
        let mut removed = [0; 3];
        let most = if mutant!(AckOnlyFirst) { 1 } else { usize::MAX };
        for id in ids.into_iter().take(most) {
            match self.remove(id, context) {
                Some(message) => removed[message.priority as usize] += 1,
                // It may be on its way here from the store, read before that knew.
                None => self.lanes.iter_mut().for_each(|lane| lane.over_meanwhile(id)),
            }
        }
        for class in Priority::ALL.into_iter().filter(|class| removed[*class as usize] > 0) {
            self.pump_lane(class, context);
        }
        removed.iter().sum()
    }

    pub(super) fn pull(
        &mut self,
        ordinal: u64,
        priorities: &[Priority],
        limit: usize,
        peek: bool,
        context: &mut Context<'_>,
    ) -> Pulled {
        let wanted: Vec<_> = Priority::ALL
            .into_iter()
            .filter(|class| priorities.is_empty() || priorities.contains(class))
            .collect();
        let limit = limit.min(context.limits.window);
        let missing: Vec<_> = wanted
            .iter()
            .filter(|&&class| !self.lane(class).has(limit, context.limits))
            .collect();
        if !missing.is_empty() {
            return Pulled::NeedLoad(missing.into_iter().map(|&class| self.load(class, context)).collect());
        }
        let mut candidates: Vec<_> = wanted
            .into_iter()
            .flat_map(|class| self.lane(class).waiting())
            .cloned()
            .collect();
        candidates.sort_by_key(|waiting| waiting.message.seq);
        let mut held: HashSet<(Priority, &str)> = HashSet::new();
        let mut pulled = Vec::new();
        for Waiting { message, attempts } in &candidates {
            if pulled.len() >= limit || self.end_if_over(message, context) {
                continue;
            }
            if peek {
                pulled.push((message.clone(), attempts + 1));
                continue;
            }
            let stream = (message.priority, message.sender());
            if held.contains(&stream) || !self.may_pull(ordinal, message) {
                held.insert(stream);
                continue;
            }
            if !self.sessions.get(&ordinal).is_some_and(|slot| slot.has_room(context)) {
                break;
            }
            if let Some(attempt) = self.hand_over(ordinal, message, context) {
                pulled.push((message.clone(), attempt));
            }
        }
        Pulled::Ready(pulled)
    }

    /// Ends what has run out of time.
    pub(super) fn tick(&mut self, context: &mut Context<'_>) {
        for class in Priority::ALL {
            for flight in self.lane_mut(class).recall_lapsed(context.now) {
                if let Some(slot) = self.sessions.get_mut(&flight.session) {
                    slot.release(&flight.message);
                    slot.stuck |= flight.deadline_ms <= context.now.lasting_ms();
                }
            }
            let expired = self
                .lane(class)
                .waiting()
                .filter(|waiting| waiting.message.is_expired(context.now.wall_ms));
            let expired: Vec<_> = expired.map(|waiting| waiting.message.clone()).collect();
            for message in expired {
                self.end(&message, DeliveryStage::Expired, "its time ran out", context);
            }
        }
        self.earlier
            .retain(|_, earlier| earlier.expires_at_ms > context.now.wall_ms);
        self.prune_settling(context.now);
        self.pump(context);
    }

    /// Ends everything that waits: the member was removed.
    pub(super) fn revoke(&mut self, context: &mut Context<'_>) {
        for class in Priority::ALL {
            let lane = self.lane(class);
            let waiting = lane.waiting().map(|waiting| waiting.message.clone());
            let mut messages: Vec<_> = waiting
                .chain(lane.flights().map(|flight| flight.message.clone()))
                .collect();
            messages.sort_by_key(|message| message.seq);
            for message in messages {
                self.end(&message, DeliveryStage::Revoked, REVOKED, context);
            }
        }
    }

    /// The message with this id, if it is in memory.
    pub(super) fn message(&self, id: &MessageId) -> Option<&Arc<Message>> {
        let (class, seq) = self.index.get(id)?;
        self.lane(*class).message(*seq)
    }

    /// How many messages sessions have under lease, by class.
    pub(super) fn in_flight(&self, priority: Priority) -> usize {
        self.lane(priority).flight_count()
    }

    /// Next time at which something ends.
    pub(super) fn deadline(&self, now: Now) -> Deadlines {
        let mut next = Deadlines::default();
        for lane in &self.lanes {
            next.merge(lane.deadline(now));
        }
        next
    }

    pub(super) fn invariants(&self) {
        let mut in_memory = 0;
        let mut by_session: HashMap<u64, (usize, usize)> = HashMap::new();
        for (class, lane) in Priority::ALL.into_iter().zip(&self.lanes) {
            lane.invariants();
            for message in lane
                .waiting()
                .map(|waiting| &waiting.message)
                .chain(lane.flights().map(|f| &f.message))
            {
                in_memory += 1;
                assert_eq!(self.index.get(&message.id), Some(&(class, message.seq)));
                assert!(
                    !self.settled.contains(&message.seq),
                    "a message that is over is in memory"
                );
            }
            for flight in lane.flights() {
                let counted = by_session.entry(flight.session).or_default();
                counted.0 += 1;
                counted.1 += flight.message.size();
            }
        }
        assert_eq!(in_memory, self.index.len());
        for (ordinal, slot) in &self.sessions {
            let counted = by_session.remove(ordinal).unwrap_or_default();
            assert_eq!((slot.in_flight, slot.in_flight_bytes), counted);
        }
        assert!(by_session.is_empty(), "messages in flight to a session that is gone");
        assert_eq!(self.settling.len(), self.settled.len());
        assert!(!self.sessions.is_empty() || self.index.is_empty());
    }

    fn lane(&self, priority: Priority) -> &Lane {
        &self.lanes[priority as usize]
    }

    fn lane_mut(&mut self, priority: Priority) -> &mut Lane {
        &mut self.lanes[priority as usize]
    }

    fn is_known(&self, message: &Message) -> bool {
        self.index.contains_key(&message.id) || self.settled.contains(&message.seq) && !mutant!(ForgetSettled)
    }

    fn take_in(&mut self, message: Arc<Message>, context: &mut Context<'_>) {
        context.wake.wall(message.expires_at_ms);
        self.index.insert(message.id.clone(), (message.priority, message.seq));
        let earlier = self.earlier.remove(&message.seq).filter(|_| !mutant!(ForgetAttempts));
        let attempts = earlier.map_or(0, |earlier| earlier.attempts);
        self.lane_mut(message.priority).insert(Waiting { message, attempts });
    }

    /// Delivers what can be delivered.
    fn pump(&mut self, context: &mut Context<'_>) {
        for class in Priority::ALL {
            self.pump_lane(class, context);
        }
    }

    fn pump_lane(&mut self, class: Priority, context: &mut Context<'_>) {
        if !self.sessions.values().any(|slot| slot.takes(class)) {
            return;
        }
        // A message that has to wait holds up its sender's later ones, and nobody else's.
        let mut held: HashSet<String> = HashSet::new();
        let mut at = i64::MIN;
        while let Some(waiting) = self.lane(class).next_after(at) {
            let message = waiting.message.clone();
            at = message.seq;
            if held.contains(message.sender()) && !mutant!(Overtake) {
                continue;
            }
            match self.choose(class, &message, context) {
                Some(_) if self.end_if_over(&message, context) => {}
                Some(ordinal) => {
                    if let Some(attempt) = self.hand_over(ordinal, &message, context)
                        && let Some(slot) = self.sessions.get(&ordinal)
                    {
                        let presence = slot.view.presence.clone();
                        context.out.push(Output::Push {
                            presence: presence.clone(),
                            message: message.clone(),
                            attempt,
                        });
                        if !slot.view.acks && !mutant!(ForgetMark) {
                            context.out.push(Output::MarkDelivered {
                                member: self.member.clone(),
                                presence,
                                message,
                            });
                        }
                    }
                }
                None if !self
                    .sessions
                    .values()
                    .any(|slot| slot.takes(class) && slot.has_room(context)) =>
                {
                    break;
                }
                None => {
                    held.insert(message.sender().to_owned());
                }
            }
        }
        if self.lane(class).wants_load(context.now, context.limits) {
            let request = self.load(class, context);
            context.out.push(Output::Load(request));
        }
    }

    /// The session that this message goes to now; `None` if it has to wait.
    fn choose(&self, class: Priority, message: &Message, context: &Context<'_>) -> Option<u64> {
        let ready = |slot: &Slot| slot.is_for(message) && slot.takes(class) && slot.has_room(context);
        if let Some(ordinal) = self.bound_to(class, message) {
            return self.sessions.get(&ordinal).filter(|slot| ready(slot)).map(|_| ordinal);
        }
        let in_group = |slot: &Slot| {
            message
                .group()
                .is_none_or(|group| is_in_group(slot.view.groups.iter(), group))
        };
        let group_matters = !mutant!(IgnoreGroups)
            && self
                .sessions
                .values()
                .any(|slot| slot.is_for(message) && in_group(slot));
        let candidates = self
            .sessions
            .values()
            .filter(|slot| ready(slot) && (!group_matters || in_group(slot)));
        let best = candidates.max_by_key(|slot| (!slot.stuck, slot.view.status == PeerStatus::Idle, slot.view.ordinal));
        best.map(|slot| slot.view.ordinal)
    }

    /// The session that has to get this message: the one that has earlier ones of the same sender, else the live one
    /// that the sender prefers.
    fn bound_to(&self, class: Priority, message: &Message) -> Option<u64> {
        if let Some(stream) = self.lane(class).stream(message.sender()) {
            return Some(stream.session);
        }
        let hint = message.session_hint.as_ref().filter(|_| !mutant!(IgnoreHint))?;
        let mut newest_first = self.sessions.iter().rev();
        let hinted = newest_first.find(|(_, slot)| slot.is_for(message) && slot.view.key.as_ref() == Some(hint));
        hinted.map(|(&ordinal, _)| ordinal)
    }

    fn may_pull(&self, ordinal: u64, message: &Message) -> bool {
        self.bound_to(message.priority, message)
            .is_none_or(|bound| bound == ordinal)
    }

    /// Ends a waiting message that must not be delivered any more. Returns whether it did.
    fn end_if_over(&mut self, message: &Arc<Message>, context: &mut Context<'_>) -> bool {
        if message.is_expired(context.now.wall_ms) && !mutant!(ForgetTtl) {
            self.end(message, DeliveryStage::Expired, "its time ran out", context);
        } else if !context.grants.may_deliver(&self.member, message) && !mutant!(ForgetGrants) {
            self.end(
                message,
                DeliveryStage::Refused,
                "the recipient does not take it from this sender",
                context,
            );
        } else {
            return false;
        }
        true
    }

    /// Gives a waiting message to a session: under lease if it acknowledges, for good if it does not.
    fn hand_over(&mut self, ordinal: u64, message: &Arc<Message>, context: &mut Context<'_>) -> Option<u32> {
        let acks = self.sessions.get(&ordinal)?.view.acks;
        if !acks {
            let attempts = self.lane_mut(message.priority).take_waiting(message.seq)?.attempts;
            self.index.remove(&message.id);
            self.settle(message.seq, context.now);
            return Some(attempts + 1);
        }
        let attempt = self.lane_mut(message.priority).take_waiting(message.seq)?.attempts + 1;
        let lease = context.limits.lease_ms << (attempt - 1).min(MAX_LEASE_DOUBLINGS);
        let deadline_ms = context.now.lasting_ms().saturating_add(lease);
        context.wake.steady(deadline_ms);
        let flight = Flight {
            message: message.clone(),
            attempt,
            session: ordinal,
            deadline_ms,
        };
        self.lane_mut(message.priority).launch(flight);
        let slot = self.sessions.get_mut(&ordinal)?;
        slot.in_flight += 1;
        slot.in_flight_bytes += message.size();
        Some(attempt)
    }

    fn end(&mut self, message: &Arc<Message>, stage: DeliveryStage, reason: &'static str, context: &mut Context<'_>) {
        self.remove(&message.id, context);
        let (member, message) = (self.member.clone(), message.clone());
        context.out.push(Output::Ended {
            member,
            message,
            stage,
            reason,
        });
    }

    /// Takes a message out of memory, wherever it is, and remembers that it is over.
    fn remove(&mut self, id: &MessageId, context: &Context<'_>) -> Option<Arc<Message>> {
        let (class, seq) = self.index.remove(id)?;
        self.settle(seq, context.now);
        if let Some(flight) = self.lane_mut(class).take_flight(seq) {
            if let Some(slot) = self.sessions.get_mut(&flight.session) {
                slot.release(&flight.message);
            }
            return Some(flight.message);
        }
        self.lane_mut(class).take_waiting(seq).map(|waiting| waiting.message)
    }

    fn load(&mut self, priority: Priority, context: &mut Context<'_>) -> LoadRequest {
        let member = self.member.clone();
        let limit = context.limits.window;
        let tickets = &mut *context.tickets;
        self.lane_mut(priority).load(|after_seq| {
            *tickets += 1;
            LoadRequest {
                member,
                priority,
                after_seq,
                limit,
                ticket: *tickets,
            }
        })
    }

    /// Leaves the messages to the store: nobody is here to get them.
    fn forget_messages(&mut self) {
        for lane in &mut self.lanes {
            for waiting in lane.waiting().filter(|waiting| waiting.attempts > 0) {
                let expires_at_ms = waiting.message.expires_at_ms;
                self.earlier.insert(
                    waiting.message.seq,
                    Earlier {
                        attempts: waiting.attempts,
                        expires_at_ms,
                    },
                );
            }
            *lane = Lane::unread();
        }
        self.index.clear();
    }

    fn settle(&mut self, seq: i64, now: Now) {
        self.prune_settling(now);
        if self.settled.insert(seq) {
            self.settling.push_back((now.lasting_ms(), seq));
        }
    }

    fn prune_settling(&mut self, now: Now) {
        while let Some(&(at_ms, seq)) = self.settling.front() {
            let age = now.lasting_ms().saturating_sub(at_ms);
            if age < SETTLE_MS && self.settling.len() < MAX_SETTLING {
                break;
            }
            self.settling.pop_front();
            self.settled.remove(&seq);
        }
    }
}

impl Slot {
    fn release(&mut self, message: &Message) {
        self.in_flight -= 1;
        self.in_flight_bytes -= message.size();
    }
}
