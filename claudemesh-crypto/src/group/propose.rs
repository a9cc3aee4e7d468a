//! Building proposals.

use rand_core::CryptoRngCore;

use super::device::{DeviceEntry, InviteKeys, sign_seal_key};
use super::entry::{AdmitBy, EntryBody, EpochReason, Head, HistoryPolicy, Invite, LogEntry, Role};
use super::epoch_keys::{EpochKeys, box_key};
use super::error::{GroupError, Position, Refusal};
use super::keys::{Change, GroupKeys as _, KeyRecord, Proposed, Signer};
use super::roster::EpochId;
use super::seal::{Seal, SealFor, commitment, seals_digest, wrap};
use super::state::LogState;
use super::wire::{Digest, SealKey, Secret32};
use crate::{PublicKey, SecretKey};

/// Entries that are built on each other, each checked by the same rules that the broker applies.
pub(super) struct Draft {
    state: LogState,
    base: Option<Head>,
    entries: Vec<LogEntry>,
    seals: Vec<Seal>,
    keys: Vec<KeyRecord>,
    seal_secret: Option<Secret32>,
}

impl Draft {
    fn on(state: &LogState) -> Self {
        let base = Some(state.head());
        Self {
            state: state.clone(),
            base,
            entries: Vec::new(),
            seals: Vec::new(),
            keys: Vec::new(),
            seal_secret: None,
        }
    }

    pub(super) fn genesis(
        mesh_id: &str,
        owner: &SecretKey,
        member: &SecretKey,
        history: HistoryPolicy,
        now_ms: u64,
    ) -> Result<(Self, LogEntry), GroupError> {
        let device = DeviceEntry::new(mesh_id, member, member, Role::Admin);
        let body = EntryBody::Genesis {
            owner: owner.public(),
            history,
            device,
            at_ms: now_ms,
        };
        let genesis = LogEntry::sign(
            mesh_id,
            Position {
                generation: 1,
                index: 0,
            },
            Digest::ZERO,
            body,
            owner,
        );
        let state = LogState::start(mesh_id, &owner.public(), &genesis, now_ms)?;
        let mut draft = Self::on(&state);
        draft.base = None;
        draft.entries.push(genesis.clone());
        Ok((draft, genesis))
    }

    pub(super) fn finish_create(
        mut self,
        member: &SecretKey,
        now_ms: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<Proposed, GroupError> {
        self.epoch(member, EpochReason::Create, None, now_ms, rng)?;
        Ok(self.finish())
    }

    fn push(&mut self, body: EntryBody, author: &SecretKey, now_ms: u64) -> Result<(), GroupError> {
        let head = self.state.head();
        let at = match &body {
            EntryBody::Reset { .. } => Position {
                generation: head.generation.saturating_add(1),
                index: 0,
            },
            _ => Position {
                generation: head.generation,
                index: head.index.saturating_add(1),
            },
        };
        let entry = LogEntry::sign(self.state.mesh_id(), at, head.hash, body, author);
        self.state = self.state.advance(&entry, now_ms)?;
        self.entries.push(entry);
        Ok(())
    }

    /// A fresh key, sealed to every device, and to every invite that is still valid where joiners may read the past.
    fn epoch(
        &mut self,
        author: &SecretKey,
        reason: EpochReason,
        previous: Option<(EpochId, &Secret32)>,
        now_ms: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(), GroupError> {
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *bytes);
        let key = Secret32::new(*bytes);
        let head = self.state.head();
        let id = EpochId {
            generation: head.generation,
            epoch: head.epoch.saturating_add(1),
        };
        let commitment = commitment(self.state.mesh_id(), id, key.bytes());
        let target = SealFor {
            mesh_id: self.state.mesh_id(),
            id,
            prev: head.hash,
            commitment,
        };
        let mut seals = Vec::with_capacity(self.state.roster().devices().len());
        for row in self.state.roster().devices() {
            seals.push(target.seal(&key, row.entry.device, row.entry.seal_key, author, rng)?);
        }
        // A link must not open what is said before it is used, unless its user may read that anyway.
        let history = self.state.roster().history();
        let invites = self.state.roster().invites().iter();
        for row in invites.filter(|row| history == HistoryPolicy::All && row.invite.expires_at_ms > now_ms) {
            seals.push(target.seal(&key, row.invite.invite_key, row.invite.seal_key, author, rng)?);
        }
        let newest = self.state.epochs().back().map(|record| record.id);
        let wrapped_prev = match previous {
            Some((old, old_key)) if history == HistoryPolicy::All && newest == Some(old) => {
                Some(wrap(self.state.mesh_id(), (id, &key), (old, old_key), rng)?)
            }
            _ => None,
        };
        let body = EntryBody::Epoch {
            epoch: id.epoch,
            commitment,
            seals_digest: seals_digest(&seals),
            reason,
            wrapped_prev,
        };
        self.push(body, author, now_ms)?;
        self.seals.append(&mut seals);
        self.keys.push(KeyRecord { id, key });
        Ok(())
    }

    fn finish(self) -> Proposed {
        Proposed {
            base: self.base,
            entries: self.entries,
            seals: self.seals,
            keys: self.keys,
            seal_secret: self.seal_secret,
        }
    }
}

impl EpochKeys {
    /// Makes an invite for the holder of a link secret and seals the current key to it.
    ///
    /// # Errors
    /// Which rule forbids it.
    pub fn propose_invite(
        &self,
        invite: &InviteKeys,
        terms: &InviteTerms,
        signer: &Signer<'_>,
        now_ms: u64,
    ) -> Result<Proposed, GroupError> {
        let invite = Invite {
            invite_key: invite.invite_key(),
            seal_key: invite.seal_key(),
            role: terms.role,
            expires_at_ms: terms.expires_at_ms,
            max_uses: terms.max_uses,
            code_hint: terms.code_hint.clone(),
        };
        self.propose(&Change::Invite(invite), signer, now_ms)
    }

