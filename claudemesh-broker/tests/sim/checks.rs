//! What must hold, whatever happens, and what the checks know to tell.

use super::mesh::{Message, Now};
use super::names::member_key;
use super::store::advances;
use claudemesh_proto::model::{Capability, DeliveryStage, KeyHex, MessageId, PeerStatus, Priority};
use std::collections::{BTreeMap, BTreeSet};

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// What is acknowledged or delivered is on disk.
    Durable,
    /// No accepted message is lost, and each of its deliveries comes to an end.
    Lost,
    /// Each delivery has one end, the right one.
    End,
    /// No program takes a message twice, and what is over is not delivered again.
    Once,
    /// From one sender to one recipient, in one class: in the order of acceptance.
    Order,
    /// Nobody gets what it does not take.
    Grants,
    /// Nobody is interrupted who does not want to be.
    Gate,
    /// Hidden sessions get nothing that is for everybody, observers nothing at all.
    Hidden,
    /// Whoever was removed gets nothing.
    Removed,
    /// Nothing is delivered after its time, and nothing ends before it.
    Expiry,
    /// What a session has under lease is given to nobody else, and its deliveries are counted.
    Lease,
    /// A session has no more under lease than it may.
    Window,
    /// The session that the sender prefers gets the message, else one in the group.
    Addressing,
    /// Receipts only advance.
    Receipts,
    /// An unconfirmed `working` ends after its time, not before; a hook does not end `dnd`.
    Status,
}

/// A check that failed.
#[derive(Clone, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    pub text: String,
}

/// Ends the run.
pub fn violated(invariant: Invariant, text: String) -> ! {
    std::panic::panic_any(Violation { invariant, text })
}

macro_rules! ensure {
    ($condition:expr, $invariant:ident, $($text:tt)+) => {
        if !$condition {
            violated(Invariant::$invariant, format!($($text)+));
        }
    };
}

/// A session as the checks know it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub member: usize,
    pub key: KeyHex,
    pub ordinal: u64,
    pub status: PeerStatus,
    /// When the status was last said, by the steady clock.
    pub said_ms: i64,
    pub visible: bool,
    pub in_group: bool,
    pub observer: bool,
    pub acks: bool,
    pub pulls: bool,
}

impl Seen {
    fn gets(&self, message: &Message) -> bool {
        !self.observer && (self.visible || !message.is_multicast())
    }
}

/// A message that a session has.
#[derive(Clone, Copy, Debug)]
struct Held {
    connection: u64,
    deadline_ms: i64,
}

type Stream = (usize, KeyHex, Priority);

/// What the checks know in one life of the broker.
#[derive(Default)]
struct Life {
    sessions: BTreeMap<u64, Seen>,
    held: BTreeMap<(Stream, i64), Held>,
    attempts: BTreeMap<(usize, i64), u32>,
    /// When each lease of a connection ends.
    leases: BTreeMap<(u64, MessageId), i64>,
    /// The broker knows that it is over.
    over: BTreeSet<(usize, i64)>,
}

/// Watches one run.
#[derive(Default)]
pub struct Checks {
    life: Life,
    lease_ms: i64,
    in_flight: usize,
    grants: BTreeMap<(usize, KeyHex), Vec<Capability>>,
    removed: BTreeSet<usize>,
    pushed_ever: BTreeSet<(usize, i64)>,
    newest: BTreeMap<Stream, i64>,
    /// Their commit looked failed: they may be late.
    pub unsure: BTreeSet<i64>,
    /// The wall clock was set: a message may have been over for a while.
    pub clock_was_set: bool,
    /// By program: what it took, and the newest of each stream.
    taken: BTreeSet<(u64, MessageId)>,
    newest_taken: BTreeMap<(u64, Stream), i64>,
    taken_by_member: BTreeSet<(usize, i64)>,
    receipts: BTreeMap<(u64, MessageId, usize), DeliveryStage>,
    pub deliveries: usize,
}

fn stream(member: usize, message: &Message) -> Stream {
    (member, KeyHex::from(message.sender()), message.priority)
}

impl Checks {
    pub fn new(lease_ms: i64, in_flight: usize) -> Self {
        Self {
            lease_ms,
            in_flight,
            ..Self::default()
        }
    }

    pub fn crashed(&mut self) {
        self.life = Life::default();
    }

    pub fn opened(&mut self, connection: u64, session: Seen) {
        self.life.sessions.insert(connection, session);
    }

    pub fn session(&mut self, connection: u64) -> Option<&mut Seen> {
        self.life.sessions.get_mut(&connection)
    }

