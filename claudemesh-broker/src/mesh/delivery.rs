//! The delivery core: which message goes to which session, when, and what became of it.
//!
//! The store holds every message that is not over; this holds, for members with live sessions, a bounded window of
//! them. Events go in through methods, what has to be done comes out as [`Output`]s.
//!
//! * A message goes to one session of its recipient: the one that holds unacknowledged messages of the same sender and
//!   class, else the live one that the sender prefers, else (for a group) one that is in the group, else an idle one,
//!   else the most recently connected. Hidden sessions get no group and broadcast messages, observers get nothing.
//! * The busy gate: `now` goes through always, `next` to idle sessions, `low` waits to be pulled (and goes to idle
//!   sessions of protocol 1, which cannot pull).
//! * A session that acknowledges has a message under a lease. When the lease lapses or the session closes, the message
//!   goes back to its place and is delivered again, and so are its sender's later ones. A session that does not
//!   acknowledge counts as having what was pushed.
//! * From one sender to one recipient, within a class, messages are delivered in the order of acceptance. A message
//!   that has to wait holds up its sender's later ones of the class, and nobody else's.

use super::queue::MemberQueue;
use super::{Deadlines, Mesh, Message, Now, SessionView};
use claudemesh_proto::model::{DeliveryStage, MemberId, MessageId, PresenceId, Priority};
use claudemesh_proto::ops::Waiting;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Bounds of memory and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a session has to acknowledge a message. Repeated deliveries get up to eight times as long.
    pub lease_ms: i64,
    /// Most waiting messages in memory, per member and class; also the most that a pull returns.
    pub window: usize,
    /// About how many bytes of waiting messages, per member and class.
    pub window_bytes: usize,
    /// Most messages that a session may have without acknowledging them.
    pub in_flight: usize,
    /// About how many bytes of such messages.
    pub in_flight_bytes: usize,
    /// How long to wait after a failed read of the store.
    pub retry_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease_ms: 30_000,
            window: claudemesh_proto::limits::MAX_BATCH,
            window_bytes: 8 << 20,
            in_flight: 256,
            in_flight_bytes: 8 << 20,
            retry_ms: 1_000,
        }
    }
}

/// Asks the store for messages of one member and class that are not over, in the order of acceptance. Answer with
/// [`Delivery::loaded`] or [`Delivery::load_failed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadRequest {
    /// The member.
    pub member: MemberId,
    /// The class.
    pub priority: Priority,
    /// Only messages accepted after this one.
    pub after_seq: i64,
    /// How many at most. Fewer are fine, if `more` says so.
    pub limit: usize,
    /// Ties the answer to the request.
    pub(super) ticket: u64,
}

/// Something that has to be done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Write the message to a session.
    Push {
        /// The session.
        presence: PresenceId,
        /// The message.
        message: Arc<Message>,
        /// Which delivery this is, from 1: see [`Message::push_frame`].
        attempt: u32,
    },
    /// Record that the member has the message: its session does not acknowledge.
    MarkDelivered {
        /// The member.
        member: MemberId,
        /// The session that it was pushed to.
        presence: PresenceId,
        /// The message.
        message: Arc<Message>,
    },
    /// Record that the message will not be delivered to the member.
    Ended {
        /// The member.
        member: MemberId,
        /// The message.
        message: Arc<Message>,
        /// `expired`, `refused` or `revoked`.
        stage: DeliveryStage,
        /// Why, for people.
        reason: &'static str,
    },
    /// Read from the store.
    Load(LoadRequest),
}

/// What came of a pull.
#[derive(Clone, Debug)]
pub enum Pulled {
    /// The messages, the oldest first, each with the number of its delivery attempt.
    Ready(Vec<(Arc<Message>, u32)>),
    /// Memory does not have enough: read these, hand in the results, and pull again.
    NeedLoad(Vec<LoadRequest>),
}

/// Decides at delivery whether a recipient still takes a message.
pub trait Grants {
    /// Whether `recipient` takes it.
    fn may_deliver(&self, recipient: &MemberId, message: &Message) -> bool;
}

impl<F: Fn(&MemberId, &Message) -> bool> Grants for F {
    fn may_deliver(&self, recipient: &MemberId, message: &Message) -> bool {
        self(recipient, message)
    }
}

