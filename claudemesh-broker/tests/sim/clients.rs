//! What the clients do with what comes, and what they send.

use super::mesh::Message;
use super::program::{Job, Kind, Loan, Offer};
use super::world::{Down, Event, LIMITS, Up, World};
use claudemesh_proto::model::{DeliveryStage, MessageId};
use std::sync::Arc;

impl World {
    pub fn arrive(&mut self, program: usize, connection: u64, frame: Down) {
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
                state.jobs.push_back(Job::Push(message, attempt));
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

    pub fn open_later(&mut self, program: usize) {
        let pause = self.rng.ms(0, 15);
        let serial = self.programs[program].serial;
        self.after(pause, Event::Open(program, serial));
    }

    /// One after the other, in the order in which they came.
    pub fn open_job(&mut self, program: usize, serial: u64) {
        let steady_ms = self.steady_ms;
        let state = &mut self.programs[program];
        if state.serial != serial {
            return;
        }
        match state.jobs.pop_front() {
            Some(Job::Connected) => state.connected(),
            Some(Job::Push(message, attempt)) => {
                let lease_ms = LIMITS.lease_ms << (attempt - 1).min(3);
                let offer = state.offer(&message, steady_ms, Loan::new(steady_ms, lease_ms));
                let serial = state.serial;
                self.trace(|| format!("program {serial} gets {}: {offer:?}", message.id));
                if offer == Offer::Taken {
                    self.acknowledge_taken(program, &message.id);
                }
            }
            None => {}
        }
    }

    pub fn acknowledge_taken(&mut self, program: usize, id: &MessageId) {
        self.programs[program]
            .acks
            .push_back((id.clone(), DeliveryStage::Delivered));
        self.flush(program);
    }

    /// The program has a message now.
    pub fn took(&mut self, program: usize, message: &Arc<Message>) {
        let (surfaced, read) = (self.rng.chance(30), self.rng.chance(30));
        let now = self.now();
        let state = &mut self.programs[program];
        let serial = state.serial;
        self.trace
            .line(self.steady_ms, || format!("program {serial} takes {}", message.id));
        self.checks.taken(now, serial, state.member, state.connection, message);
        state.acks.push_back((message.id.clone(), DeliveryStage::Delivered));
        if surfaced {
            state.acks.push_back((message.id.clone(), DeliveryStage::Surfaced));
        }
        if read {
            state.acks.push_back((message.id.clone(), DeliveryStage::Read));
        }
        self.flush(program);
    }

    pub fn take(&mut self, program: usize, most: usize) {
        for _ in 0..most {
            let Some(message) = self.programs[program].take(self.steady_ms) else {
                return;
            };
            self.took(program, &message);
        }
    }

    /// Sends what is to be sent.
    pub fn flush(&mut self, program: usize) {
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
}
