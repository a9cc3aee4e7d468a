//! What happens by chance.

use super::broker::grant;
use super::committer::Done;
use super::names::{member_key, session_key};
use super::program::{Kind, Outgoing, Program, Request};
use super::store::Write;
use super::world::{Event, LONG_MS, MEMBERS, Up, World};
use claudemesh_proto::model::{Capability, MessageId, PeerStatus, Priority, TargetKind};

impl World {
    pub fn act(&mut self) {
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

    pub fn any_program(&mut self) -> usize {
        self.rng.below(self.programs.len())
    }

    pub fn send_some(&mut self) {
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
                .push_back(Outgoing { request, sent: false });
            self.flush(program);
        }
    }

    pub fn tell(&mut self, program: usize, frame: Up) {
        let state = &self.programs[program];
        if let (true, Some(connection)) = (state.open, state.connection) {
            self.up(connection, frame);
        }
    }

    pub fn change_session(&mut self) {
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

    pub fn pull_some(&mut self) {
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

    pub fn change_grants(&mut self) {
        let (program, other) = (self.any_program(), self.rng.below(MEMBERS));
        let given = self.rng.pick(&[
            None,
            Some(&[][..]),
            Some(&[Capability::Dm][..]),
            Some(&[Capability::Broadcast, Capability::Read][..]),
        ]);
        self.tell(program, Up::Grants(grant(member_key(other), given)));
    }

    pub fn kill_program(&mut self) {
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

    pub fn set_clock(&mut self) {
        let by_ms = self.rng.pick(&[1_000, 30_000, 600_000, 3_600_000, 7_200_000]) * self.rng.pick(&[1, -1]);
        self.clock_set_by_ms += by_ms;
        self.checks.clock_was_set = true;
        self.trace(|| format!("the wall clock is set by {by_ms} ms"));
    }

    pub fn remove_somebody(&mut self) {
        let member = self.rng.below(MEMBERS);
        if self.broker.is_some() && !self.checks.is_removed(member) && self.store.revoked.len() + 2 < MEMBERS {
            self.submit(Write::Revoke(member), Done::Revoke);
        }
    }
}
