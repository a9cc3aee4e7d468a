//! The state of a group log and the rules by which an entry may follow it. No secrets: broker and clients run the same
//! code.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::entry::{EntryBody, Head, LogEntry, Role, WrappedKey, check_mesh_id};
use super::error::{Position, Refusal};
use super::roster::{EpochId, Roster, RosterDevice};
use super::seal::{Seal, seals_digest};
use super::wire::{Digest, parse_json};
use crate::PublicKey;

/// Most that clocks may differ.
pub const MAX_SKEW_MS: u64 = 10 * 60 * 1000;
/// How many of the newest entry hashes are kept, to tell a replay from a fork.
const MAX_RECENT: usize = 256;
/// How many epochs (commitments) are kept.
pub(super) const MAX_EPOCHS: usize = 2048;
const MAX_STATE_JSON: usize = 16 * 1024 * 1024;

/// What the log says about an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EpochRecord {
    /// Which one.
    pub id: EpochId,
    /// Commitment to its key.
    pub commitment: Digest,
    /// Hash of the entry before the one that started it; seals are bound to it.
    pub prev: Digest,
    /// Device that made the key.
    pub author: PublicKey,
    /// The key before, under this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapped_prev: Option<WrappedKey>,
}

/// How somebody else's head relates to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadRelation {
    /// The same.
    Same,
    /// Theirs is an earlier entry of our chain.
    Behind,
    /// Theirs is later: fetch the log, then compare again. A broker that cannot produce it hides something.
    Ahead,
    /// Another entry is at the same place: the broker shows us different logs.
    Fork,
    /// Earlier than what we remember.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recent {
    generation: u64,
    index: u64,
    hash: Digest,
}

/// What a log adds up to, without secrets. The broker stores it as JSON beside the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogState {
    pub(super) mesh_id: String,
    pub(super) head: Head,
    pub(super) roster: Roster,
    pub(super) epochs: VecDeque<EpochRecord>,
    recent: VecDeque<Recent>,
    pub(super) rekey_needed: bool,
    pub(super) checkpoint_ms: u64,
}

impl LogState {
    /// Starts from the first entry of a log: its genesis, or a reset by the owner.
    ///
    /// # Errors
    /// Why the entry cannot start the log of this mesh and owner.
    pub fn start(mesh_id: &str, owner: &PublicKey, first: &LogEntry, now_ms: u64) -> Result<Self, Refusal> {
        check_mesh_id(mesh_id)?;
        first.check_shape()?;
        if first.mesh_id != mesh_id {
            return Err(Refusal::Malformed("other mesh"));
        }
        if first.index != 0 {
            let have = Position {
                generation: 0,
                index: 0,
            };
            return Err(Refusal::Gap {
                have,
                got: first.position(),
            });
        }
        if first.author != *owner {
            return Err(Refusal::NotAllowed("only the owner starts a log"));
        }
        first.verify_signature()?;
        let roster = match &first.body {
            EntryBody::Genesis {
                owner: named,
                history,
                device,
                at_ms,
            } => {
                if first.generation != 1 || first.prev != Digest::ZERO || named != owner || device.role != Role::Admin {
                    return Err(Refusal::Malformed("genesis"));
                }
                device.verify(mesh_id)?;
                check_now(*at_ms, now_ms)?;
                let since = EpochId {
                    generation: 1,
                    epoch: 0,
                };
                Roster {
                    owner: *owner,
                    owner_member: device.member,
                    history: *history,
                    devices: vec![RosterDevice {
                        entry: device.clone(),
                        via: None,
                        since,
                    }],
                    invites: Vec::new(),
                    former: Vec::new(),
                    latest_ms: *at_ms,
                }
            }
            EntryBody::Reset { roster } => {
                check_reset_roster(roster, mesh_id, owner, now_ms)?;
                (**roster).clone()
            }
            _ => return Err(Refusal::Malformed("first entry")),
        };
        let head = Head {
            generation: first.generation,
            index: 0,
            epoch: 0,
            hash: first.hash(),
        };
        let mut state = Self {
            mesh_id: mesh_id.to_owned(),
            head,
            roster,
            epochs: VecDeque::new(),
            recent: VecDeque::new(),
            rekey_needed: false,
            checkpoint_ms: 0,
        };
        state.remember();
        Ok(state)
    }

