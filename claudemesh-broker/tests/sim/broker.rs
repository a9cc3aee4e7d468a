//! What is around the core in the broker: requests, the committer, reads of the store, jobs. The rules are those of
//! `src/hub`, `src/ops` and `src/jobs.rs`; members, resolution and delivery are the real ones.

use super::checks::{Invariant, Seen, violated};
use super::committer::Done;
use super::faults::Fault;
use super::mesh::{
    Delivery, MemberFacts, Mesh, MeshFacts, Message, MessageFacts, Now, Pulled, SessionFacts, TargetRequest, resolve,
};
use super::names::{BELOW, member_id, member_key, member_of, presence, session_key};
use super::outputs::{Load, describe};
use super::program::{Kind, Request};
use super::store::{Queue, Step, Write};
use super::world::{Down, Event, LIMITS, SETTINGS, Up, World};
use claudemesh_proto::hello::caps;
use claudemesh_proto::model::{
    Base64, Capability, DeliveryStage, Group, GroupName, KeyHex, MessageId, PeerStatus, Priority, Target, TargetKind,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One life of the broker.
pub struct Broker {
    pub mesh: Mesh,
    pub delivery: Delivery,
    /// Its steady clock starts here.
    pub started_ms: i64,
    pub queue: Queue<Done>,
    pub committing: bool,
    pub last_completion_ms: i64,
    pub loads: BTreeMap<u64, Load>,
    pub next_load: u64,
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

    pub fn save_peer_state(&mut self, member: usize) {
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

    pub fn connect(&mut self, connection: u64, program: usize) {
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

    pub fn session_changed(&mut self, connection: u64) {
        let now = self.now();
        let broker = self.broker.as_mut().unwrap();
        if let Some(view) = broker.mesh.session_view(&presence(connection)) {
            broker.delivery.session_changed(now, view, &broker.mesh);
            self.run_outputs();
        }
    }

    pub fn check_status(&mut self, connection: u64) {
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

    pub fn send(&mut self, connection: u64, member: usize, request: Request) {
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
    pub fn acknowledge(&mut self, connection: u64, member: usize, id: &MessageId) {
        if self.store.seq_of(id).is_none() {
            violated(
                Invariant::Durable,
                format!("{id} of member {member} is acknowledged and not on disk"),
            );
        }
        self.acknowledged.insert(id.clone());
        self.down(connection, Down::Sent(id.clone(), Some(true)));
    }

    pub fn deliver(&mut self, message: &Arc<Message>, recipients: &[(usize, bool)]) {
        let now = self.now();
        for &(member, _) in recipients.iter().filter(|(_, refused)| !refused) {
            let broker = self.broker.as_mut().unwrap();
            let id = member_id(member);
            if broker.mesh.member(&id).is_none() {
                broker.delivery.removed_meanwhile(&id, message.clone());
                continue;
            }
            broker.delivery.accepted(now, &id, message.clone(), &broker.mesh);
        }
        self.run_outputs();
    }

    pub fn pull(&mut self, connection: u64, priorities: &[Priority], limit: usize, peek: bool) {
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
