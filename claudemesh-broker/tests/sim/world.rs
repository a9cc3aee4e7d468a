//! The simulated world: virtual time, connections, what programs do by chance, and what goes wrong.

use super::broker::Broker;
use super::checks::Checks;
use super::committer::Done;
use super::faults::Fault;
use super::mesh::{Limits, LoadRequest, Message, PeerState, Settings};
use super::program::{Kind, Program, Request};
use super::rng::Rng;
use super::store::{Outcome, Step, Store, Write};
use super::trace::Trace;
use claudemesh_proto::model::{Capability, DeliveryStage, KeyHex, MessageId, PeerStatus, Priority};
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
pub const MEMBERS: usize = 4;
const STEPS: usize = 220;
/// Long enough for every clock that is set.
pub const LONG_MS: i64 = 30 * 86_400_000;
/// When the world begins, by the wall clock.
const EPOCH_MS: i64 = 1_760_000_000_000;

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
    pub clock_set_by_ms: i64,
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
    pub next_message: u64,
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

    pub fn program(&mut self, member: usize, place: usize, kind: Kind) -> Program {
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
    pub fn pass(&mut self, ms: i64) {
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

    pub fn happen(&mut self, event: Event) {
        match event {
            Event::Up(connection, frame) if self.links.get(&connection).is_some_and(|link| !link.cut) => {
                self.serve(connection, frame);
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

    pub fn delay(&mut self) -> i64 {
        match self.rng.below(20) {
            0 if !self.calm => self.rng.ms(60, 300),
            _ => self.rng.ms(0, 25),
        }
    }

    pub fn up(&mut self, connection: u64, frame: Up) {
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

    pub fn client_notices(&mut self, connection: u64) {
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

    pub fn connect_program(&mut self, program: usize) {
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
}
