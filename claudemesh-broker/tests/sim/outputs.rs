//! Does what the core asks for, and the broker's jobs: leases, statuses, expiry.

use super::checks::{Invariant, violated};
use super::committer::Done;
use super::faults::Fault;
use super::mesh::{LoadRequest, Message, Output};
use super::names::{connection_of, member_of};
use super::store::{Step, Write};
use super::world::{Down, Event, SETTINGS, World};
use claudemesh_proto::model::{DeliveryStage, PeerStatus};
use std::sync::Arc;

/// A read of the store, page by page.
pub struct Load {
    request: LoadRequest,
    member: usize,
    after: i64,
    got: Vec<Arc<Message>>,
    page: usize,
}

impl World {
    /// Does what the core asks for.
    pub fn run_outputs(&mut self) {
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
                    let pause = self.read_pause();
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

    pub fn read_pause(&mut self) -> i64 {
        if self.rng.chance(15) {
            self.rng.ms(50, 400)
        } else {
            self.rng.ms(0, 20)
        }
    }

    /// Reads a page.
    pub fn read(&mut self, id: u64) {
        let fails = !self.calm && self.rng.chance(5);
        let stops = self.rng.chance(15);
        let pause = self.read_pause();
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
}

/// A message for people.
pub fn describe(message: &Message) -> String {
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
