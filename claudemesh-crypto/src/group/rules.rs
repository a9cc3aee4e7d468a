//! What each kind of entry may do, and by whom.

use std::cmp::Ordering;

use super::entry::{AdmitBy, EntryBody, HistoryPolicy, LogEntry, Role};
use super::error::Refusal;
use super::roster::{EpochId, RosterDevice, RosterInvite};
use super::state::{EpochRecord, LogState, MAX_EPOCHS, MAX_SKEW_MS, check_now};
use crate::PublicKey;

impl LogState {
    pub(super) fn require_admin(&self, author: &PublicKey) -> Result<(), Refusal> {
        if self.roster.is_admin_device(author) {
            Ok(())
        } else if self.roster.contains(author) {
            Err(Refusal::NotAllowed("needs an admin or the owner"))
        } else {
            Err(Refusal::NotOnRoster(*author))
        }
    }

    pub(super) fn apply_body(&mut self, entry: &LogEntry, now_ms: u64) -> Result<(), Refusal> {
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
            if self.roster.history != HistoryPolicy::All {
                return Err(Refusal::NotAllowed("this mesh does not pass on earlier keys"));
            }
            // After the owner has cut the chain, members may differ in what they know of earlier generations.
            let before = match wrapped.generation.cmp(&id.generation) {
                Ordering::Equal => wrapped.epoch.checked_add(1) == Some(id.epoch) && wrapped.epoch > 0,
                Ordering::Less => id.epoch == 1,
                Ordering::Greater => false,
            };
            if !before {
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
