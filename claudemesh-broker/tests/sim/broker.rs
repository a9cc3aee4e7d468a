//! What is around the core in the broker: requests, the committer, reads of the store, jobs. The rules are those of
//! `src/hub`, `src/ops` and `src/jobs.rs`; members, resolution and delivery are the real ones.

use super::checks::{Invariant, Seen, violated};
use super::faults::Fault;
use super::names::{BELOW, connection_of, member_id, member_key, member_of, presence, session_key};
use super::program::{Kind, Request};
use super::store::{Outcome, Queue, Step, Write};
use super::world::{Down, Event, LIMITS, SETTINGS, Up, World};
use claudemesh_broker::mesh::{
    Delivery, LoadRequest, MemberFacts, Mesh, MeshFacts, Message, MessageFacts, Now, Output, Pulled, SessionFacts,
    TargetRequest, resolve,
};
use claudemesh_proto::hello::caps;
use claudemesh_proto::model::{
    Base64, Capability, DeliveryStage, Group, GroupName, KeyHex, MessageId, PeerStatus, Priority, Target, TargetKind,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is done once a write is on disk.
#[derive(Clone, Debug)]
pub enum Done {
    Send { connection: u64, id: MessageId },
    Acks { connection: u64 },
    Marks,
    Grants,
    Revoke,
    Expire,
}

/// A read of the store, page by page.
pub struct Load {
    request: LoadRequest,
    member: usize,
    after: i64,
    got: Vec<Arc<Message>>,
    page: usize,
}

/// One life of the broker.
pub struct Broker {
    pub mesh: Mesh,
    pub delivery: Delivery,
    /// Its steady clock starts here.
    started_ms: i64,
    queue: Queue<Done>,
    committing: bool,
    last_completion_ms: i64,
    loads: BTreeMap<u64, Load>,
    next_load: u64,
    /// Programs behind connections.
    pub sessions: BTreeMap<u64, usize>,
}

impl World {
    pub fn now(&self) -> Now {
        let started_ms = self.broker.as_ref().map_or(0, |broker| broker.started_ms);
        Now {
            wall_ms: self.wall_ms(),
            steady_ms: self.steady_ms - started_ms,
        }
    }

    /// The broker starts, with what is on disk.
    pub fn start_broker(&mut self) {
        let mut mesh = Mesh::new(MeshFacts::default(), SETTINGS);
        for member in (0..self.members).filter(|member| !self.store.revoked.contains(member)) {
            let facts = MemberFacts {
                id: member_id(member),
                key: member_key(member),
                name: format!("member {member}"),
                grants: self.store.grants[member].clone(),
                ..MemberFacts::default()
            };
            mesh.upsert_member(facts, self.left.get(&member).cloned());
        }
        for member in 0..self.members {
            for other in 0..self.members {
                let key = member_key(other);
                let given = self.store.grants[member].get(&key).cloned();
                self.checks.granted(member, &key, given.as_ref());
            }
            if self.store.revoked.contains(&member) {
                self.checks.removed(member);
            }
        }
        self.broker = Some(Broker {
            mesh,
            delivery: Delivery::new(LIMITS),
            started_ms: self.steady_ms,
            queue: Queue::new(),
            committing: false,
            last_completion_ms: self.steady_ms,
            loads: BTreeMap::new(),
            next_load: 0,
            sessions: BTreeMap::new(),
        });
        self.trace(|| "the broker starts".to_owned());
        self.after(250, Event::Tick(self.life));
        self.after(1_500, Event::Sweep(self.life));
        self.after(3_000, Event::Expire(self.life));
    }

    /// The broker dies: its memory and what it had not committed are gone.
    pub fn crash(&mut self) {
        self.trace(|| "the broker dies".to_owned());
        for member in 0..self.members {
            self.save_peer_state(member);
        }
        self.broker = None;
        self.life += 1;
        self.checks.crashed();
        let links: Vec<u64> = self.links.keys().copied().collect();
        for connection in links {
            self.cut(connection);
        }
        let pause = self.rng.ms(5, 400);
        self.after(pause, Event::Start);
    }

    fn save_peer_state(&mut self, member: usize) {
        let state = self
            .broker
            .as_ref()
            .and_then(|broker| broker.mesh.peer_state(&member_id(member)));
        if let Some(state) = state {
            self.left.insert(member, state.clone());
        }
    }

    /// A frame from a client.
    pub fn serve(&mut self, connection: u64, frame: Up) {
        let Some(broker) = &self.broker else { return };
        if let Up::Hello(program) = frame {
            return self.connect(connection, program);
        }
        let Some(&program) = broker.sessions.get(&connection) else {
            return;
        };
        let member = self.programs[program].member;
        match frame {
            Up::Hello(_) => {}
            Up::Send(request) => self.send(connection, member, request),
            Up::Acks(acks) => {
                let step = |(id, stage): (MessageId, DeliveryStage)| Step { id, member, stage };
                let steps = acks.into_iter().map(step).collect();
                if !self.submit(Write::Steps(steps), Done::Acks { connection }) {
                    self.down(connection, Down::Acked(false));
                }
            }
            Up::Pull {
                priorities,
                limit,
                peek,
            } => self.pull(connection, &priorities, limit, peek),
            Up::Status(status) => {
                let now = self.now();
                self.broker
                    .as_mut()
                    .unwrap()
                    .mesh
                    .set_status(&presence(connection), status, now);
                if let Some(seen) = self.checks.session(connection) {
                    (seen.status, seen.said_ms) = (status, now.steady_ms);
                }
                self.session_changed(connection);
            }
            Up::Hook(status) => {
                let now = self.now();
                self.broker
                    .as_mut()
                    .unwrap()
                    .mesh
                    .hook_status(&presence(connection), status, now);
                if let Some(seen) = self.checks.session(connection)
                    && seen.status != PeerStatus::Dnd
                {
                    (seen.status, seen.said_ms) = (status, now.steady_ms);
                }
                self.check_status(connection);
                self.session_changed(connection);
            }
            Up::Visible(visible) => {
                self.broker
                    .as_mut()
                    .unwrap()
                    .mesh
                    .set_visible(&presence(connection), visible);
                if let Some(seen) = self.checks.session(connection) {
                    seen.visible = visible;
                }
                self.session_changed(connection);
            }
            Up::Group(join) => {
                let (mesh, name) = (&mut self.broker.as_mut().unwrap().mesh, GroupName::new(BELOW));
                if join {
                    mesh.join_group(&presence(connection), &name, None).unwrap();
                } else {
                    mesh.leave_group(&presence(connection), &name).unwrap();
                }
                if let Some(seen) = self.checks.session(connection) {
                    seen.in_group = join;
                }
                self.session_changed(connection);
            }
            Up::Grants(change) => {
                self.submit(Write::Grants(member, change), Done::Grants);
            }
        }
    }

    fn connect(&mut self, connection: u64, program: usize) {
        let now = self.now();
        let (member, place, kind) = {
            let program = &self.programs[program];
            (program.member, program.place, program.kind)
        };
        if self.checks.is_removed(member) {
            return self.cut(connection);
        }
        let (groups, visible) = (self.rng.chance(50), self.rng.chance(80) || self.calm);
        let facts = SessionFacts {
            presence: presence(connection),
            member: member_id(member),
            session_key: Some(session_key(member, place)),
            groups: if groups { vec![group()] } else { Vec::new() },
            visible: Some(visible),
            protocol: if kind == Kind::Old { 1 } else { 2 },
            caps: match kind {
                Kind::Old => Vec::new(),
                Kind::Current | Kind::Observer => vec![caps::ACK.to_owned(), caps::RECEIPTS.to_owned()],
            },
            observer: kind == Kind::Observer,
            ..SessionFacts::default()
        };
        let broker = self.broker.as_mut().unwrap();
        let Some(connected) = broker.mesh.connect(facts, now.wall_ms) else {
            return self.cut(connection);
        };
        broker.sessions.insert(connection, program);
        let view = broker.mesh.session_view(&presence(connection)).unwrap();
        let seen = Seen {
            member,
            key: session_key(member, place),
            ordinal: view.ordinal,
            status: PeerStatus::Idle,
            said_ms: now.steady_ms,
            visible,
            in_group: !connected.groups.is_empty(),
            observer: kind == Kind::Observer,
            acks: kind != Kind::Old,
            pulls: kind != Kind::Old,
        };
        self.checks.opened(connection, seen);
        self.trace(|| {
            format!(
                "s{connection} of member {member} is connected ({kind:?}, visible: {visible}, in the group: {groups})"
            )
        });
        self.down(connection, Down::Hello);
        let broker = self.broker.as_mut().unwrap();
        broker.delivery.session_opened(now, view, &broker.mesh);
        self.run_outputs();
    }

    /// The broker notices that a connection has ended.
    pub fn disconnected(&mut self, connection: u64) {
        let now = self.now();
        let Some(broker) = &mut self.broker else { return };
        if broker.sessions.remove(&connection).is_none() {
            return;
        }
        if let Some(left) = broker.mesh.disconnect(&presence(connection), now.wall_ms)
            && let Some(state) = left.save
        {
            self.left.insert(member_of(&left.session.facts.member), state);
        }
        let broker = self.broker.as_mut().unwrap();
        self.checks.closed(connection);
        self.trace
            .line(self.steady_ms, || format!("s{connection} is gone for the broker"));
        broker.delivery.session_closed(now, &presence(connection), &broker.mesh);
        self.run_outputs();
    }

    fn session_changed(&mut self, connection: u64) {
        let now = self.now();
        let broker = self.broker.as_mut().unwrap();
        if let Some(view) = broker.mesh.session_view(&presence(connection)) {
            broker.delivery.session_changed(now, view, &broker.mesh);
            self.run_outputs();
        }
    }

    fn check_status(&mut self, connection: u64) {
        let broker = self.broker.as_ref().unwrap();
        let Some(session) = broker.mesh.session(&presence(connection)) else {
            return;
        };
        let status = session.status.status;
        if let Some(seen) = self.checks.session(connection)
            && seen.status != status
        {
            let text = format!(
                "s{connection} is {}, and should be {}",
                status.as_str(),
                seen.status.as_str()
            );
            violated(Invariant::Status, text);
        }
    }

    fn send(&mut self, connection: u64, member: usize, request: Request) {
        let wall_ms = self.wall_ms();
        let broker = self.broker.as_ref().unwrap();
        let spec = match request.kind {
            TargetKind::Direct => member_key(request.to).0,
            TargetKind::Group => format!("@{}", super::names::GROUP),
            TargetKind::Broadcast => "*".to_owned(),
        };
        let target = TargetRequest {
            sender: &member_id(member),
            spec: &spec,
            session_hint: request.hint.as_ref(),
            allow_names: false,
        };
        let Ok(resolved) = resolve(&broker.mesh, &target) else {
            return self.down(connection, Down::Sent(request.id, Some(false)));
        };
        let direct = resolved.target.kind == TargetKind::Direct;
        let recipients: Vec<_> = resolved
            .recipients
            .iter()
            .map(|recipient| (member_of(&recipient.member), recipient.refused.is_some()))
            .collect();
        if direct && recipients.iter().all(|(_, refused)| *refused) {
            return self.down(connection, Down::Sent(request.id, Some(false)));
        }
        let program = broker.sessions[&connection];
        let facts = MessageFacts {
            id: request.id.clone(),
            mesh_id: "mesh".into(),
            seq: 0,
            priority: request.priority,
            sender_pubkey: session_key(member, self.programs[program].place).0,
            sender_member: Some(member_key(member)),
            sender_name: None,
            target: Target {
                kind: resolved.target.kind,
                spec: resolved.target.spec.clone(),
            },
            session_hint: request.hint.clone(),
            nonce: Base64::default(),
            ciphertext: Base64::from("eA=="),
            meta: None,
            sealed: None,
            subtype: None,
            created_at_ms: wall_ms,
            expires_at_ms: wall_ms + request.ttl_ms,
        };
        let id = request.id.clone();
        if self.fault == Some(Fault::AcknowledgeEarly) {
            self.acknowledge(connection, member, &id);
        }
        if self.fault == Some(Fault::DeliverEarly) {
            // In place of the number that the commit will give.
            let seq = 1_000_000 + self.steady_ms;
            let message = Arc::new(Message::from(MessageFacts { seq, ..facts.clone() }));
            self.deliver(&message, &recipients);
        }
        let write = Write::Message {
            sender: member,
            facts,
            recipients,
        };
        if !self.submit(write, Done::Send { connection, id }) {
            self.down(connection, Down::Sent(request.id, None));
        }
    }

    /// Tells the sender that the broker has its message.
    fn acknowledge(&mut self, connection: u64, member: usize, id: &MessageId) {
        if self.store.seq_of(id).is_none() {
            violated(
                Invariant::Durable,
                format!("{id} of member {member} is acknowledged and not on disk"),
            );
        }
        self.acknowledged.insert(id.clone());
        self.down(connection, Down::Sent(id.clone(), Some(true)));
    }

    fn deliver(&mut self, message: &Arc<Message>, recipients: &[(usize, bool)]) {
        let now = self.now();
        let mut revoked = Vec::new();
        for &(member, _) in recipients.iter().filter(|(_, refused)| !refused) {
            let broker = self.broker.as_mut().unwrap();
            if broker.mesh.member(&member_id(member)).is_none() {
                // Removed while the message was on its way to the disk.
                revoked.push(Step {
                    id: message.id.clone(),
                    member,
                    stage: DeliveryStage::Revoked,
                });
            }
            broker
                .delivery
                .accepted(now, &member_id(member), message.clone(), &broker.mesh);
        }
        if !revoked.is_empty() {
            self.mark(revoked);
        }
        self.run_outputs();
    }

    fn pull(&mut self, connection: u64, priorities: &[Priority], limit: usize, peek: bool) {
        let Seen { member, observer, .. } = self.checks.session(connection).unwrap().clone();
        if observer && !peek && self.broker.as_ref().unwrap().mesh.is_online(&member_id(member)) {
            return;
        }
        for round in 0.. {
            if round > 200 {
                violated(Invariant::Lost, "a pull does not end".to_owned());
            }
            let now = self.now();
            let broker = self.broker.as_mut().unwrap();
            let pulled = broker
                .delivery
                .pull(now, &presence(connection), priorities, limit, peek, &broker.mesh);
            match pulled {
                Pulled::NeedLoad(requests) => {
                    self.run_outputs();
                    for request in requests {
                        let messages = self.store.pending(member, &request, request.after_seq, request.limit);
                        let more = messages.len() == request.limit;
                        let broker = self.broker.as_mut().unwrap();
                        broker.delivery.loaded(now, &request, messages, more, &broker.mesh);
                        self.run_outputs();
                    }
                }
                Pulled::Ready(messages) => {
                    if !peek {
                        for (message, attempt) in &messages {
                            self.trace.line(self.steady_ms, || {
                                format!("s{connection} pulls {} (delivery {attempt})", describe(message))
                            });
                            self.checks.handed_over(now, connection, message, *attempt);
                        }
                        self.down(connection, Down::Pulled(messages));
                    }
                    return self.run_outputs();
                }
            }
        }
    }

    /// Does what the core asks for.
    fn run_outputs(&mut self) {
        let now = self.now();
        let broker = self.broker.as_mut().unwrap();
        let outputs: Vec<_> = broker.delivery.drain_outputs().collect();
        let mut steps = Vec::new();
        for output in outputs {
            match output {
                Output::Push {
                    presence,
                    message,
                    attempt,
                } => {
                    let connection = connection_of(&presence);
                    self.trace.line(self.steady_ms, || {
                        format!("{} is pushed to s{connection} (delivery {attempt})", describe(&message))
                    });
                    if self.store.seq_of(&message.id).is_none() {
                        violated(
                            Invariant::Durable,
                            format!("{} is delivered and not on disk", message.id),
                        );
                    }
                    self.checks.pushed(now, connection, &message, attempt);
                    self.down(connection, Down::Push(message, attempt));
                }
                Output::MarkDelivered { member, message, .. } => {
                    let member = member_of(&member);
                    self.checks.written(member, &message);
                    self.checks.over(member, &message);
                    steps.push(step(&message, member, DeliveryStage::Delivered));
                }
                Output::Ended {
                    member, message, stage, ..
                } => {
                    let member = member_of(&member);
                    self.trace.line(self.steady_ms, || {
                        format!("{} for member {member} is over: {}", message.id, stage.as_str())
                    });
                    self.checks.ended(now, member, &message, stage);
                    if self.fault != Some(Fault::ForgetEnds) {
                        steps.push(step(&message, member, stage));
                    }
                }
                Output::Load(request) => {
                    let broker = self.broker.as_mut().unwrap();
                    broker.next_load += 1;
                    let id = broker.next_load;
                    let load = Load {
                        member: member_of(&request.member),
                        after: request.after_seq,
                        got: Vec::new(),
                        page: 2,
                        request,
                    };
                    broker.loads.insert(id, load);
                    let pause = self.rng.ms(0, 20);
                    self.after(pause, Event::Read(self.life, id));
                }
            }
        }
        if self.check_core {
            self.broker.as_ref().unwrap().delivery.invariants(now);
        }
        if !steps.is_empty() {
            self.mark(steps);
        }
    }

    /// Writes steps that nobody waits for, until they are written.
    pub fn mark(&mut self, steps: Vec<Step>) {
        if !self.submit(Write::Steps(steps.clone()), Done::Marks) {
            self.after(100, Event::Marks(self.life, steps));
        }
    }

    /// Reads a page.
    pub fn read(&mut self, id: u64) {
        let fails = !self.calm && self.rng.chance(5);
        let stops = self.rng.chance(15);
        let pause = self.rng.ms(0, 20);
        let now = self.now();
        let broker = self.broker.as_mut().unwrap();
        let Some(mut load) = broker.loads.remove(&id) else {
            return;
        };
        if fails {
            self.trace
                .line(self.steady_ms, || format!("a read for member {} fails", load.member));
            broker.delivery.load_failed(now, &load.request);
            return self.run_outputs();
        }
        let most = load.page.min(load.request.limit - load.got.len());
        let page = self.store.pending(load.member, &load.request, load.after, most);
        let complete = page.len() < most;
        load.after = page.last().map_or(load.after, |message| message.seq);
        load.got.extend(page);
        if !complete && load.got.len() < load.request.limit && !stops {
            load.page *= 4;
            broker.loads.insert(id, load);
            return self.after(pause, Event::Read(self.life, id));
        }
        self.after(
            pause,
            Event::Loaded(self.life, Box::new((load.request, load.got, !complete))),
        );
    }

    /// What was read is handed in.
    pub fn loaded(&mut self, request: &LoadRequest, messages: Vec<Arc<Message>>, more: bool) {
        let now = self.now();
        self.trace.line(self.steady_ms, || {
            format!(
                "{} messages ({}) are read for {}",
                messages.len(),
                request.priority.as_str(),
                request.member
            )
        });
        let broker = self.broker.as_mut().unwrap();
        broker.delivery.loaded(now, request, messages, more, &broker.mesh);
        self.run_outputs();
    }

    /// Leases and messages whose time is over.
    pub fn tick(&mut self) {
        let now = self.now();
        let broker = self.broker.as_mut().unwrap();
        if broker.delivery.next_deadline().is_due(now) {
            self.checks.leases_end(now);
            broker.delivery.tick(now, &broker.mesh);
            self.run_outputs();
        }
        self.after(250, Event::Tick(self.life));
    }

    /// Statuses that nobody confirms.
    pub fn sweep(&mut self) {
        let now = self.now();
        let flipped = self.broker.as_mut().unwrap().mesh.sweep(now);
        for (_, seen) in self.checks.sessions() {
            if seen.status == PeerStatus::Working && now.steady_ms - seen.said_ms > SETTINGS.status_ttl_ms {
                seen.status = PeerStatus::Idle;
            }
        }
        let connections: Vec<u64> = self.broker.as_ref().unwrap().sessions.keys().copied().collect();
        connections
            .into_iter()
            .for_each(|connection| self.check_status(connection));
        for presence in flipped {
            self.trace(|| format!("{presence} counts as idle: nobody confirms that it works"));
            self.session_changed(connection_of(&presence));
        }
        self.after(1_500, Event::Sweep(self.life));
    }

    /// Ends what has expired in the store.
    pub fn expire(&mut self) {
        let due = self.store.due(self.wall_ms());
        if !due.is_empty() {
            self.submit(Write::Expire(due), Done::Expire);
        }
        self.after(3_000, Event::Expire(self.life));
    }

    /// Puts a write into the committer's queue; `false`: it is full.
    pub fn submit(&mut self, write: Write, done: Done) -> bool {
        if !self.calm && self.rng.chance(1) {
            return false;
        }
        let pause = self.rng.ms(1, 10);
        let life = self.life;
        let broker = self.broker.as_mut().unwrap();
        broker.queue.push_back((write, done));
        if !std::mem::replace(&mut broker.committing, true) {
            self.after(pause, Event::Commit(life));
        }
        true
    }

    /// Writes what waits, together. It may fail, and it may look failed.
    pub fn commit(&mut self) {
        let most = 1 + self.rng.below(12);
        let (fails, looks_failed) = (!self.calm && self.rng.chance(3), !self.calm && self.rng.chance(3));
        let (told, pause, life) = (self.rng.ms(0, 12), self.rng.ms(1, 10), self.life);
        let broker = self.broker.as_mut().unwrap();
        let most = most.min(broker.queue.len());
        let batch: Vec<_> = broker.queue.drain(..most).collect();
        let at_ms = broker.last_completion_ms.max(self.steady_ms + told);
        broker.last_completion_ms = at_ms;
        broker.committing = !broker.queue.is_empty();
        let more = broker.committing;
        let mut finished = Vec::with_capacity(batch.len());
        if fails || looks_failed {
            self.after(at_ms - self.steady_ms + pause * 30, Event::Found(life));
            self.trace.line(self.steady_ms, || {
                format!(
                    "a commit of {most} writes {}",
                    if fails { "fails" } else { "happens and looks failed" }
                )
            });
        }
        for (write, done) in batch {
            let outcome = (!fails).then(|| self.store.apply(&write));
            if looks_failed && let Some(Outcome::Message { seq, duplicate: false }) = outcome {
                self.checks.unsure.insert(seq);
            }
            finished.push((write, done, outcome.filter(|_| !looks_failed)));
        }
        self.after(at_ms - self.steady_ms, Event::Complete(life, finished));
        if more {
            self.after(pause, Event::Commit(life));
        }
    }

    /// What was written, or was not, is told to whoever waits.
    pub fn complete(&mut self, write: Write, done: Done, outcome: Option<Outcome>) {
        match (done, write) {
            (Done::Send { connection, id }, Write::Message { sender, recipients, .. }) => match outcome {
                Some(Outcome::Message { seq, duplicate }) => {
                    if !duplicate && self.fault != Some(Fault::DeliverEarly) {
                        let message = self.store.rows[&seq].message.clone();
                        self.deliver(&message, &recipients);
                    }
                    self.acknowledge(connection, sender, &id);
                }
                _ => self.down(connection, Down::Sent(id, None)),
            },
            (Done::Acks { connection }, Write::Steps(steps)) => {
                let Some(Outcome::Steps(changed)) = outcome else {
                    return self.down(connection, Down::Acked(false));
                };
                let now = self.now();
                for step in &steps {
                    self.trace(|| format!("member {} has {}: {}", step.member, step.id, step.stage.as_str()));
                    let seq = self.store.seq_of(&step.id).unwrap();
                    let message = self.store.rows[&seq].message.clone();
                    self.checks.over(step.member, &message);
                }
                let broker = self.broker.as_mut().unwrap();
                if let Some(step) = steps.first() {
                    let (member, ids) = (member_id(step.member), steps.iter().map(|step| &step.id));
                    broker
                        .delivery
                        .acked(now, &member, &presence(connection), ids, &broker.mesh);
                }
                self.receipts(&steps, &changed);
                self.run_outputs();
                self.down(connection, Down::Acked(true));
            }
            (Done::Marks, Write::Steps(steps)) => match outcome {
                Some(Outcome::Steps(changed)) => self.receipts(&steps, &changed),
                _ if self.fault == Some(Fault::ForgetMarks) => {}
                _ => self.after(100, Event::Marks(self.life, steps)),
            },
            (Done::Grants, Write::Grants(member, change)) if outcome.is_some() => {
                self.trace(|| format!("the grants of member {member} change"));
                let broker = self.broker.as_mut().unwrap();
                broker
                    .mesh
                    .set_grants(&member_id(member), &change.iter().cloned().collect());
                for (key, capabilities) in &change {
                    self.checks.granted(member, key, capabilities.as_ref());
                }
            }
            (Done::Revoke, Write::Revoke(member)) => match outcome {
                Some(Outcome::Ended(ended)) => self.member_removed(member, &ended),
                _ => {
                    // Whoever asked for it asks again.
                    self.submit(Write::Revoke(member), Done::Revoke);
                }
            },
            (Done::Expire, _) => {
                if let Some(Outcome::Ended(ended)) = outcome {
                    self.end_receipts(&ended, DeliveryStage::Expired);
                }
            }
            _ => {}
        }
    }

    /// The store is there again after a failure: what became of the writes that failed is not known.
    pub fn read_again(&mut self) {
        if self.fault == Some(Fault::NotReadAgain) {
            return;
        }
        self.trace(|| "what waits is read again".to_owned());
        let now = self.now();
        let broker = self.broker.as_mut().unwrap();
        broker.delivery.read_again(now, &broker.mesh);
        self.run_outputs();
    }

    fn member_removed(&mut self, member: usize, ended: &[(i64, usize)]) {
        self.trace(|| format!("member {member} is removed"));
        self.end_receipts(ended, DeliveryStage::Revoked);
        let now = self.now();
        self.checks.removed(member);
        let broker = self.broker.as_mut().unwrap();
        broker.delivery.member_removed(now, &member_id(member));
        let removed = broker.mesh.remove_member(&member_id(member));
        self.run_outputs();
        for presence in removed.into_iter().flat_map(|removed| removed.sessions) {
            let connection = connection_of(&presence);
            self.broker.as_mut().unwrap().sessions.remove(&connection);
            self.cut(connection);
        }
    }

    fn receipts(&mut self, steps: &[Step], changed: &[bool]) {
        for (step, _) in steps.iter().zip(changed).filter(|(_, changed)| **changed) {
            let seq = self.store.seq_of(&step.id).unwrap();
            self.receipt(seq, step.member, step.stage);
        }
    }

    fn end_receipts(&mut self, ended: &[(i64, usize)], stage: DeliveryStage) {
        for &(seq, member) in ended {
            self.receipt(seq, member, stage);
        }
    }

    fn receipt(&mut self, seq: i64, recipient: usize, stage: DeliveryStage) {
        let row = &self.store.rows[&seq];
        let (sender, id) = (member_id(row.sender), row.message.id.clone());
        let broker = self.broker.as_ref().unwrap();
        let sessions = broker
            .mesh
            .connections_of(&sender)
            .filter(|session| session.has_cap(caps::RECEIPTS));
        let connections: Vec<_> = sessions.map(|session| connection_of(&session.facts.presence)).collect();
        for connection in connections {
            self.down(connection, Down::Receipt(id.clone(), recipient, stage));
        }
    }
}

fn describe(message: &Message) -> String {
    let sender = message.sender().trim_start_matches('0');
    let sender = if sender.is_empty() { "0" } else { sender };
    format!(
        "{} ({}, number {} from member {sender})",
        message.id,
        message.priority.as_str(),
        message.seq
    )
}

fn step(message: &Message, member: usize, stage: DeliveryStage) -> Step {
    Step {
        id: message.id.clone(),
        member,
        stage,
    }
}

fn group() -> Group {
    Group {
        name: GroupName::new(BELOW),
        role: None,
    }
}

/// A change of what a member lets another one do.
pub fn grant(key: KeyHex, given: Option<&[Capability]>) -> Vec<(KeyHex, Option<Vec<Capability>>)> {
    vec![(key, given.map(<[_]>::to_vec))]
}
