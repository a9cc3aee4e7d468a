//! One member: the facts of its row, what it lets others do, and what it left with.

use claudemesh_proto::Permission;
use claudemesh_proto::model::{Capability, Group, KeyHex, MemberId, MessageMode, Permissions, Profile, Role, Stats};
use std::collections::BTreeMap;

/// The row of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFacts {
    /// Its row.
    pub id: MemberId,
    /// Its key, in lower case.
    pub key: KeyHex,
    /// Its name.
    pub name: String,
    /// Its standing.
    pub role: Role,
    /// Whether it owns the mesh.
    pub is_owner: bool,
    /// Permissions that were set for it; absent ones follow its standing.
    pub permissions: Permissions,
    /// Label that an admin gave.
    pub role_tag: Option<String>,
    /// Groups of a session that brings none, when the member did not leave with any.
    pub default_groups: Vec<Group>,
    /// How it wants to be told of messages.
    pub message_mode: MessageMode,
    /// What it lets others do, by their member key. No entry: [`Capability::DEFAULT`].
    pub grants: BTreeMap<KeyHex, Vec<Capability>>,
    /// When it joined the mesh.
    pub joined_at_ms: i64,
    /// Account in a dashboard.
    pub dashboard_user_id: Option<String>,
}

/// What a member's sessions have said so far and the next one starts with: the row of `peer_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Groups of the last session.
    pub groups: Vec<Group>,
    /// What the member tells about itself.
    pub profile: Profile,
    /// Whether the last session was shown to others.
    pub visible: bool,
    /// Summary of the last session; empty if it had none.
    pub summary: String,
    /// Name of the last session, if it had one of its own.
    pub display_name: Option<String>,
    /// Totals over all sessions.
    pub stats: Stats,
    /// When the last session left.
    pub last_seen_ms: Option<i64>,
}

impl Default for PeerState {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            profile: Profile::default(),
            visible: true,
            summary: String::new(),
            display_name: None,
            stats: Stats::default(),
            last_seen_ms: None,
        }
    }
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberState {
    /// Its row.
    pub facts: MemberFacts,
    /// What it left with; kept up to date while it is connected, so that a crash loses nothing that was saved.
    pub state: PeerState,
    /// Whether it had a session before.
    pub seen_before: bool,
}

impl MemberState {
    /// A member as the store has it. Without `state` it has never been connected.
    #[must_use]
    pub fn new(facts: MemberFacts, state: Option<PeerState>) -> Self {
        Self {
            facts,
            seen_before: state.is_some(),
            state: state.unwrap_or_default(),
        }
    }

    /// Whether this member lets the member with key `other` do something. It lets itself do everything.
    #[must_use]
    pub fn grants(&self, other: &KeyHex, capability: Capability) -> bool {
        if *other == self.facts.key {
            return true;
        }
        match self.facts.grants.get(other) {
            Some(given) if !(mutant!(EmptyGrantIsDefault) && given.is_empty()) => given.contains(&capability),
            _ => Capability::DEFAULT.contains(&capability),
        }
    }

    /// Groups of the member while no session of it is connected.
    #[must_use]
    pub fn resting_groups(&self) -> &[Group] {
        if self.state.groups.is_empty() {
            &self.facts.default_groups
        } else {
            &self.state.groups
        }
    }

    /// What the member may do, with every field decided: what was set for it, else what goes with its standing.
    #[must_use]
    pub fn effective_permissions(&self) -> Permissions {
        let facts = &self.facts;
        let manages = facts.is_owner || facts.role == Role::Admin;
        let set = facts.permissions;
        Permissions {
            can_invite: set.can_invite.or(Some(manages)),
            can_write_state: set.can_write_state.or(Some(true)),
            can_send: set.can_send.or(Some(true)),
            can_use_tools: set.can_use_tools.or(Some(true)),
            can_manage_permissions: set.can_manage_permissions.or(Some(manages)),
            can_delete_mesh: set.can_delete_mesh.or(Some(facts.is_owner)),
        }
    }

    /// Whether the member may call operations of this class.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        let effective = self.effective_permissions();
        match permission {
            Permission::Member => true,
            Permission::Send => effective.can_send == Some(true),
            Permission::WriteState => effective.can_write_state == Some(true),
            Permission::Manage => effective.can_manage_permissions == Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: char) -> KeyHex {
        KeyHex(digit.to_string().repeat(64))
    }

    fn member() -> MemberState {
        MemberState::new(
            MemberFacts {
                key: key('a'),
                ..MemberFacts::default()
            },
            None,
        )
    }

    #[test]
    fn grants_default_until_there_is_an_entry_and_an_empty_one_blocks() {
        let mut member = member();
        let other = key('b');
        for capability in Capability::ALL {
            assert_eq!(
                member.grants(&other, capability),
                Capability::DEFAULT.contains(&capability)
            );
        }
        member.facts.grants.insert(other.clone(), vec![]);
        member.facts.grants.insert(member.facts.key.clone(), vec![]);
        for capability in Capability::ALL {
            assert!(!member.grants(&other, capability));
            assert!(member.grants(&key('a'), capability), "nobody locks itself out");
        }
        member.facts.grants.insert(other.clone(), vec![Capability::StateWrite]);
        assert!(member.grants(&other, Capability::StateWrite));
        assert!(!member.grants(&other, Capability::Dm));
    }

    #[test]
    fn permissions_follow_the_standing_unless_they_are_set() {
        let mut member = member();
        assert!(member.may(Permission::Member) && member.may(Permission::Send) && member.may(Permission::WriteState));
        assert!(!member.may(Permission::Manage));
        member.facts.role = Role::Admin;
        assert!(member.may(Permission::Manage));
        assert_eq!(member.effective_permissions().can_delete_mesh, Some(false));
        member.facts.permissions.can_manage_permissions = Some(false);
        member.facts.permissions.can_send = Some(false);
        assert!(!member.may(Permission::Manage) && !member.may(Permission::Send));
        member.facts.is_owner = true;
        assert_eq!(member.effective_permissions().can_delete_mesh, Some(true));
        assert_eq!(member.effective_permissions().can_invite, Some(true));
    }
}