    /// Admits our own device by an invite: `member` is our member key, the invite's key signs. If we have opened the invite's
    /// seal, the current key is also sealed to our device.
    ///
    /// # Errors
    /// Which rule forbids it; [`Refusal::InviteNotValid`] when it is used up, revoked or expired.
    pub fn propose_admit_by_invite(
        &self,
        invite: &InviteKeys,
        member: &SecretKey,
        now_ms: u64,
    ) -> Result<Proposed, GroupError> {
        let row = self
            .state
            .roster()
            .invite(&invite.invite_key())
            .ok_or(Refusal::InviteNotValid)?;
        let device = DeviceEntry::new(self.state.mesh_id(), member, &self.me, row.invite.role);
        self.propose(&Change::Admit(device), &Signer::new(&invite.signing), now_ms)
    }

    /// Removes a member and starts an epoch.
    ///
    /// # Errors
    /// Which rule forbids it.
    pub fn propose_remove(&self, member: &PublicKey, signer: &Signer<'_>, now_ms: u64) -> Result<Proposed, GroupError> {
        self.propose(
            &Change::Remove {
                members: vec![*member],
                devices: Vec::new(),
            },
            signer,
            now_ms,
        )
    }

    /// Starts an epoch.
    ///
    /// # Errors
    /// [`GroupError::NotOnRoster`] when we are not in the group.
    pub fn propose_rotate(&self, now_ms: u64) -> Result<Proposed, GroupError> {
        self.propose(&Change::Rotate, &Signer::new(&self.me), now_ms)
    }

    /// Replaces our seal key.
    ///
    /// # Errors
    /// [`GroupError::NotOnRoster`] when we are not in the group.
    pub fn propose_reseal(&self, now_ms: u64) -> Result<Proposed, GroupError> {
        self.propose(&Change::Reseal, &Signer::new(&self.me), now_ms)
    }