    pub fn sessions(&mut self) -> impl Iterator<Item = (u64, &mut Seen)> {
        self.life
            .sessions
            .iter_mut()
            .map(|(connection, seen)| (*connection, seen))
    }

    pub fn closed(&mut self, connection: u64) {
        self.life.sessions.remove(&connection);
        self.life.held.retain(|_, held| held.connection != connection);
    }

    pub fn granted(&mut self, member: usize, key: &KeyHex, capabilities: Option<&Vec<Capability>>) {
        match capabilities {
            Some(given) => self.grants.insert((member, key.clone()), given.clone()),
            None => self.grants.remove(&(member, key.clone())),
        };
    }

    pub fn removed(&mut self, member: usize) {
        self.removed.insert(member);
        let sessions: Vec<_> = self
            .life
            .sessions
            .iter()
            .filter(|(_, seen)| seen.member == member)
            .collect();
        let sessions: Vec<_> = sessions.into_iter().map(|(connection, _)| *connection).collect();
        sessions.into_iter().for_each(|connection| self.closed(connection));
    }

    pub fn is_removed(&self, member: usize) -> bool {
        self.removed.contains(&member)
    }

    fn takes(&self, member: usize, own: &KeyHex, message: &Message) -> bool {
        let Some(sender) = &message.sender_member else {
            return true;
        };
        let needed = message.needed_capability();
        let given = self.grants.get(&(member, sender.clone()));
        sender == own || given.is_none_or(|given| given.contains(&needed))
    }

    /// Leases end by the steady clock; with one end those of the sender's later messages of the class.
    pub fn leases_end(&mut self, now: Now) {
        let mut lapsed: BTreeMap<Stream, i64> = BTreeMap::new();
        for ((stream, seq), held) in &self.life.held {
            if held.deadline_ms <= now.steady_ms {
                lapsed.entry(stream.clone()).or_insert(*seq);
            }
        }
        let is_over = |stream: &Stream, seq: i64| lapsed.get(stream).is_some_and(|first| seq >= *first);
        self.life.held.retain(|(stream, seq), _| !is_over(stream, *seq));
    }

    /// The core pushes a message.
    pub fn pushed(&mut self, now: Now, connection: u64, message: &Message, attempt: u32) {
        let Some(seen) = self.life.sessions.get(&connection).cloned() else {
            violated(
                Invariant::Removed,
                format!("{} is pushed to a session that is gone", message.id),
            );
        };
        let text = |what: &str| {
            format!(
                "{} ({}) is pushed to s{connection}, {what}",
                message.id,
                message.priority.as_str()
            )
        };
        ensure!(!seen.observer, Hidden, "{}", text("an observer"));
        ensure!(seen.gets(message), Hidden, "{}", text("which is hidden"));
        let idle = seen.status == PeerStatus::Idle;
        let open = match message.priority {
            Priority::Now => true,
            Priority::Next => idle,
            Priority::Low => idle && !seen.pulls,
        };
        ensure!(open, Gate, "{} {}", text("which is"), seen.status.as_str());
        self.addressed(connection, &seen, message);
        self.handed_over(now, connection, message, attempt);
    }

    fn addressed(&self, connection: u64, seen: &Seen, message: &Message) {
        let of_stream = stream(seen.member, message);
        let bound = self.life.held.iter().any(|((stream, _), _)| *stream == of_stream);
        if bound {
            return;
        }
        let own = || {
            self.life
                .sessions
                .iter()
                .filter(|(_, other)| other.member == seen.member && other.gets(message))
        };
        if let Some(hint) = &message.session_hint {
            let hinted: Vec<_> = own()
                .filter(|(_, other)| other.key == *hint)
                .map(|(id, _)| *id)
                .collect();
            ensure!(
                hinted.is_empty() || hinted.contains(&connection),
                Addressing,
                "{} is pushed to s{connection}, and s{hinted:?} is preferred",
                message.id
            );
            if !hinted.is_empty() {
                return;
            }
        }
        let in_group = own().any(|(_, other)| other.in_group);
        ensure!(
            message.group().is_none() || seen.in_group || !in_group,
            Addressing,
            "{} is for a group and is pushed to s{connection}, which is not in it",
            message.id
        );
    }

