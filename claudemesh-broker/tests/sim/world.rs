//! The simulated world: virtual time, connections, what programs do by chance, and what goes wrong.

use super::broker::{Broker, Done, grant};
use super::checks::{Checks, Invariant, violated};
use super::faults::Fault;
use super::names::{member_key, session_key};
use super::program::{Kind, Offer, Program, Request};
use super::rng::Rng;
use super::store::{Outcome, Step, Store, Write};
use super::trace::Trace;
use claudemesh_broker::mesh::{Limits, LoadRequest, Message, PeerState, Settings};
use claudemesh_proto::model::{Capability, DeliveryStage, KeyHex, MessageId, PeerStatus, Priority, TargetKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub const LIMITS: Limits = Limits {
    lease_ms: 4_000,
    window: 6,
    window_bytes: 1 << 20,
    in_flight: 4,
    in_flight_bytes: 1 << 20,
    retry_ms: 300,
};
pub const SETTINGS: Settings = Settings {
    status_ttl_ms: 6_000,
    fresh_window_ms: 3_000,
};
const MEMBERS: usize = 4;
const STEPS: usize = 220;
/// Long enough for every clock that is set.
const LONG_MS: i64 = 30 * 86_400_000;
/// When the world begins, by the wall clock.
const EPOCH_MS: i64 = 1_760_000_000_000;
/// How long everything may take once nothing goes wrong any more.
const PATIENCE_MS: i64 = 400_000;

/// A frame to the broker.
pub enum Up {
    Hello(usize),
    Send(Request),
    Acks(Vec<(MessageId, DeliveryStage)>),
    Pull {
        priorities: Vec<Priority>,
        limit: usize,
        peek: bool,
    },
    Status(PeerStatus),
    Hook(PeerStatus),
    Visible(bool),
    Group(bool),
    Grants(Vec<(KeyHex, Option<Vec<Capability>>)>),
}

/// A frame to a client.
pub enum Down {
    Hello,
    Push(Arc<Message>, u32),
    /// `None`: try again.
    Sent(MessageId, Option<bool>),
    Acked(bool),
    Pulled(Vec<(Arc<Message>, u32)>),
    Receipt(MessageId, usize, DeliveryStage),
}

/// Something that happens later. Those of the broker name its life: they end with it.
pub enum Event {
    Up(u64, Up),
    Down(u64, Down),
    ClientNotices(u64),
    BrokerNotices(u64),
    Connect(usize),
    /// The client's receiving task opens what came.
    Open(usize, u64),
    Flush(usize),
    Start,
    Commit(u64),
    Complete(u64, Vec<(Write, Done, Option<Outcome>)>),
    Marks(u64, Vec<Step>),
    Found(u64),
    Read(u64, u64),
    Loaded(u64, Box<(LoadRequest, Vec<Arc<Message>>, bool)>),
    Tick(u64),
    Sweep(u64),
    Expire(u64),
}

/// A connection. Frames of one direction keep their order; what is under way when it is cut is lost.
pub struct Link {
    program: usize,
    cut: bool,
    last_up_ms: i64,
    last_down_ms: i64,
}

pub struct World {
    pub rng: Rng,
    pub steady_ms: i64,
    clock_set_by_ms: i64,
    queue: BTreeMap<(i64, u64), Event>,
    next_event: u64,
    pub members: usize,
    pub broker: Option<Broker>,
    /// Counts the lives of the broker.
    pub life: u64,
    pub store: Store,
    /// What members left with, as saved.
    pub left: BTreeMap<usize, PeerState>,
    pub programs: Vec<Program>,
    pub links: BTreeMap<u64, Link>,
    next_connection: u64,
    next_message: u64,
    next_serial: u64,
    pub checks: Checks,
    pub trace: Trace,
    pub acknowledged: BTreeSet<MessageId>,
    pub fault: Option<Fault>,
    /// Whether the core checks itself too.
    pub check_core: bool,
    /// Nothing goes wrong any more.
    pub calm: bool,
}

impl World {
    pub fn new(seed: u64, fault: Option<Fault>, check_core: bool, trace: bool) -> Self {
        let mut world = Self {
            rng: Rng::new(seed),
            steady_ms: 0,
            clock_set_by_ms: 0,
            queue: BTreeMap::new(),
            next_event: 0,
            members: MEMBERS,
            broker: None,
            life: 1,
            store: Store::new(MEMBERS, fault),
            left: BTreeMap::new(),
            programs: Vec::new(),
            links: BTreeMap::new(),
            next_connection: 1,
            next_message: 1,
            next_serial: 1,
            checks: Checks::new(LIMITS.lease_ms, LIMITS.in_flight),
            trace: Trace {
                on: trace,
                ..Trace::default()
            },
            acknowledged: BTreeSet::new(),
            fault,
            check_core,
            calm: false,
        };
        for member in 0..MEMBERS {
            for place in 0..3 {
                let kind = match place {
                    0 => Kind::Current,
                    _ => world
                        .rng
                        .pick(&[Kind::Current, Kind::Current, Kind::Old, Kind::Observer]),
                };
                let program = world.program(member, place, kind);
                world.programs.push(program);
            }
        }
        world.start_broker();
        world
    }

    fn program(&mut self, member: usize, place: usize, kind: Kind) -> Program {
        let capacity = self.rng.pick(&[2, 4, 64]);
        self.next_serial += 1;
        Program::new(self.next_serial, member, place, kind, capacity, self.fault)
    }

    pub fn wall_ms(&self) -> i64 {
        EPOCH_MS + self.steady_ms + self.clock_set_by_ms
    }

    pub fn trace(&mut self, text: impl FnOnce() -> String) {
        self.trace.line(self.steady_ms, text);
    }

    pub fn after(&mut self, ms: i64, event: Event) {
        self.next_event += 1;
        self.queue.insert((self.steady_ms + ms, self.next_event), event);
    }

    /// Runs to the end. Whatever does not hold panics with a `Violation`.
    pub fn run(&mut self) {
        for _ in 0..STEPS {
            self.act();
            let ms = match self.rng.below(100) {
                0..30 => 0,
                30..60 => self.rng.ms(1, 10),
                60..85 => self.rng.ms(10, 80),
                85..97 => self.rng.ms(100, 600),
                _ => self.rng.ms(1_000, 9_000),
            };
            self.pass(ms);
        }
        self.calm_down();
    }

    /// Lets time go by.
    fn pass(&mut self, ms: i64) {
        let until = self.steady_ms + ms;
        while let Some(entry) = self.queue.first_entry() {
            let at_ms = entry.key().0;
            if at_ms > until {
                break;
            }
            let event = entry.remove();
            self.steady_ms = at_ms;
            self.happen(event);
        }
        self.steady_ms = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Up(connection, frame) => {
                if self.links.get(&connection).is_some_and(|link| !link.cut) {
                    self.serve(connection, frame);
                }
            }
            Event::Down(connection, frame) => {
                if let Some(link) = self.links.get(&connection)
                    && !link.cut
                {
                    self.arrive(link.program, connection, frame);
                }
            }
            Event::ClientNotices(connection) => self.client_notices(connection),
            Event::BrokerNotices(connection) => self.disconnected(connection),
            Event::Connect(program) => self.connect_program(program),
            Event::Open(program, serial) => self.open_job(program, serial),
            Event::Flush(program) => self.flush(program),
            Event::Start => self.start_broker(),
            Event::Commit(life) if life == self.life => self.commit(),
            Event::Complete(life, finished) if life == self.life => {
                for (write, done, outcome) in finished {
                    self.complete(write, done, outcome);
                }
            }
            Event::Marks(life, steps) if life == self.life => self.mark(steps),
            Event::Found(life) if life == self.life => self.read_again(),
            Event::Read(life, id) if life == self.life => self.read(id),
            Event::Loaded(life, read) if life == self.life => {
                let (request, messages, more) = *read;
                self.loaded(&request, messages, more);
            }
            Event::Tick(life) if life == self.life => self.tick(),
            Event::Sweep(life) if life == self.life => self.sweep(),
            Event::Expire(life) if life == self.life => self.expire(),
            _ => {}
        }
    }

    // ---- connections

    fn delay(&mut self) -> i64 {
        match self.rng.below(20) {
            0 if !self.calm => self.rng.ms(60, 300),
            _ => self.rng.ms(0, 25),
        }
    }

    fn up(&mut self, connection: u64, frame: Up) {
        let at_ms = self.steady_ms + self.delay();
        let Some(link) = self.links.get_mut(&connection) else {
            return;
        };
        link.last_up_ms = link.last_up_ms.max(at_ms);
        let ms = link.last_up_ms - self.steady_ms;
        self.after(ms, Event::Up(connection, frame));
    }

    pub fn down(&mut self, connection: u64, frame: Down) {
        let at_ms = self.steady_ms + self.delay();
        let Some(link) = self.links.get_mut(&connection) else {
            return;
        };
        link.last_down_ms = link.last_down_ms.max(at_ms);
        let ms = link.last_down_ms - self.steady_ms;
        self.after(ms, Event::Down(connection, frame));
    }

    /// Nothing comes through any more; both ends notice, each in its time.
    pub fn cut(&mut self, connection: u64) {
        let (client, broker) = (self.rng.ms(0, 400), self.rng.ms(0, 400));
        let Some(link) = self.links.get_mut(&connection) else {
            return;
        };
        if std::mem::replace(&mut link.cut, true) {
            return;
        }
        self.trace(|| format!("s{connection} is cut"));
        self.after(client, Event::ClientNotices(connection));
        self.after(broker, Event::BrokerNotices(connection));
    }

    fn client_notices(&mut self, connection: u64) {
        let Some(link) = self.links.remove(&connection) else {
            return;
        };
        let program = &mut self.programs[link.program];
        if program.connection != Some(connection) {
            return;
        }
        program.lost_connection();
        let pause = self.rng.ms(1, 800);
        if self.calm || self.rng.chance(70) {
            self.after(pause, Event::Connect(link.program));
        }
    }

    fn connect_program(&mut self, program: usize) {
        let Program { member, connection, .. } = self.programs[program];
        if connection.is_some() || self.checks.is_removed(member) {
            return;
        }
        if self.broker.is_none() {
            return self.after(100, Event::Connect(program));
        }
        let connection = self.next_connection;
        self.next_connection += 1;
        let link = Link {
            program,
            cut: false,
            last_up_ms: 0,
            last_down_ms: 0,
        };
        self.links.insert(connection, link);
        self.programs[program].connection = Some(connection);
        self.up(connection, Up::Hello(program));
    }

    // ---- clients

    fn arrive(&mut self, program: usize, connection: u64, frame: Down) {
        let state = &mut self.programs[program];
        if state.connection != Some(connection) {
            return;
        }
        match frame {
            Down::Hello => {
                state.opened();
                self.open_later(program);
                self.flush(program);
            }
            Down::Push(message, attempt) => {
                if state.kind == Kind::Old {
                    return;
                }
                state.jobs.push_back(super::program::Job::Push(message, attempt));
                self.open_later(program);
            }
            Down::Sent(id, Some(_)) => state.outbox.retain(|outgoing| outgoing.request.id != id),
            Down::Sent(id, None) => {
                for outgoing in state.outbox.iter_mut().filter(|outgoing| outgoing.request.id == id) {
                    outgoing.sent = false;
                }
                state.paused_until_ms = self.steady_ms + 250;
                self.after(250, Event::Flush(program));
            }
            Down::Acked(done) => {
                let acks = std::mem::take(&mut state.acks_under_way);
                if done {
                    return self.flush(program);
                }
                for ack in acks.into_iter().rev() {
                    state.acks.push_front(ack);
                }
                self.after(500, Event::Flush(program));
            }
            Down::Pulled(messages) => {
                for (message, _) in messages {
                    if self.programs[program].pulled(&message) == Offer::Stored {
                        self.took(program, &message);
                    } else {
                        self.acknowledge_taken(program, &message.id);
                    }
                }
            }
            Down::Receipt(id, recipient, stage) => {
                let serial = state.serial;
                self.checks.receipt(serial, &id, recipient, stage);
            }
        }
    }

    fn open_later(&mut self, program: usize) {
        let pause = self.rng.ms(0, 15);
        let serial = self.programs[program].serial;
        self.after(pause, Event::Open(program, serial));
    }

    /// One after the other, in the order in which they came.
    fn open_job(&mut self, program: usize, serial: u64) {
        let steady_ms = self.steady_ms;
        let state = &mut self.programs[program];
        if state.serial != serial {
            return;
        }
        match state.jobs.pop_front() {
            Some(super::program::Job::Connected) => state.connected(),
            Some(super::program::Job::Push(message, attempt)) => {
                let lease_ms = LIMITS.lease_ms << (attempt - 1).min(3);
                let offer = state.offer(&message, steady_ms, super::program::Loan::new(steady_ms, lease_ms));
                let serial = state.serial;
                self.trace(|| format!("program {serial} gets {}: {offer:?}", message.id));
                if offer == Offer::Taken {
                    self.acknowledge_taken(program, &message.id);
                }
            }
            None => {}
        }
    }

    fn acknowledge_taken(&mut self, program: usize, id: &MessageId) {
        self.programs[program]
            .acks
            .push_back((id.clone(), DeliveryStage::Delivered));
        self.flush(program);
    }

    /// The program has a message now.
    fn took(&mut self, program: usize, message: &Arc<Message>) {
        let (surfaced, read) = (self.rng.chance(30), self.rng.chance(30));
        let state = &mut self.programs[program];
        let serial = state.serial;
        self.trace
            .line(self.steady_ms, || format!("program {serial} takes {}", message.id));
        self.checks.taken(serial, state.member, message);
        state.acks.push_back((message.id.clone(), DeliveryStage::Delivered));
        if surfaced {
            state.acks.push_back((message.id.clone(), DeliveryStage::Surfaced));
        }
        if read {
            state.acks.push_back((message.id.clone(), DeliveryStage::Read));
        }
        self.flush(program);
    }

    fn take(&mut self, program: usize, most: usize) {
        for _ in 0..most {
            let Some(message) = self.programs[program].take(self.steady_ms) else {
                return;
            };
            self.took(program, &message);
        }
    }

    /// Sends what is to be sent.
    fn flush(&mut self, program: usize) {
        let steady_ms = self.steady_ms;
        let state = &mut self.programs[program];
        let (true, Some(connection)) = (state.open, state.connection) else {
            return;
        };
        let mut frames = Vec::new();
        if state.paused_until_ms <= steady_ms {
            for outgoing in state.outbox.iter_mut().filter(|outgoing| !outgoing.sent) {
                outgoing.sent = true;
                frames.push(Up::Send(outgoing.request.clone()));
            }
        }
        if state.acks_under_way.is_empty() && !state.acks.is_empty() {
            state.acks_under_way = state.acks.drain(..).collect();
            frames.push(Up::Acks(state.acks_under_way.clone()));
        }
        frames.into_iter().for_each(|frame| self.up(connection, frame));
    }

    // ---- what happens by chance

    fn act(&mut self) {
        match self.rng.below(100) {
            0..24 => self.send_some(),
            24..40 => {
                let (program, most) = (self.any_program(), 1 + self.rng.below(4));
                self.take(program, most);
            }
            40..54 => {
                let program = self.any_program();
                self.connect_program(program);
            }
            54..60 => {
                let links: Vec<u64> = self.links.keys().copied().collect();
                if !links.is_empty() {
                    let connection = self.rng.pick(&links);
                    self.cut(connection);
                }
            }
            60..72 => self.change_session(),
            72..80 => self.pull_some(),
            80..86 => self.change_grants(),
            86..89 => self.kill_program(),
            89..91 => self.set_clock(),
            91 if self.broker.is_some() && self.rng.chance(60) => self.crash(),
            92 if self.rng.chance(15) => self.remove_somebody(),
            _ => {}
        }
    }

    fn any_program(&mut self) -> usize {
        self.rng.below(self.programs.len())
    }

    fn send_some(&mut self) {
        for _ in 0..=self.rng.below(4) {
            let program = self.any_program();
            let member = self.programs[program].member;
            if self.checks.is_removed(member) {
                continue;
            }
            let to = self.rng.below(MEMBERS);
            let kinds = [
                TargetKind::Direct,
                TargetKind::Direct,
                TargetKind::Group,
                TargetKind::Broadcast,
            ];
            let kind = self.rng.pick(&kinds);
            let hint = (kind == TargetKind::Direct && self.rng.chance(25)).then(|| session_key(to, self.rng.below(3)));
            let priorities = [Priority::Now, Priority::Next, Priority::Next, Priority::Low];
            let request = Request {
                id: MessageId(format!("m{}", self.next_message)),
                kind,
                to,
                hint,
                priority: self.rng.pick(&priorities),
                ttl_ms: if self.rng.chance(15) {
                    self.rng.ms(200, 8_000)
                } else {
                    LONG_MS
                },
            };
            self.next_message += 1;
            self.trace(|| {
                format!(
                    "member {member} sends {} ({}, {:?} {})",
                    request.id,
                    request.priority.as_str(),
                    request.kind,
                    request.to
                )
            });
            self.programs[program]
                .outbox
                .push_back(super::program::Outgoing { request, sent: false });
            self.flush(program);
        }
    }

    fn tell(&mut self, program: usize, frame: Up) {
        let state = &self.programs[program];
        if let (true, Some(connection)) = (state.open, state.connection) {
            self.up(connection, frame);
        }
    }

    fn change_session(&mut self) {
        let program = self.any_program();
        let statuses = [PeerStatus::Idle, PeerStatus::Idle, PeerStatus::Working, PeerStatus::Dnd];
        let frame = match self.rng.below(10) {
            0..5 => Up::Status(self.rng.pick(&statuses)),
            5..7 => Up::Hook(self.rng.pick(&statuses[..3])),
            7..9 => Up::Visible(self.rng.chance(70)),
            _ => Up::Group(self.rng.chance(60)),
        };
        self.tell(program, frame);
    }

    fn pull_some(&mut self) {
        let program = self.any_program();
        let kind = self.programs[program].kind;
        let (limit, peek) = (1 + self.rng.below(8), self.rng.chance(20));
        let priorities = match kind {
            Kind::Old => return,
            Kind::Current => vec![Priority::Low],
            Kind::Observer => self.rng.pick(&[&[][..], &[Priority::Low][..]]).to_vec(),
        };
        self.tell(
            program,
            Up::Pull {
                priorities,
                limit,
                peek,
            },
        );
    }

    fn change_grants(&mut self) {
        let (program, other) = (self.any_program(), self.rng.below(MEMBERS));
        let given = self.rng.pick(&[
            None,
            Some(&[][..]),
            Some(&[Capability::Dm][..]),
            Some(&[Capability::Broadcast, Capability::Read][..]),
        ]);
        self.tell(program, Up::Grants(grant(member_key(other), given)));
    }

    fn kill_program(&mut self) {
        let at = self.any_program();
        let Program {
            serial,
            member,
            place,
            kind,
            connection,
            ..
        } = self.programs[at];
        self.trace(|| format!("program {serial} of member {member} dies"));
        self.programs[at] = self.program(member, place, kind);
        if let Some(connection) = connection {
            self.cut(connection);
        }
        let pause = self.rng.ms(1, 2_000);
        self.after(pause, Event::Connect(at));
    }

    fn set_clock(&mut self) {
        let by_ms = self.rng.pick(&[1_000, 30_000, 600_000, 3_600_000, 7_200_000]) * self.rng.pick(&[1, -1]);
        self.clock_set_by_ms += by_ms;
        self.checks.clock_was_set = true;
        self.trace(|| format!("the wall clock is set by {by_ms} ms"));
    }

    fn remove_somebody(&mut self) {
        let member = self.rng.below(MEMBERS);
        if self.broker.is_some() && !self.checks.is_removed(member) && self.store.revoked.len() + 2 < MEMBERS {
            self.submit(Write::Revoke(member), Done::Revoke);
        }
    }

    // ---- the end

    /// Faults end: whoever is left gets all that is for it, over the connections that are there.
    fn calm_down(&mut self) {
        self.calm = true;
        self.trace(|| "from here on nothing goes wrong".to_owned());
        self.pass(1_000);
        let began_ms = self.steady_ms;
        loop {
            for program in 0..self.programs.len() {
                self.settle_program(program);
            }
            self.pass(100);
            let waits = self.unfinished();
            if waits.is_empty() {
                break;
            }
            if self.steady_ms - began_ms > PATIENCE_MS {
                violated(
                    Invariant::Lost,
                    format!(
                        "after {} s without a fault these still wait: {waits}",
                        PATIENCE_MS / 1_000
                    ),
                );
            }
        }
        self.check_ends();
    }

    fn settle_program(&mut self, program: usize) {
        let Program {
            member,
            place,
            kind,
            connection,
            open,
            ..
        } = self.programs[program];
        if self.checks.is_removed(member) {
            return;
        }
        if connection.is_none() && (place == 0 || !self.programs[program].outbox.is_empty()) {
            self.connect_program(program);
        }
        if !open {
            return;
        }
        self.take(program, 8);
        if let Some(connection) = connection
            && let Some(seen) = self.checks.session(connection)
        {
            let (status, visible) = (seen.status, seen.visible);
            if status != PeerStatus::Idle {
                self.up(connection, Up::Status(PeerStatus::Idle));
            }
            if !visible {
                self.up(connection, Up::Visible(true));
            }
            if kind == Kind::Current && self.store.waits(member, Priority::Low) && self.rng.chance(20) {
                let (priorities, peek) = (vec![Priority::Low], false);
                self.up(
                    connection,
                    Up::Pull {
                        priorities,
                        limit: 8,
                        peek,
                    },
                );
            }
        }
    }

    /// What has not come to its end, in words; empty if all has.
    fn unfinished(&self) -> String {
        let mut waits = Vec::new();
        for program in self
            .programs
            .iter()
            .filter(|program| !self.checks.is_removed(program.member))
        {
            waits.extend(
                program
                    .outbox
                    .iter()
                    .map(|outgoing| format!("{} (not accepted)", outgoing.request.id)),
            );
            let acks = program.acks.iter().chain(&program.acks_under_way);
            if program.open {
                waits.extend(acks.map(|(id, stage)| format!("{id} (not acknowledged as {})", stage.as_str())));
            }
        }
        for (seq, member) in self.store.open() {
            waits.push(format!("{} for member {member}", self.store.rows[&seq].message.id));
        }
        waits.truncate(12);
        waits.join(", ")
    }

    fn check_ends(&self) {
        for id in &self.acknowledged {
            if self.store.seq_of(id).is_none() {
                violated(Invariant::Lost, format!("{id} was acknowledged and is gone"));
            }
        }
        for (seq, row) in &self.store.rows {
            for (&member, &stage) in &row.deliveries {
                let id = &row.message.id;
                let succeeded = matches!(
                    stage,
                    DeliveryStage::Delivered | DeliveryStage::Surfaced | DeliveryStage::Read
                );
                if succeeded && !self.checks.was_taken(member, *seq) {
                    violated(
                        Invariant::Lost,
                        format!("{id} counts as delivered to member {member}, who has not taken it"),
                    );
                }
                if stage == DeliveryStage::Revoked && !self.store.revoked.contains(&member) {
                    violated(
                        Invariant::End,
                        format!("{id} ended as revoked for member {member}, who is there"),
                    );
                }
                if stage == DeliveryStage::Expired && row.message.expires_at_ms - row.message.created_at_ms == LONG_MS {
                    violated(
                        Invariant::End,
                        format!("{id} for member {member} expired, and has a long life"),
                    );
                }
            }
        }
    }
}