    pub(super) fn propose_with(
        &self,
        change: &Change,
        signer: &Signer<'_>,
        now_ms: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<Proposed, GroupError> {
        let mut draft = Draft::on(&self.state);
        let author = signer.key();
        let mut reason = None;
        match change {
            Change::Admit(device) => {
                let by = self.right_to_admit(device, &author.public());
                draft.push(
                    EntryBody::Admit {
                        device: device.clone(),
                        by,
                        at_ms: now_ms,
                    },
                    author,
                    now_ms,
                )?;
                match self.state.roster().history() {
                    HistoryPolicy::All => self.seal_current(&mut draft, device.device, device.seal_key, rng)?,
                    HistoryPolicy::SinceJoin => reason = Some(EpochReason::Admit),
                }
            }
            Change::Remove { members, devices } => {
                let body = EntryBody::Remove {
                    members: members.clone(),
                    devices: devices.clone(),
                };
                draft.push(body, author, now_ms)?;
                reason = Some(EpochReason::Remove);
            }
            Change::Role { member, role } => {
                draft.push(
                    EntryBody::Role {
                        member: *member,
                        role: *role,
                    },
                    author,
                    now_ms,
                )?;
            }
            Change::Reseal => {
                let mut bytes = zeroize::Zeroizing::new([0; 32]);
                rng.fill_bytes(&mut *bytes);
                let secret = Secret32::new(*bytes);
                let seal_key = SealKey::from(&box_key(&secret).public_key());
                let seal_signature = sign_seal_key(self.state.mesh_id(), &self.me, seal_key);
                let body = EntryBody::Reseal {
                    device: self.me.public(),
                    seal_key,
                    seal_signature,
                };
                draft.push(body, &self.me, now_ms)?;
                draft.seal_secret = Some(secret);
            }
            Change::Invite(invite) => {
                draft.push(EntryBody::Invite { invite: invite.clone() }, author, now_ms)?;
                if self.state.roster().history() == HistoryPolicy::All {
                    self.seal_current(&mut draft, invite.invite_key, invite.seal_key, rng)?;
                }
            }
            Change::RevokeInvite(invite_key) => {
                draft.push(
                    EntryBody::RevokeInvite {
                        invite_key: *invite_key,
                    },
                    author,
                    now_ms,
                )?;
                reason = Some(EpochReason::Remove);
            }
            Change::Rotate => {
                if !self.is_member() {
                    return Err(GroupError::NotOnRoster(self.me.public()));
                }
                reason = Some(EpochReason::Rotate);
            }
            Change::Checkpoint => draft.push(
                EntryBody::Checkpoint {
                    at_ms: now_ms.max(self.state.checkpoint_ms()),
                },
                author,
                now_ms,
            )?,
            Change::Reset => {
                let roster = Box::new(self.state.roster().clone());
                draft.push(EntryBody::Reset { roster }, author, now_ms)?;
                reason = Some(EpochReason::Reset);
            }
        }
        // Who has just left, or only watches, cannot sign the epoch: somebody else does.
        if let Some(reason) = reason
            && draft.state.roster().contains(&self.me.public())
        {
            let id = self.state.epochs().back().map(|record| record.id);
            let previous = id.and_then(|id| self.seal_record(id).map(|key| (id, key)));
            draft.epoch(&self.me, reason, previous, now_ms, rng)?;
        }
        Ok(draft.finish())
    }

    /// Seals the current key to a receiver that came after its epoch started, if we have it and it is not burnt.
    fn seal_current(
        &self,
        draft: &mut Draft,
        to: PublicKey,
        seal_key: SealKey,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(), GroupError> {
        let id = self.state.epoch_id();
        if !draft.state.roster().contains(&self.me.public()) {
            return Ok(());
        }
        if let (Some(key), Some(record)) = (self.seal_record(id), self.state.epoch(id)) {
            draft
                .seals
                .push(SealFor::record(self.state.mesh_id(), record).seal(key, to, seal_key, &self.me, rng)?);
        }
        Ok(())
    }

    fn right_to_admit(&self, device: &DeviceEntry, author: &PublicKey) -> AdmitBy {
        let roster = self.state.roster();
        if roster.invite(author).is_some() {
            AdmitBy::Invite
        } else if *author == device.member && roster.contains_member(author) {
            AdmitBy::Member
        } else if *author == roster.owner() {
            AdmitBy::Owner
        } else {
            AdmitBy::Admin
        }
    }
}

/// Terms of an invite to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteTerms {
    /// Role of those who join with it.
    pub role: Role,
    /// End of its validity.
    pub expires_at_ms: u64,
    /// How many devices may join with it.
    pub max_uses: u32,
    /// Which short code of the broker belongs to it.
    pub code_hint: Option<String>,
}