    /// A session gets a message, by push or by pull.
    pub fn handed_over(&mut self, now: Now, connection: u64, message: &Message, attempt: u32) {
        let seen = self.life.sessions[&connection].clone();
        let (member, id, seq) = (seen.member, &message.id, message.seq);
        ensure!(
            !self.is_removed(member),
            Removed,
            "{id} is given to a member that was removed"
        );
        ensure!(
            !message.is_expired(now.wall_ms),
            Expiry,
            "{id} is delivered after its time"
        );
        ensure!(
            self.takes(member, &member_key(member), message),
            Grants,
            "{id} is delivered to member {member}, who does not take it"
        );
        ensure!(
            !self.life.over.contains(&(member, seq)),
            Once,
            "{id} is delivered again to member {member} after it was over"
        );
        let of_stream = stream(member, message);
        if let Some(held) = self.life.held.get(&(of_stream.clone(), seq)) {
            violated(
                Invariant::Lease,
                format!(
                    "{id} is given to s{connection} while s{} has it for {} ms more",
                    held.connection,
                    held.deadline_ms - now.steady_ms
                ),
            );
        }
        let before = self.life.attempts.insert((member, seq), attempt).unwrap_or(0);
        ensure!(
            attempt == before + 1 || self.clock_was_set && attempt == 1,
            Lease,
            "delivery {attempt} of {id} comes after delivery {before}"
        );
        if self.pushed_ever.insert((member, seq)) && !self.unsure.contains(&seq) {
            let newest = self.newest.entry(of_stream.clone()).or_insert(0);
            ensure!(
                seq > *newest,
                Order,
                "{id} is delivered to member {member} after a later one"
            );
            *newest = seq;
        }
        if seen.acks {
            let deadline_ms = now.steady_ms + (self.lease_ms << (attempt - 1).min(3));
            self.life.leases.insert((connection, id.clone()), deadline_ms);
            self.life.held.insert(
                (of_stream, seq),
                Held {
                    connection,
                    deadline_ms,
                },
            );
            let has = self
                .life
                .held
                .values()
                .filter(|held| held.connection == connection)
                .count();
            ensure!(
                has <= self.in_flight,
                Window,
                "s{connection} has {has} messages under lease"
            );
        } else {
            self.life.over.insert((member, seq));
        }
        self.deliveries += 1;
    }

    /// The broker knows that a delivery is over.
    pub fn over(&mut self, member: usize, message: &Message) {
        self.life.held.remove(&(stream(member, message), message.seq));
        self.life.over.insert((member, message.seq));
    }

    /// The core ends a delivery without success.
    pub fn ended(&mut self, now: Now, member: usize, message: &Message, stage: DeliveryStage) {
        let id = &message.id;
        match stage {
            DeliveryStage::Expired => {
                ensure!(message.is_expired(now.wall_ms), Expiry, "{id} expires before its time");
            }
            DeliveryStage::Refused => {
                let takes = self.takes(member, &member_key(member), message);
                ensure!(!takes, Grants, "{id} is refused although member {member} takes it");
            }
            DeliveryStage::Revoked => {
                ensure!(
                    self.is_removed(member),
                    Removed,
                    "{id} is revoked although member {member} is there"
                );
            }
            other => violated(Invariant::End, format!("{id} ends as {}", other.as_str())),
        }
        self.over(member, message);
        // Should a crash undo this, the message comes late: it was passed over by right.
        self.pushed_ever.insert((member, message.seq));
    }

    /// A program takes a message that came over this connection.
    pub fn taken(&mut self, now: Now, program: u64, member: usize, connection: Option<u64>, message: &Message) {
        let id = &message.id;
        let lease = connection.and_then(|connection| self.life.leases.get(&(connection, id.clone())));
        ensure!(
            lease.is_none_or(|deadline_ms| now.steady_ms < *deadline_ms),
            Lease,
            "program {program} takes {id} after its lease"
        );
        ensure!(
            self.taken.insert((program, id.clone())),
            Once,
            "program {program} takes {id} twice"
        );
        if !self.unsure.contains(&message.seq) {
            let newest = self.newest_taken.entry((program, stream(member, message))).or_insert(0);
            ensure!(
                message.seq > *newest,
                Order,
                "program {program} takes {id} (number {}) after number {newest}",
                message.seq
            );
            *newest = message.seq;
        }
        self.taken_by_member.insert((member, message.seq));
    }

    /// A session that cannot acknowledge has what was written to it.
    pub fn written(&mut self, member: usize, message: &Message) {
        self.taken_by_member.insert((member, message.seq));
    }

    pub fn was_taken(&self, member: usize, seq: i64) -> bool {
        self.taken_by_member.contains(&(member, seq))
    }

    /// A program gets a receipt.
    pub fn receipt(&mut self, program: u64, id: &MessageId, recipient: usize, stage: DeliveryStage) {
        let before = self.receipts.insert((program, id.clone(), recipient), stage);
        if let Some(before) = before {
            ensure!(
                advances(before, stage),
                Receipts,
                "the receipt {} of {id} for member {recipient} comes after {}",
                stage.as_str(),
                before.as_str()
            );
        }
    }
}