impl Grants for Mesh {
    /// Whether the recipient lets the sending member do it. Messages of the mesh itself have no sending member.
    fn may_deliver(&self, recipient: &MemberId, message: &Message) -> bool {
        let Some(recipient) = self.member(recipient) else {
            return false;
        };
        message
            .sender_member
            .as_ref()
            .is_none_or(|sender| recipient.grants(sender, message.needed_capability()))
    }
}

/// What a queue needs to act.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) limits: &'a Limits,
    pub(super) grants: &'a dyn Grants,
    pub(super) out: &'a mut Vec<Output>,
    pub(super) tickets: &'a mut u64,
    /// When [`Delivery::tick`] has to be called, at the latest.
    pub(super) wake: &'a mut Deadlines,
}

/// Delivery in one mesh.
#[derive(Debug, Default)]
pub struct Delivery {
    limits: Limits,
    queues: BTreeMap<MemberId, MemberQueue>,
    /// Where each live session is: looked up, never walked.
    sessions: HashMap<PresenceId, (MemberId, u64)>,
    out: Vec<Output>,
    tickets: u64,
    wake: Deadlines,
}

impl Delivery {
    /// No sessions, no messages.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What has to be done, in order.
    pub fn drain_outputs(&mut self) -> std::vec::Drain<'_, Output> {
        self.out.drain(..)
    }

    /// When [`Delivery::tick`] has to be called next, at the latest. Look at it after every event.
    #[must_use]
    pub fn next_deadline(&self) -> Deadlines {
        self.wake
    }

    /// A message for `member` is on disk. Call it for each recipient, in the order of `seq`, after the commit.
    pub fn accepted(&mut self, now: Now, member: &MemberId, message: Arc<Message>, grants: &dyn Grants) {
        self.with(now, member, grants, |queue, context| queue.accepted(message, context));
    }

    /// The sender repeats a message that is on disk and that `member` does not have. If an earlier try looked failed, nobody
    /// was told of it: then it is read before what the sender sends next. Call it where [`Self::accepted`] would be called.
    pub fn repeated(&mut self, now: Now, member: &MemberId, message: (&MessageId, Priority, i64), grants: &dyn Grants) {
        self.with(now, member, grants, |queue, context| queue.repeated(message, context));
    }

    /// A message for `member` is on disk, and the member was removed in between: it ends as `revoked`.
    pub fn removed_meanwhile(&mut self, member: &MemberId, message: Arc<Message>) {
        self.out.push(Output::Ended {
            member: member.clone(),
            message,
            stage: DeliveryStage::Revoked,
            reason: super::queue::REVOKED,
        });
    }

    /// The store has answered. `messages` are in the order of `seq`; `more`: there are others after them.
    pub fn loaded(
        &mut self,
        now: Now,
        request: &LoadRequest,
        messages: Vec<Arc<Message>>,
        more: bool,
        grants: &dyn Grants,
    ) {
        self.with(now, &request.member, grants, |queue, context| {
            queue.loaded(request, messages, more, context)
        });
    }

    /// The store could not answer; it is asked again after a pause.
    pub fn load_failed(&mut self, now: Now, request: &LoadRequest) {
        let retry_at_ms = now.lasting_ms().saturating_add(self.limits.retry_ms);
        self.with(now, &request.member, &refuse_all, |queue, context| {
            queue.load_failed(request, retry_at_ms, context);
        });
    }

    /// The store may hold messages that nobody was told of: everything that waits is read again. What is in memory stays
    /// there, leases too; what was not known comes late.
    pub fn read_again(&mut self, now: Now, grants: &dyn Grants) {
        let members: Vec<_> = self.queues.keys().cloned().collect();
        for member in members {
            self.with(now, &member, grants, |queue, context| queue.read_again(context));
        }
    }

    /// A session is ready to get messages.
    pub fn session_opened(&mut self, now: Now, view: SessionView, grants: &dyn Grants) {
        let member = view.member.clone();
        self.sessions
            .insert(view.presence.clone(), (member.clone(), view.ordinal));
        self.queues
            .entry(member.clone())
            .or_insert_with(|| MemberQueue::new(member.clone()));
        self.with(now, &member, grants, |queue, context| {
            queue.session_opened(view, context)
        });
    }

    /// Status, groups or visibility of a session may have changed.
    pub fn session_changed(&mut self, now: Now, view: SessionView, grants: &dyn Grants) {
        let member = view.member.clone();
        self.with(now, &member, grants, |queue, context| {
            queue.session_changed(view, context)
        });
    }

    /// A session is gone: what it had goes to another one or waits.
    pub fn session_closed(&mut self, now: Now, presence: &PresenceId, grants: &dyn Grants) {
        let Some((member, ordinal)) = self.sessions.remove(presence) else {
            return;
        };
        self.with(now, &member, grants, |queue, context| {
            queue.session_closed(ordinal, context)
        });
        if self.queues.get(&member).is_some_and(MemberQueue::is_idle) {
            self.queues.remove(&member);
        }
    }

    /// A session has acknowledged messages, whatever the stage; any session of the member may, and it may be gone by now.
    /// Call it once the store has the stages, with all at once: what one of them lets through must not be another.
    /// Returns how many were still to be delivered.
    pub fn acked<'a>(
        &mut self,
        now: Now,
        member: &MemberId,
        presence: &PresenceId,
        messages: impl IntoIterator<Item = &'a MessageId>,
        grants: &dyn Grants,
    ) -> usize {
        let ordinal = self.sessions.get(presence).map(|(_, ordinal)| *ordinal);
        let acked = self.with(now, member, grants, |queue, context| {
            queue.acked(ordinal, messages, context)
        });
        acked.unwrap_or(0)
    }

    /// A session asks for waiting messages of these classes (all if empty), whatever its status. Without `peek` it has
    /// them under lease, or for good if it does not acknowledge: then record each as delivered.
    pub fn pull(
        &mut self,
        now: Now,
        presence: &PresenceId,
        priorities: &[Priority],
        limit: usize,
        peek: bool,
        grants: &dyn Grants,
    ) -> Pulled {
        let nothing = Pulled::Ready(Vec::new());
        let Some((member, ordinal)) = self.sessions.get(presence).cloned() else {
            return nothing;
        };
        self.with(now, &member, grants, |queue, context| {
            queue.pull(ordinal, priorities, limit, peek, context)
        })
        .unwrap_or(nothing)
    }

    /// Ends leases and messages whose time is over.
    pub fn tick(&mut self, now: Now, grants: &dyn Grants) {
        self.wake = Deadlines::default();
        let members: Vec<_> = self.queues.keys().cloned().collect();
        for member in members {
            self.with(now, &member, grants, |queue, context| queue.tick(context));
        }
        self.queues.retain(|_, queue| !queue.is_idle());
        for queue in self.queues.values() {
            self.wake.merge(queue.deadline(now));
        }
    }

    /// A member is out of the mesh: what is in memory for it ends as `revoked`. The store has to end the rest.
    pub fn member_removed(&mut self, now: Now, member: &MemberId) {
        if mutant!(KeepRemoved) {
            return;
        }
        self.with(now, member, &refuse_all, |queue, context| queue.revoke(context));
        self.queues.remove(member);
        self.sessions.retain(|_, (owner, _)| owner != member);
    }

    /// A message that waits for the member or is under lease, if it is in memory.
    #[must_use]
    pub fn message(&self, member: &MemberId, id: &MessageId) -> Option<&Arc<Message>> {
        self.queues.get(member)?.message(id)
    }

    /// How many messages the member's sessions have under lease.
    #[must_use]
    pub fn in_flight(&self, member: &MemberId) -> Waiting {
        let count = |class| self.queues.get(member).map_or(0, |queue| queue.in_flight(class) as u64);
        Waiting {
            now: count(Priority::Now),
            next: count(Priority::Next),
            low: count(Priority::Low),
        }
    }

    /// Checks what must always hold; for tests.
    ///
    /// # Panics
    /// If it does not hold.
    pub fn invariants(&self, now: Now) {
        for queue in self.queues.values() {
            queue.invariants();
            assert!(!queue.is_idle(), "a queue that is of no use is kept");
            let deadline = queue.deadline(now);
            assert!(self.wake.cover(deadline), "nobody wakes at {deadline:?}");
        }
    }

    fn with<T>(
        &mut self,
        now: Now,
        member: &MemberId,
        grants: &dyn Grants,
        act: impl FnOnce(&mut MemberQueue, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let queue = self.queues.get_mut(member)?;
        let mut context = Context {
            now,
            limits: &self.limits,
            grants,
            out: &mut self.out,
            tickets: &mut self.tickets,
            wake: &mut self.wake,
        };
        Some(act(queue, &mut context))
    }
}

/// For events that deliver nothing.
fn refuse_all(_: &MemberId, _: &Message) -> bool {
    false
}
