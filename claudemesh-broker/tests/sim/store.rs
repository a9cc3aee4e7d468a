//! The store as the broker sees it: writes wait for a commit, a commit may fail or leave open whether it happened, and
//! whoever reads sees what is committed. The rules are those of `src/store`.

use super::faults::Fault;
use super::mesh::{LoadRequest, Message, MessageFacts};
use claudemesh_proto::model::{Capability, DeliveryStage, KeyHex, MessageId, Priority};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A step of one delivery.
#[derive(Clone, Debug)]
pub struct Step {
    pub id: MessageId,
    pub member: usize,
    pub stage: DeliveryStage,
}

/// What is to be written.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Write {
    Message {
        sender: usize,
        /// Without its number.
        facts: MessageFacts,
        /// Whom it is for; `true`: refused.
        recipients: Vec<(usize, bool)>,
    },
    Steps(Vec<Step>),
    Grants(usize, Vec<(KeyHex, Option<Vec<Capability>>)>),
    Revoke(usize),
    Expire(Vec<(i64, usize)>),
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum Outcome {
    Message {
        seq: i64,
        duplicate: bool,
    },
    Steps(Vec<bool>),
    Done,
    /// Deliveries that ended.
    Ended(Vec<(i64, usize)>),
}

pub struct Stored {
    pub message: Arc<Message>,
    pub sender: usize,
    pub deliveries: BTreeMap<usize, DeliveryStage>,
}

/// What is on disk.
pub struct Store {
    pub rows: BTreeMap<i64, Stored>,
    by_id: BTreeMap<MessageId, i64>,
    waiting: Vec<[BTreeSet<i64>; 3]>,
    pub grants: Vec<BTreeMap<KeyHex, Vec<Capability>>>,
    pub revoked: BTreeSet<usize>,
    next_seq: i64,
    fault: Option<Fault>,
}

/// Not on disk yet.
pub type Queue<T> = VecDeque<(Write, T)>;

impl Store {
    pub fn new(members: usize, fault: Option<Fault>) -> Self {
        Self {
            rows: BTreeMap::new(),
            by_id: BTreeMap::new(),
            waiting: (0..members).map(|_| Default::default()).collect(),
            grants: (0..members).map(|_| BTreeMap::new()).collect(),
            revoked: BTreeSet::new(),
            next_seq: 1,
            fault,
        }
    }

    pub fn seq_of(&self, id: &MessageId) -> Option<i64> {
        self.by_id.get(id).copied()
    }

    pub fn stage(&self, seq: i64, member: usize) -> Option<DeliveryStage> {
        self.rows.get(&seq)?.deliveries.get(&member).copied()
    }

    pub fn apply(&mut self, write: &Write) -> Outcome {
        match write {
            Write::Message {
                sender,
                facts,
                recipients,
            } => self.insert(*sender, facts, recipients),
            Write::Steps(steps) => Outcome::Steps(steps.iter().map(|step| self.step(step)).collect()),
            Write::Grants(member, change) => {
                for (key, capabilities) in change {
                    match capabilities {
                        Some(capabilities) => self.grants[*member].insert(key.clone(), capabilities.clone()),
                        None => self.grants[*member].remove(key),
                    };
                }
                Outcome::Done
            }
            Write::Revoke(member) => {
                self.revoked.insert(*member);
                let waiting = std::mem::take(&mut self.waiting[*member]);
                let mut ended: Vec<_> = waiting.into_iter().flatten().map(|seq| (seq, *member)).collect();
                ended.sort_unstable();
                for (seq, member) in &ended {
                    self.set(*seq, *member, DeliveryStage::Revoked);
                }
                Outcome::Ended(ended)
            }
            Write::Expire(due) => {
                let still = |store: &Self, seq, member| store.stage(seq, member) == Some(DeliveryStage::Accepted);
                let ended: Vec<_> = due
                    .iter()
                    .copied()
                    .filter(|(seq, member)| still(self, *seq, *member))
                    .collect();
                for (seq, member) in &ended {
                    self.set(*seq, *member, DeliveryStage::Expired);
                }
                Outcome::Ended(ended)
            }
        }
    }

    fn insert(&mut self, sender: usize, facts: &MessageFacts, recipients: &[(usize, bool)]) -> Outcome {
        if let Some(seq) = self.seq_of(&facts.id)
            && self.fault != Some(Fault::StoreTwice)
        {
            return Outcome::Message { seq, duplicate: true };
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        let message = Arc::new(Message::from(MessageFacts { seq, ..facts.clone() }));
        let stage = |refused| {
            if refused {
                DeliveryStage::Refused
            } else {
                DeliveryStage::Accepted
            }
        };
        let deliveries = recipients.iter().map(|&(member, refused)| (member, stage(refused)));
        for &(member, _) in recipients.iter().filter(|(_, refused)| !refused) {
            self.waiting[member][facts.priority as usize].insert(seq);
        }
        self.by_id.insert(facts.id.clone(), seq);
        let deliveries = deliveries.collect();
        self.rows.insert(
            seq,
            Stored {
                message,
                sender,
                deliveries,
            },
        );
        Outcome::Message { seq, duplicate: false }
    }

    fn step(&mut self, step: &Step) -> bool {
        let Some(seq) = self.seq_of(&step.id) else { return false };
        let Some(before) = self.stage(seq, step.member) else {
            return false;
        };
        let changed = advances(before, step.stage) || (self.fault == Some(Fault::StepBack) && before != step.stage);
        if changed {
            self.set(seq, step.member, step.stage);
        }
        changed
    }

    fn set(&mut self, seq: i64, member: usize, stage: DeliveryStage) {
        let row = self.rows.get_mut(&seq).unwrap();
        row.deliveries.insert(member, stage);
        self.waiting[member][row.message.priority as usize].remove(&seq);
    }

    /// At most `most` messages of the request that wait after `after`.
    pub fn pending(&self, member: usize, request: &LoadRequest, after: i64, most: usize) -> Vec<Arc<Message>> {
        let waiting = self.waiting[member][request.priority as usize].range(after.saturating_add(1)..);
        waiting.take(most).map(|seq| self.rows[seq].message.clone()).collect()
    }

    pub fn due(&self, wall_ms: i64) -> Vec<(i64, usize)> {
        let mut due = Vec::new();
        for (member, lanes) in self.waiting.iter().enumerate() {
            let over = lanes
                .iter()
                .flatten()
                .filter(|seq| self.rows[seq].message.is_expired(wall_ms));
            due.extend(over.map(|&seq| (seq, member)));
        }
        due
    }

    /// What has not ended, of members that can still get it.
    pub fn open(&self) -> Vec<(i64, usize)> {
        let members = self.waiting.iter().enumerate();
        let open = members.flat_map(|(member, lanes)| lanes.iter().flatten().map(move |&seq| (seq, member)));
        open.collect()
    }

    pub fn waits(&self, member: usize, priority: Priority) -> bool {
        !self.waiting[member][priority as usize].is_empty()
    }
}

/// Ends without success are for what was not delivered; after `read` nothing follows.
pub fn advances(before: DeliveryStage, after: DeliveryStage) -> bool {
    let number = |stage| match stage {
        DeliveryStage::Accepted => 0,
        DeliveryStage::Delivered => 1,
        DeliveryStage::Surfaced => 2,
        DeliveryStage::Read => 3,
        DeliveryStage::Expired => 4,
        DeliveryStage::Refused => 5,
        DeliveryStage::Revoked => 6,
    };
    let (before, after) = (number(before), number(after));
    after > before && (after <= 3 && before < 3 || before == 0)
}
