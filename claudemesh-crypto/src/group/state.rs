//! The state of a group log and the rules by which an entry may follow it. No secrets: broker and clients run the same
//! code.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::entry::{AdmitBy, EntryBody, Head, HistoryPolicy, LogEntry, Role, WrappedKey, check_mesh_id};
use super::error::{Position, Refusal};
use super::roster::{EpochId, Roster, RosterDevice, RosterInvite};
use super::seal::{Seal, seals_digest};
use super::wire::{Digest, parse_json};
use crate::PublicKey;

/// Most that clocks may differ.
pub const MAX_SKEW_MS: u64 = 10 * 60 * 1000;
/// How many of the newest entry hashes are kept, to tell a replay from a fork.
const MAX_RECENT: usize = 256;
/// How many epochs (commitments) are kept.
const MAX_EPOCHS: usize = 2048;
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
    mesh_id: String,
    head: Head,
    roster: Roster,
    epochs: VecDeque<EpochRecord>,
    recent: VecDeque<Recent>,
    rekey_needed: bool,
    checkpoint_ms: u64,
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

    fn require_admin(&self, author: &PublicKey) -> Result<(), Refusal> {
        if self.roster.is_admin_device(author) {
            Ok(())
        } else if self.roster.contains(author) {
            Err(Refusal::NotAllowed("needs an admin or the owner"))
        } else {
            Err(Refusal::NotOnRoster(*author))
        }
    }

    fn apply_body(&mut self, entry: &LogEntry, now_ms: u64) -> Result<(), Refusal> {
        let author = entry.author;
        match &entry.body {
            EntryBody::Genesis { .. } | EntryBody::Reset { .. } => Err(Refusal::Malformed("place of the entry")),
            EntryBody::Admit { at_ms, .. } => {
                self.admit(entry, now_ms)?;
                self.roster.latest_ms = self.roster.latest_ms.max(*at_ms);
                Ok(())
            }
            EntryBody::Remove { members, devices } => self.remove(&author, members, devices),
            EntryBody::Role { member, role } => self.set_role(&author, member, *role),
            EntryBody::Reseal {
                device,
                seal_key,
                seal_signature,
            } => {
                if author != *device {
                    return Err(Refusal::NotAllowed("a device rotates its own seal key only"));
                }
                let at = self.roster.find(device).map_err(|_| Refusal::NotOnRoster(*device))?;
                let row = &mut self.roster.devices[at].entry;
                row.seal_key = *seal_key;
                row.seal_signature = *seal_signature;
                row.verify_seal_key(&self.mesh_id)
            }
            EntryBody::Invite { invite } => {
                let created_by = self.require_owner_or_admin(&author)?;
                if created_by.is_some() && invite.role != Role::Member {
                    return Err(Refusal::NotAllowed("an admin invites ordinary members only"));
                }
                if invite.seal_key.as_bytes() == &[0; 32] {
                    return Err(Refusal::Malformed("seal key"));
                }
                self.roster.insert_invite(RosterInvite {
                    invite: invite.clone(),
                    uses: 0,
                    created_by,
                })
            }
            EntryBody::RevokeInvite { invite_key } => {
                self.require_owner_or_admin(&author)?;
                self.roster.remove_invite(invite_key).ok_or(Refusal::InviteNotValid)?;
                self.rekey_needed = self.head.epoch > 0;
                Ok(())
            }
            EntryBody::Epoch { .. } => self.start_epoch(entry),
            EntryBody::Checkpoint { at_ms } => {
                self.require_owner_or_admin(&author)?;
                check_now(*at_ms, now_ms)?;
                if *at_ms < self.checkpoint_ms {
                    return Err(Refusal::Clock);
                }
                self.checkpoint_ms = *at_ms;
                self.roster.latest_ms = self.roster.latest_ms.max(*at_ms);
                Ok(())
            }
        }
    }

    /// The acting member: `None` for the owner, the member of an admin's device.
    fn require_owner_or_admin(&self, author: &PublicKey) -> Result<Option<PublicKey>, Refusal> {
        if *author == self.roster.owner {
            return Ok(None);
        }
        self.require_admin(author)?;
        Ok(self.roster.device(author).map(|row| row.entry.member))
    }

    fn admit(&mut self, entry: &LogEntry, now_ms: u64) -> Result<(), Refusal> {
        let EntryBody::Admit { device, by, at_ms } = &entry.body else {
            return Err(Refusal::Malformed("not an admission"));
        };
        check_now(*at_ms, now_ms)?;
        let author = entry.author;
        let mut via = None;
        match by {
            AdmitBy::Owner if author == self.roster.owner => {}
            AdmitBy::Owner => return Err(Refusal::NotAllowed("not the owner")),
            AdmitBy::Admin => {
                self.require_admin(&author)?;
                let known = self.roster.role(&device.member) == Some(device.role);
                if device.role != Role::Member && !known {
                    return Err(Refusal::NotAllowed("an admin admits ordinary members only"));
                }
            }
            AdmitBy::Member => {
                if author != device.member {
                    return Err(Refusal::NotAllowed("a member adds its own devices only"));
                }
                if !self.roster.contains_member(&author) {
                    return Err(Refusal::NotOnRoster(author));
                }
            }
            AdmitBy::Invite => {
                let row = self.roster.invite(&author).ok_or(Refusal::InviteNotValid)?;
                if *at_ms > row.invite.expires_at_ms {
                    return Err(Refusal::InviteNotValid);
                }
                // Dated before what the log already proves: somebody wants to revive an expired invite.
                if at_ms.saturating_add(MAX_SKEW_MS) < self.roster.latest_ms {
                    return Err(Refusal::Clock);
                }
                if row.invite.role != device.role {
                    return Err(Refusal::NotAllowed("the invite is for another role"));
                }
                if self.roster.was_removed(&device.member) {
                    return Err(Refusal::NotAllowed("a removed member is not brought back by an invite"));
                }
                via = Some(author);
            }
        }
        if self.roster.role(&device.member).is_some_and(|role| role != device.role) {
            return Err(Refusal::NotAllowed("the member has another role"));
        }
        device.verify(&self.mesh_id)?;
        // Somebody who may only read from now on is not in the running epoch.
        let mut since = self.epoch_id();
        if self.roster.history == HistoryPolicy::SinceJoin {
            since.epoch = since.epoch.saturating_add(1);
        }
        self.roster.insert_device(RosterDevice {
            entry: device.clone(),
            via,
            since,
        })?;
        if let Some(invite_key) = via {
            self.roster.use_invite(&invite_key);
        }
        Ok(())
    }

    fn remove(&mut self, author: &PublicKey, members: &[PublicKey], devices: &[PublicKey]) -> Result<(), Refusal> {
        let mut targets = Vec::with_capacity(devices.len());
        for member in members {
            let before = targets.len();
            targets.extend(
                self.roster
                    .devices
                    .iter()
                    .filter(|row| row.entry.member == *member)
                    .map(|r| r.entry.device),
            );
            if targets.len() == before {
                return Err(Refusal::NotOnRoster(*member));
            }
        }
        targets.extend_from_slice(devices);
        let own_member = self.roster.device(author).map(|row| row.entry.member).or_else(|| {
            if self.roster.contains_member(author) {
                Some(*author)
            } else {
                None
            }
        });
        for target in &targets {
            let row = self.roster.device(target).ok_or(Refusal::NotOnRoster(*target))?;
            let own = own_member == Some(row.entry.member);
            if *author == self.roster.owner || own {
                continue;
            }
            self.require_admin(author)?;
            if row.entry.role == Role::Admin || row.entry.member == self.roster.owner_member {
                return Err(Refusal::NotAllowed("an admin does not remove admins or the owner"));
            }
        }
        let until = self.epoch_id();
        for target in &targets {
            self.roster.remove_device(target, until)?;
        }
        if self.roster.devices.is_empty() {
            return Err(Refusal::NotAllowed("the last device stays"));
        }
        self.rekey_needed = self.head.epoch > 0;
        Ok(())
    }

    fn set_role(&mut self, author: &PublicKey, member: &PublicKey, role: Role) -> Result<(), Refusal> {
        if *author != self.roster.owner {
            return Err(Refusal::NotAllowed("only the owner changes roles"));
        }
        if *member == self.roster.owner_member && role != Role::Admin {
            return Err(Refusal::NotAllowed("the owner's member stays an admin"));
        }
        if !self.roster.contains_member(member) {
            return Err(Refusal::NotOnRoster(*member));
        }
        for row in self.roster.devices.iter_mut().filter(|row| row.entry.member == *member) {
            row.entry.role = role;
        }
        Ok(())
    }

    fn start_epoch(&mut self, entry: &LogEntry) -> Result<(), Refusal> {
        let EntryBody::Epoch {
            epoch,
            commitment,
            wrapped_prev,
            ..
        } = &entry.body
        else {
            return Err(Refusal::Malformed("not an epoch"));
        };
        if !self.roster.contains(&entry.author) {
            return Err(Refusal::NotOnRoster(entry.author));
        }
        if epoch.checked_sub(1) != Some(self.head.epoch) {
            return Err(Refusal::Malformed("epoch number"));
        }
        let id = EpochId {
            generation: self.head.generation,
            epoch: *epoch,
        };
        if let Some(wrapped) = wrapped_prev {
            let inner = EpochId {
                generation: wrapped.generation,
                epoch: wrapped.epoch,
            };
            if self.roster.history != HistoryPolicy::All {
                return Err(Refusal::NotAllowed("this mesh does not pass on earlier keys"));
            }
            if inner >= id || self.epochs.back().is_some_and(|record| record.id != inner) {
                return Err(Refusal::Malformed("wrapped key"));
            }
        }
        if self.epochs.len() >= MAX_EPOCHS {
            self.epochs.pop_front();
        }
        self.epochs.push_back(EpochRecord {
            id,
            commitment: *commitment,
            prev: entry.prev,
            author: entry.author,
            wrapped_prev: wrapped_prev.clone(),
        });
        self.head.epoch = *epoch;
        self.rekey_needed = false;
        Ok(())
    }
}

