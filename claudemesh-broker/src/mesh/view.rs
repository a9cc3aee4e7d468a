//! What each caller may see of the mesh.

use super::roster::is_shown;
use super::{Mesh, Session};
use claudemesh_proto::model::{Capability, Group, Member, MemberId, Peer, PresenceId, Timestamp};
use claudemesh_proto::ops::MemberStats;
use std::collections::BTreeSet;

/// The parts of `mesh_info` that live state has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshOverview {
    /// Number of sessions that the caller can see.
    pub peers: u32,
    /// Number of members.
    pub members: u32,
    /// Groups that those sessions are in, with `@`, in order.
    pub groups: Vec<String>,
    /// The caller's name.
    pub your_name: String,
    /// The caller's groups.
    pub your_groups: Vec<Group>,
}

impl Mesh {
    /// Live sessions that this session may see, itself included, in the order in which they connected. Observers are
    /// never seen, hidden ones by their own member only, and others only if their member lets the viewer `read`.
    #[must_use]
    pub fn peers_for(&self, viewer: &PresenceId) -> Vec<Peer> {
        let Some(viewer) = self.session(viewer) else {
            return Vec::new();
        };
        let sessions = self
            .sessions()
            .filter(|session| self.may_see(&viewer.facts.member, session));
        sessions.map(|session| self.peer(session)).collect()
    }

    /// All members in the order in which they joined, as one of them may see them: sessions that are hidden from the
    /// viewer do not make a member online, and one that does not let the viewer `read` shows its name and key only.
    #[must_use]
    pub fn member_list(&self, viewer: &MemberId) -> Vec<Member> {
        let mut members: Vec<_> = self.members().collect();
        members.sort_by(|a, b| (a.facts.joined_at_ms, &a.facts.id).cmp(&(b.facts.joined_at_ms, &b.facts.id)));
        let members = members.into_iter().map(|member| {
            let facts = &member.facts;
            let readable = self.allows(&facts.id, viewer, Capability::Read);
            let seen = self
                .sessions_of(&facts.id)
                .filter(|session| self.may_see(viewer, session))
                .count();
            Member {
                id: facts.id.clone(),
                pubkey: facts.key.clone(),
                display_name: facts.name.clone(),
                role_tag: facts.role_tag.clone(),
                groups: if readable {
                    self.groups_of(&facts.id)
                } else {
                    Vec::new()
                },
                message_mode: facts.message_mode,
                permission: facts.role,
                is_owner: facts.is_owner,
                online: seen > 0,
                session_count: u32::try_from(seen).unwrap_or(u32::MAX),
                joined_at: Timestamp::from_ms(facts.joined_at_ms),
                last_seen_at: member
                    .state
                    .last_seen_ms
                    .filter(|_| readable && seen == 0)
                    .map(Timestamp::from_ms),
                dashboard_user_id: facts.dashboard_user_id.clone(),
            }
        });
        members.collect()
    }

    /// What each member has done, in the order in which they joined; `online` as in [`Mesh::member_list`].
    #[must_use]
    pub fn stats_list(&self, viewer: &MemberId) -> Vec<MemberStats> {
        let members = self.member_list(viewer).into_iter();
        let members = members.map(|member| MemberStats {
            stats: self.peer_state(&member.id).map(|state| state.stats).unwrap_or_default(),
            name: member.display_name,
            pubkey: member.pubkey,
            online: member.online,
        });
        members.collect()
    }

    /// The parts of `mesh_info` that live state has, for this session.
    #[must_use]
    pub fn overview_for(&self, viewer: &PresenceId) -> MeshOverview {
        let Some(viewer) = self.session(viewer) else {
            return MeshOverview::default();
        };
        let mut groups = BTreeSet::new();
        let mut peers = 0;
        for session in self
            .sessions()
            .filter(|session| self.may_see(&viewer.facts.member, session))
        {
            peers += 1;
            groups.extend(session.groups.iter().map(|group| format!("@{}", group.name)));
        }
        MeshOverview {
            peers,
            members: u32::try_from(self.members().count()).unwrap_or(u32::MAX),
            groups: groups.into_iter().collect(),
            your_name: self.display_name(viewer),
            your_groups: viewer.groups.clone(),
        }
    }