    /// Reads a stored state.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn from_json(json: &[u8]) -> Result<Self, Refusal> {
        parse_json(json, MAX_STATE_JSON).map_err(|_| Refusal::Malformed("stored state"))
    }

    /// The form to store.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("the state has string keys only and writing to memory does not fail")
    }

    /// The mesh.
    #[must_use]
    pub fn mesh_id(&self) -> &str {
        &self.mesh_id
    }

    /// Where the log stands.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Who is in the group.
    #[must_use]
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The newest epoch.
    #[must_use]
    pub const fn epoch_id(&self) -> EpochId {
        EpochId {
            generation: self.head.generation,
            epoch: self.head.epoch,
        }
    }

    /// What the log says about an epoch.
    #[must_use]
    pub fn epoch(&self, id: EpochId) -> Option<&EpochRecord> {
        self.epochs
            .binary_search_by(|record| record.id.cmp(&id))
            .ok()
            .map(|at| &self.epochs[at])
    }

    pub(super) fn epochs(&self) -> &VecDeque<EpochRecord> {
        &self.epochs
    }

    /// Whether somebody who is no longer in the group (or never came) may know the current key: any device starts a new
    /// epoch, and nobody sends before.
    #[must_use]
    pub const fn rekey_needed(&self) -> bool {
        self.rekey_needed
    }

    /// Time of the newest checkpoint; 0 before the first. One that grows old says that the broker may be keeping us in
    /// the past.
    #[must_use]
    pub const fn checkpoint_ms(&self) -> u64 {
        self.checkpoint_ms
    }

    /// Compares a head that came from elsewhere: a direct message, `hello`, a safety number.
    #[must_use]
    pub fn compare(&self, theirs: &Head) -> HeadRelation {
        if theirs.position() > self.head.position() {
            return HeadRelation::Ahead;
        }
        match self.hash_at(theirs.position()) {
            Some(hash) if hash != theirs.hash => HeadRelation::Fork,
            Some(_) if theirs.position() == self.head.position() => HeadRelation::Same,
            Some(_) => HeadRelation::Behind,
            None => HeadRelation::Unknown,
        }
    }

    fn hash_at(&self, at: Position) -> Option<Digest> {
        self.recent
            .iter()
            .rev()
            .find(|seen| seen.generation == at.generation && seen.index == at.index)
            .map(|s| s.hash)
    }

    /// The state after `entry`, if it may follow.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn advance(&self, entry: &LogEntry, now_ms: u64) -> Result<Self, Refusal> {
        entry.check_shape()?;
        if entry.mesh_id != self.mesh_id {
            return Err(Refusal::Malformed("other mesh"));
        }
        let have = self.head.position();
        let got = entry.position();
        if got <= have {
            return Err(self.judge_old(entry));
        }
        if let EntryBody::Reset { roster } = &entry.body {
            return self.advance_reset(entry, roster, now_ms);
        }
        if got.generation != have.generation || got.index - 1 != have.index {
            return Err(Refusal::Gap { have, got });
        }
        entry.verify_signature()?;
        if entry.prev != self.head.hash {
            return Err(Refusal::Fork);
        }
        let mut next = self.clone();
        next.apply_body(entry, now_ms)?;
        next.head.index = entry.index;
        next.head.hash = entry.hash();
        next.remember();
        Ok(next)
    }

    /// Checks that the seals that came with an epoch are those that its author named, that every device on the roster has
    /// one, and that nobody else has. For the broker, which sees them all; whether they open only the receivers can say.
    ///
    /// # Errors
    /// Which rule they break.
    pub fn check_seals(&self, entry: &LogEntry, seals: &[Seal]) -> Result<(), Refusal> {
        let EntryBody::Epoch {
            epoch,
            commitment,
            seals_digest: named,
            ..
        } = &entry.body
        else {
            return Err(Refusal::Malformed("not an epoch"));
        };
        if seals_digest(seals) != *named {
            return Err(Refusal::Malformed("seals differ from the entry"));
        }
        let id = EpochId {
            generation: entry.generation,
            epoch: *epoch,
        };
        let mut receivers = Vec::with_capacity(seals.len());
        for seal in seals {
            let known = self.roster.contains(&seal.to) || self.roster.invite(&seal.to).is_some();
            if seal.id() != id || seal.author != entry.author || !known {
                return Err(Refusal::Malformed("seal"));
            }
            seal.verify(&self.mesh_id, &entry.prev, commitment)
                .map_err(|_| Refusal::BadSignature)?;
            receivers.push(seal.to);
        }
        receivers.sort_unstable();
        if receivers.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Refusal::Malformed("two seals for one receiver"));
        }
        let all = self
            .roster
            .devices()
            .iter()
            .all(|row| receivers.binary_search(&row.entry.device).is_ok());
        if all {
            Ok(())
        } else {
            Err(Refusal::Malformed("a device has no seal"))
        }
    }

    /// Checks a seal that came after its epoch: for a device that has just been admitted, or a new invite.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn check_late_seal(&self, seal: &Seal) -> Result<(), Refusal> {
        let record = self
            .epoch(seal.id())
            .ok_or(Refusal::Malformed("seal for an unknown epoch"))?;
        if !self.roster.contains(&seal.author) {
            return Err(Refusal::NotOnRoster(seal.author));
        }
        if !self.roster.contains(&seal.to) && self.roster.invite(&seal.to).is_none() {
            return Err(Refusal::NotOnRoster(seal.to));
        }
        seal.verify(&self.mesh_id, &record.prev, &record.commitment)
            .map_err(|_| Refusal::BadSignature)
    }

    /// An entry at a place that is taken: the same again, or proof of a fork.
    fn judge_old(&self, entry: &LogEntry) -> Refusal {
        match self.hash_at(entry.position()) {
            Some(hash) if hash != entry.hash() => {
                let known = entry.author == self.roster.owner
                    || self.roster.knows(&entry.author)
                    || self.roster.invite(&entry.author).is_some();
                if known && entry.verify_signature().is_ok() {
                    Refusal::Fork
                } else {
                    Refusal::BadSignature
                }
            }
            _ => Refusal::Stale,
        }
    }

    fn advance_reset(&self, entry: &LogEntry, roster: &Roster, now_ms: u64) -> Result<Self, Refusal> {
        let have = self.head.position();
        let got = entry.position();
        if got.generation <= have.generation || got.index != 0 {
            return Err(Refusal::Gap { have, got });
        }
        entry.verify_signature()?;
        let owner = entry.author == self.roster.owner;
        if !owner {
            if entry.prev != self.head.hash || got.generation - 1 != have.generation {
                return Err(Refusal::Gap { have, got });
            }
            self.require_admin(&entry.author)?;
            if *roster != self.roster {
                return Err(Refusal::NotAllowed("an admin resets with the roster as it is"));
            }
        }
        check_reset_roster(roster, &self.mesh_id, &self.roster.owner, now_ms)?;
        let mut next = self.clone();
        next.roster = roster.clone();
        next.head = Head {
            generation: entry.generation,
            index: 0,
            epoch: 0,
            hash: entry.hash(),
        };
        next.rekey_needed = false;
        next.remember();
        Ok(next)
    }

    fn remember(&mut self) {
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        let Head {
            generation,
            index,
            hash,
            ..
        } = self.head;
        self.recent.push_back(Recent {
            generation,
            index,
            hash,
        });
    }
}

pub(super) fn check_now(at_ms: u64, now_ms: u64) -> Result<(), Refusal> {
    if at_ms > now_ms.saturating_add(MAX_SKEW_MS) {
        Err(Refusal::Clock)
    } else {
        Ok(())
    }
}

fn check_reset_roster(roster: &Roster, mesh_id: &str, owner: &PublicKey, now_ms: u64) -> Result<(), Refusal> {
    if roster.owner != *owner {
        return Err(Refusal::NotAllowed("the owner cannot change"));
    }
    check_now(roster.latest_ms, now_ms)?;
    roster.check(mesh_id)
}
