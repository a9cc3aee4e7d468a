//! The end of a run: nothing goes wrong any more, and everything comes to its end.

use super::checks::{Invariant, violated};
use super::program::{Kind, Program};
use super::world::{LONG_MS, Up, World};
use claudemesh_proto::model::{DeliveryStage, PeerStatus, Priority};

/// How long everything may take once nothing goes wrong any more.
const PATIENCE_MS: i64 = 400_000;

impl World {
    /// Faults end: whoever is left gets all that is for it, over the connections that are there.
    pub fn calm_down(&mut self) {
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

    pub fn settle_program(&mut self, program: usize) {
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
    pub fn unfinished(&self) -> String {
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
            // It was committed while its recipient was removed, and the mark that says so was lost, or it could not be
            // made because the commit looked failed: it expires when its time comes.
            let mark_is_lost = self.life > 1 || self.checks.unsure.contains(&seq);
            if self.checks.is_removed(member) && mark_is_lost {
                continue;
            }
            waits.push(format!("{} for member {member}", self.store.rows[&seq].message.id));
        }
        waits.truncate(12);
        waits.join(", ")
    }

    pub fn check_ends(&self) {
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
