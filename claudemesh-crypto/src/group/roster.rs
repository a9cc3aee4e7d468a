//! Who is in the group: the state that the log adds up to.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::device::DeviceEntry;
use super::entry::{HistoryPolicy, Invite, MAX_DEVICES, MAX_INVITES, Role};
use super::error::Refusal;
use super::wire::{Digest, Encoder};
use crate::PublicKey;

const DOMAIN: &str = "claudemesh/group/roster/1";
/// How many removed devices are remembered; the oldest are forgotten first.
const MAX_FORMER: usize = 4096;

/// Names an epoch of a mesh. Ordered: a later generation is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EpochId {
    /// Generation of the log.
    pub generation: u64,
    /// Number of the epoch inside the generation, from 1; 0 is "before the first".
    pub epoch: u64,
}

/// A device on the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RosterDevice {
    /// The row as it was admitted, with its current role and seal key.
    pub entry: DeviceEntry,
    /// The invite that it came in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<PublicKey>,
    /// Epoch at its admission.
    pub since: EpochId,
}

/// An outstanding invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RosterInvite {
    /// Its terms.
    pub invite: Invite,
    /// How many devices came in with it.
    pub uses: u32,
    /// The member who made it; `None` for the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<PublicKey>,
}

/// A device that was removed: what it signed before is still recognised, and an invite does not bring its member back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FormerDevice {
    /// The member it belonged to.
    pub member: PublicKey,
    /// The device.
    pub device: PublicKey,
    /// Epoch at its admission.
    pub since: EpochId,
    /// Last epoch that it was in.
    pub until: EpochId,
}

/// How a device stood in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The member it belongs to.
    pub member: PublicKey,
    /// It has been removed since.
    pub former: bool,
}

/// The members of a mesh, verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Roster {
    pub(super) owner: PublicKey,
    pub(super) owner_member: PublicKey,
    pub(super) history: HistoryPolicy,
    pub(super) devices: Vec<RosterDevice>,
    pub(super) invites: Vec<RosterInvite>,
    pub(super) former: Vec<FormerDevice>,
    pub(super) latest_ms: u64,
}

impl Roster {
    /// Owner of the mesh: the key that every other right comes from.
    #[must_use]
    pub const fn owner(&self) -> PublicKey {
        self.owner
    }

    /// The owner's own member, which admins cannot remove.
    #[must_use]
    pub const fn owner_member(&self) -> PublicKey {
        self.owner_member
    }

    /// What joiners may read of the past.
    #[must_use]
    pub const fn history(&self) -> HistoryPolicy {
        self.history
    }

    /// All devices, ordered by key.
    #[must_use]
    pub fn devices(&self) -> &[RosterDevice] {
        &self.devices
    }

    /// All members, ordered by key, each once.
    #[must_use]
    pub fn members(&self) -> Vec<PublicKey> {
        self.devices
            .iter()
            .map(|row| row.entry.member)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Outstanding invites, ordered by key. They may have expired.
    #[must_use]
    pub fn invites(&self) -> &[RosterInvite] {
        &self.invites
    }

    /// Removed devices, oldest first.
    #[must_use]
    pub fn former(&self) -> &[FormerDevice] {
        &self.former
    }

    /// Newest time that the log proves: of a checkpoint or an admission.
    #[must_use]
    pub const fn latest_ms(&self) -> u64 {
        self.latest_ms
    }

    /// The row of a device.
    #[must_use]
    pub fn device(&self, device: &PublicKey) -> Option<&RosterDevice> {
        self.find(device).ok().map(|at| &self.devices[at])
    }

    /// Whether the device is on the roster.
    #[must_use]
    pub fn contains(&self, device: &PublicKey) -> bool {
        self.find(device).is_ok()
    }

    /// Whether the member has a device on the roster.
    #[must_use]
    pub fn contains_member(&self, member: &PublicKey) -> bool {
        self.role(member).is_some()
    }

    /// The role of a member.
    #[must_use]
    pub fn role(&self, member: &PublicKey) -> Option<Role> {
        self.devices
            .iter()
            .find(|row| row.entry.member == *member)
            .map(|row| row.entry.role)
    }

    /// An outstanding invite.
    #[must_use]
    pub fn invite(&self, invite_key: &PublicKey) -> Option<&RosterInvite> {
        self.find_invite(invite_key).ok().map(|at| &self.invites[at])
    }

    /// How a device stood in an epoch; `None` if it was not in it.
    #[must_use]
    pub fn standing(&self, device: &PublicKey, epoch: EpochId) -> Option<Standing> {
        if let Some(row) = self.device(device)
            && row.since <= epoch
        {
            return Some(Standing {
                member: row.entry.member,
                former: false,
            });
        }
        self.former
            .iter()
            .find(|row| row.device == *device && row.since <= epoch && epoch <= row.until)
            .map(|row| Standing {
                member: row.member,
                former: true,
            })
    }

    /// Whether the device is on the roster or was.
    pub(super) fn knows(&self, device: &PublicKey) -> bool {
        self.contains(device) || self.former.iter().any(|row| row.device == *device)
    }

    pub(super) fn is_admin_device(&self, device: &PublicKey) -> bool {
        self.device(device).is_some_and(|row| row.entry.role == Role::Admin)
    }

    pub(super) fn was_removed(&self, member: &PublicKey) -> bool {
        !self.contains_member(member) && self.former.iter().any(|row| row.member == *member)
    }

    /// SHA-256 over everything the roster says: domain `claudemesh/group/roster/1`, owner, owner's member (keys), history
    /// (u8), newest time (u64), then the lists of devices (row, optional invite key, generation and epoch), invites
    /// (terms, uses as u64, optional creator) and former devices (member, device, first and last epoch).
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut out = Encoder::new(DOMAIN);
        out.key(&self.owner)
            .key(&self.owner_member)
            .u8(self.history.code())
            .u64(self.latest_ms);
        out.count(self.devices.len());
        for row in &self.devices {
            row.entry.encode(&mut out);
            out.option(row.via.as_ref(), |out, key| {
                out.key(key);
            });
            out.u64(row.since.generation).u64(row.since.epoch);
        }
        out.count(self.invites.len());
        for row in &self.invites {
            row.invite.encode(&mut out);
            out.u64(u64::from(row.uses));
            out.option(row.created_by.as_ref(), |out, key| {
                out.key(key);
            });
        }
        out.count(self.former.len());
        for row in &self.former {
            out.key(&row.member).key(&row.device);
            out.u64(row.since.generation)
                .u64(row.since.epoch)
                .u64(row.until.generation)
                .u64(row.until.epoch);
        }
        out.digest()
    }