fn check_now(at_ms: u64, now_ms: u64) -> Result<(), Refusal> {
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

/// The broker's side: judges entries without any secret.
pub trait GroupLog {
    /// The state after the first entry of a log.
    ///
    /// # Errors
    /// Why it cannot start this log.
    fn start(&self, mesh_id: &str, owner: &PublicKey, first: &LogEntry, now_ms: u64) -> Result<LogState, Refusal>;

    /// The state after `entry`, which the broker stores together with the entry if the head is still that of `state`.
    ///
    /// # Errors
    /// Which rule the entry breaks.
    fn check(&self, state: &LogState, entry: &LogEntry, now_ms: u64) -> Result<LogState, Refusal>;

    /// Judges entries that are proposed together, with their seals (those of every epoch among them, and late ones).
    ///
    /// # Errors
    /// The first rule that is broken.
    fn check_batch(
        &self,
        state: &LogState,
        entries: &[LogEntry],
        seals: &[Seal],
        now_ms: u64,
    ) -> Result<LogState, Refusal> {
        let mut state = state.clone();
        for entry in entries {
            state = self.check(&state, entry, now_ms)?;
            if let EntryBody::Epoch { epoch, .. } = &entry.body {
                let id = EpochId {
                    generation: entry.generation,
                    epoch: *epoch,
                };
                // Late seals for an epoch of the same batch would not be in its digest, so authors do not make them.
                let own: Vec<Seal> = seals.iter().filter(|seal| seal.id() == id).cloned().collect();
                state.check_seals(entry, &own)?;
            }
        }
        Ok(state)
    }
}

/// [`GroupLog`] for scheme `epoch/1`.
#[derive(Clone, Copy, Debug, Default)]
pub struct EpochLog;

impl GroupLog for EpochLog {
    fn start(&self, mesh_id: &str, owner: &PublicKey, first: &LogEntry, now_ms: u64) -> Result<LogState, Refusal> {
        LogState::start(mesh_id, owner, first, now_ms)
    }

    fn check(&self, state: &LogState, entry: &LogEntry, now_ms: u64) -> Result<LogState, Refusal> {
        state.advance(entry, now_ms).map_err(|refusal| match refusal {
            // To the broker, another entry at a taken place is the loser of a race. To a client it is proof of a fork: it
            // is only ever sent what the broker accepted.
            Refusal::Fork if entry.position() <= state.head().position() => Refusal::Stale,
            other => other,
        })
    }
}
