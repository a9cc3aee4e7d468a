//! The committer: writes wait, are committed together, fail or look failed, and whoever waits is told.

use super::faults::Fault;
use super::names::{connection_of, member_id, presence};
use super::store::{Outcome, Step, Write};
use super::world::{Down, Event, World};
use claudemesh_proto::hello::caps;
use claudemesh_proto::model::{DeliveryStage, MessageId};

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

impl World {
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
                    if duplicate {
                        self.repeated(seq);
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

    /// A sender repeats what is in the store: whoever does not have it gets it before what follows.
    fn repeated(&mut self, seq: i64) {
        let stored = &self.store.rows[&seq];
        let message = stored.message.clone();
        let pending = stored
            .deliveries
            .iter()
            .filter(|(_, stage)| **stage == DeliveryStage::Accepted);
        let members: Vec<_> = pending.map(|(member, _)| member_id(*member)).collect();
        let now = self.now();
        let broker = self.broker.as_mut().unwrap();
        for member in &members {
            let repeated = (&message.id, message.priority, seq);
            broker.delivery.repeated(now, member, repeated, &broker.mesh);
        }
        self.run_outputs();
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

    pub fn member_removed(&mut self, member: usize, ended: &[(i64, usize)]) {
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

    pub fn receipts(&mut self, steps: &[Step], changed: &[bool]) {
        for (step, _) in steps.iter().zip(changed).filter(|(_, changed)| **changed) {
            let seq = self.store.seq_of(&step.id).unwrap();
            self.receipt(seq, step.member, step.stage);
        }
    }

    pub fn end_receipts(&mut self, ended: &[(i64, usize)], stage: DeliveryStage) {
        for &(seq, member) in ended {
            self.receipt(seq, member, stage);
        }
    }

    pub fn receipt(&mut self, seq: i64, recipient: usize, stage: DeliveryStage) {
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