    /// Checks a roster that came from outside (in a reset).
    pub(super) fn check(&self, mesh_id: &str) -> Result<(), Refusal> {
        if self.devices.is_empty() || self.devices.len() > MAX_DEVICES {
            return Err(Refusal::Malformed("number of devices"));
        }
        if self.invites.len() > MAX_INVITES || self.former.len() > MAX_FORMER {
            return Err(Refusal::Malformed("number of invites or former devices"));
        }
        let sorted = self
            .devices
            .windows(2)
            .all(|pair| pair[0].entry.device < pair[1].entry.device)
            && self
                .invites
                .windows(2)
                .all(|pair| pair[0].invite.invite_key < pair[1].invite.invite_key);
        if !sorted {
            return Err(Refusal::Malformed("order of the roster"));
        }
        for row in &self.devices {
            row.entry.verify(mesh_id)?;
            if self.role(&row.entry.member) != Some(row.entry.role) {
                return Err(Refusal::Malformed("roles of a member"));
            }
        }
        for row in &self.invites {
            if row.uses >= row.invite.max_uses || !row.invite.is_well_formed() {
                return Err(Refusal::Malformed("invite"));
            }
        }
        Ok(())
    }

    pub(super) fn insert_device(&mut self, row: RosterDevice) -> Result<(), Refusal> {
        let key = row.entry.device;
        if self.invite(&key).is_some() {
            return Err(Refusal::Duplicate);
        }
        if self.devices.len() >= MAX_DEVICES {
            return Err(Refusal::Limit);
        }
        match self.find(&key) {
            Ok(_) => Err(Refusal::Duplicate),
            Err(at) => {
                self.devices.insert(at, row);
                Ok(())
            }
        }
    }

    /// Takes a device off the roster and remembers it. Invites that its member made or came in with are withdrawn: who
    /// holds such a link would receive the next key through it.
    pub(super) fn remove_device(&mut self, device: &PublicKey, until: EpochId) -> Result<(), Refusal> {
        let at = self.find(device).map_err(|_| Refusal::NotOnRoster(*device))?;
        let row = self.devices.remove(at);
        let member = row.entry.member;
        self.invites.retain(|row_| {
            let key = Some(row_.invite.invite_key);
            row_.created_by != Some(member) && key != row.via
        });
        if self.former.len() >= MAX_FORMER {
            self.former.remove(0);
        }
        self.former.push(FormerDevice {
            member,
            device: *device,
            since: row.since,
            until,
        });
        Ok(())
    }

    pub(super) fn insert_invite(&mut self, row: RosterInvite) -> Result<(), Refusal> {
        let key = row.invite.invite_key;
        let taken = key == self.owner || self.knows(&key) || self.contains_member(&key);
        if taken {
            return Err(Refusal::Duplicate);
        }
        if self.invites.len() >= MAX_INVITES {
            // What has certainly expired makes room.
            let latest = self.latest_ms;
            self.invites.retain(|row| row.invite.expires_at_ms >= latest);
        }
        if self.invites.len() >= MAX_INVITES {
            return Err(Refusal::Limit);
        }
        match self.find_invite(&key) {
            Ok(_) => Err(Refusal::Duplicate),
            Err(at) => {
                self.invites.insert(at, row);
                Ok(())
            }
        }
    }

    pub(super) fn remove_invite(&mut self, invite_key: &PublicKey) -> Option<RosterInvite> {
        self.find_invite(invite_key).ok().map(|at| self.invites.remove(at))
    }

    /// Counts one admission; a used-up invite is no longer outstanding.
    pub(super) fn use_invite(&mut self, invite_key: &PublicKey) {
        if let Ok(at) = self.find_invite(invite_key) {
            let row = &mut self.invites[at];
            row.uses = row.uses.saturating_add(1);
            if row.uses >= row.invite.max_uses {
                self.invites.remove(at);
            }
        }
    }

    pub(super) fn find(&self, device: &PublicKey) -> Result<usize, usize> {
        self.devices.binary_search_by(|row| row.entry.device.cmp(device))
    }

    fn find_invite(&self, invite_key: &PublicKey) -> Result<usize, usize> {
        self.invites
            .binary_search_by(|row| row.invite.invite_key.cmp(invite_key))
    }
}