    /// Sessions to tell of something that `subject` did, in the order in which they connected: those of members that
    /// it lets do `needed` (its own always), without observers and `except`. For news of a single session of the
    /// subject use [`Mesh::audience_of`], which also keeps hidden sessions secret.
    #[must_use]
    pub fn audience(&self, subject: &MemberId, needed: Capability, except: Option<&PresenceId>) -> Vec<PresenceId> {
        let listeners = self.sessions().filter(|listener| {
            !listener.facts.observer
                && Some(&listener.facts.presence) != except
                && self.allows(subject, &listener.facts.member, needed)
        });
        listeners.map(|listener| listener.facts.presence.clone()).collect()
    }

    /// Sessions to tell of a change of this session: those that may see it, without itself. Of a hidden session only
    /// its own member's others hear, of an observer nobody.
    #[must_use]
    pub fn audience_of(&self, presence: &PresenceId) -> Vec<PresenceId> {
        let Some(session) = self.session(presence) else {
            return Vec::new();
        };
        let listeners = self.sessions().filter(|listener| {
            !listener.facts.observer
                && listener.facts.presence != *presence
                && self.may_see(&listener.facts.member, session)
        });
        listeners.map(|listener| listener.facts.presence.clone()).collect()
    }

    /// Members that do not let `viewer` do `needed`, in the order of their ids.
    #[must_use]
    pub fn hidden_from(&self, viewer: &MemberId, needed: Capability) -> Vec<MemberId> {
        let hidden = self
            .members()
            .filter(|member| !self.allows(&member.facts.id, viewer, needed));
        hidden.map(|member| member.facts.id.clone()).collect()
    }

    /// All live sessions except observers and `except`: the audience of news of the mesh itself.
    #[must_use]
    pub fn everyone(&self, except: Option<&PresenceId>) -> Vec<PresenceId> {
        let listeners = self.sessions().filter(|listener| !listener.facts.observer);
        listeners
            .map(|listener| &listener.facts.presence)
            .filter(|presence| Some(*presence) != except)
            .cloned()
            .collect()
    }

    /// One session as `list_peers` shows it.
    #[must_use]
    pub fn peer(&self, session: &Session) -> Peer {
        let member = self.member(&session.facts.member);
        let member_key = member.map(|member| member.facts.key.clone());
        let facts = &session.facts;
        Peer {
            pubkey: facts
                .session_key
                .clone()
                .or_else(|| member_key.clone())
                .unwrap_or_default(),
            member_pubkey: member_key,
            member_id: Some(facts.member.clone()),
            presence_id: Some(facts.presence.clone()),
            display_name: self.display_name(session),
            status: session.status.status,
            summary: Some(session.summary.clone()).filter(|summary| !summary.is_empty()),
            groups: session.groups.clone(),
            session_id: facts.session_id.clone(),
            connected_at: Timestamp::from_ms(session.connected_at_ms),
            cwd: facts.cwd.clone(),
            hostname: facts.hostname.clone(),
            peer_type: facts.peer_type.clone(),
            channel: facts.channel.clone(),
            model: facts.model.clone(),
            stats: member.map(|member| member.state.stats),
            visible: Some(session.visible),
            profile: member
                .map(|member| member.state.profile.clone())
                .filter(|profile| !profile.is_empty()),
            protocol: (facts.protocol >= 2).then_some(facts.protocol),
        }
    }

    fn may_see(&self, viewer: &MemberId, session: &Session) -> bool {
        !session.facts.observer
            && (session.facts.member == *viewer
                || is_shown(session) && self.allows(&session.facts.member, viewer, Capability::Read))
    }
}
