//! Who is in the mesh and who is connected.

use super::status::StatusRecord;
use super::{MemberFacts, MemberState, Now, PeerState, Session, SessionFacts, SessionView};
use claudemesh_proto::limits::MAX_GROUPS_PER_SESSION;
use claudemesh_proto::model::{
    Capability, Group, GroupName, KeyHex, MemberId, MeshId, MeshPolicy, PeerStatus, PresenceId, Profile, Stats,
    StatusSource,
};
use claudemesh_proto::ops::{GrantMap, SetProfile};
use claudemesh_proto::{ErrorCode, ErrorFrame, Permission};
use std::collections::{BTreeMap, HashMap};

/// The row of a mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshFacts {
    /// Its id.
    pub id: MeshId,
    /// Its slug.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Key of its owner.
    pub owner_key: Option<KeyHex>,
    /// Its rules.
    pub policy: MeshPolicy,
}

/// Times of the status engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long an unconfirmed `working` holds.
    pub status_ttl_ms: i64,
    /// How long a source of higher rank keeps its name on the record.
    pub fresh_window_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            status_ttl_ms: 60_000,
            fresh_window_ms: 30_000,
        }
    }
}

/// What came of a `hello`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Whether the member had a session before this one.
    pub restored: bool,
    /// Whether it comes back after it was gone: seen before, and no other session of it is connected.
    pub returned: bool,
    /// Groups in force.
    pub groups: Vec<Group>,
    /// Whether the groups are those that the member left with.
    pub groups_restored: bool,
    /// Summary in force; empty if there is none.
    pub summary: String,
    /// Visibility in force.
    pub visible: bool,
    /// Profile in force.
    pub profile: Profile,
    /// The member's totals: the base of this session's reports.
    pub stats_base: Stats,
    /// When the member's last session left.
    pub last_seen_ms: Option<i64>,
    /// Sessions to tell of it; empty for hidden ones and observers.
    pub audience: Vec<PresenceId>,
}

/// What came of a session's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnected {
    /// The session.
    pub session: Session,
    /// Whether no other session of the member, observers aside, is connected. `false` for an observer.
    pub last_of_member: bool,
    /// What to save of the member; absent for an observer.
    pub save: Option<PeerState>,
    /// Sessions to tell of it; empty for hidden ones and observers.
    pub audience: Vec<PresenceId>,
}

/// A member that was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedMember {
    /// The member.
    pub member: MemberState,
    /// Its live sessions, observers included: to be closed.
    pub sessions: Vec<PresenceId>,
    /// Sessions to tell of each session's leaving, by that session; hidden ones and observers are not in it.
    pub audience: Vec<PresenceId>,
}

/// One mesh: its members and its live sessions.
#[derive(Clone, Debug)]
pub struct Mesh {
    facts: MeshFacts,
    settings: Settings,
    members: BTreeMap<MemberId, MemberState>,
    sessions: BTreeMap<u64, Session>,
    next_ordinal: u64,
    // Indexes are looked up and never walked, so their order does not matter.
    member_by_key: HashMap<KeyHex, MemberId>,
    ordinal_by_presence: HashMap<PresenceId, u64>,
    ordinals_by_member: HashMap<MemberId, Vec<u64>>,
    ordinals_by_session_key: HashMap<KeyHex, Vec<u64>>,
}

impl Mesh {
    /// A mesh without members.
    #[must_use]
    pub fn new(facts: MeshFacts, settings: Settings) -> Self {
        Self {
            facts,
            settings,
            members: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_ordinal: 1,
            member_by_key: HashMap::new(),
            ordinal_by_presence: HashMap::new(),
            ordinals_by_member: HashMap::new(),
            ordinals_by_session_key: HashMap::new(),
        }
    }

    /// The row of the mesh.
    #[must_use]
    pub fn facts(&self) -> &MeshFacts {
        &self.facts
    }

    /// The row of the mesh, to change it.
    pub fn facts_mut(&mut self) -> &mut MeshFacts {
        &mut self.facts
    }

    /// Adds a member, or replaces the row of one. What it left with is taken from `state` only when it is new here.
    /// Returns whether it is new.
    pub fn upsert_member(&mut self, facts: MemberFacts, state: Option<PeerState>) -> bool {
        self.member_by_key.insert(facts.key.clone(), facts.id.clone());
        if let Some(member) = self.members.get_mut(&facts.id) {
            if member.facts.key != facts.key {
                self.member_by_key.remove(&member.facts.key);
            }
            member.facts = facts;
            return false;
        }
        self.members.insert(facts.id.clone(), MemberState::new(facts, state));
        true
    }

    /// Takes a member out with all of its sessions.
    pub fn remove_member(&mut self, id: &MemberId) -> Option<RemovedMember> {
        let sessions: Vec<_> = self.ordinals_of(id).to_vec();
        let announced = sessions
            .iter()
            .any(|ordinal| self.sessions.get(ordinal).is_some_and(is_shown));
        let mut audience = Vec::new();
        if announced {
            audience = self.audience(id, Capability::Read, None);
            audience.retain(|presence| {
                self.session(presence)
                    .is_some_and(|session| session.facts.member != *id)
            });
        }
        let sessions = sessions.into_iter().filter_map(|ordinal| self.take_session(ordinal));
        let sessions = sessions.map(|session| session.facts.presence).collect();
        let member = self.members.remove(id)?;
        self.member_by_key.remove(&member.facts.key);
        Some(RemovedMember {
            member,
            sessions,
            audience,
        })
    }

    /// A member by its row.
    #[must_use]
    pub fn member(&self, id: &MemberId) -> Option<&MemberState> {
        self.members.get(id)
    }

    /// A member by its key, which is in lower case.
    #[must_use]
    pub fn member_by_key(&self, key: &str) -> Option<&MemberState> {
        self.members.get(self.member_by_key.get(key)?)
    }

    /// All members, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = &MemberState> {
        self.members.values()
    }

    /// A live session.
    #[must_use]
    pub fn session(&self, presence: &PresenceId) -> Option<&Session> {
        self.sessions.get(self.ordinal_by_presence.get(presence)?)
    }

    /// The newest live session with this key, which is in lower case; observers are not found.
    #[must_use]
    pub fn session_by_key(&self, key: &str) -> Option<&Session> {
        let ordinals = self.ordinals_by_session_key.get(key)?;
        ordinals
            .iter()
            .rev()
            .filter_map(|ordinal| self.sessions.get(ordinal))
            .find(|session| !session.facts.observer)
    }

    /// All live sessions, observers included, in the order in which they connected.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    /// Live sessions of a member, observers left out, in the order in which they connected.
    pub fn sessions_of(&self, member: &MemberId) -> impl DoubleEndedIterator<Item = &Session> {
        let sessions = self
            .ordinals_of(member)
            .iter()
            .filter_map(|ordinal| self.sessions.get(ordinal));
        sessions.filter(|session| !session.facts.observer)
    }

    /// Live sessions of a member, observers included.
    pub fn connections_of(&self, member: &MemberId) -> impl Iterator<Item = &Session> {
        self.ordinals_of(member)
            .iter()
            .filter_map(|ordinal| self.sessions.get(ordinal))
    }

    /// Number of live sessions, observers included: what a limit on connections counts.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.sessions.len()
    }

    /// Whether a session of the member, observers aside, is connected.
    #[must_use]
    pub fn is_online(&self, member: &MemberId) -> bool {
        self.sessions_of(member).next().is_some()
    }

    /// What delivery has to know of a session.
    #[must_use]
    pub fn session_view(&self, presence: &PresenceId) -> Option<SessionView> {
        self.session(presence).map(Session::view)
    }

    /// Whether the member may call operations of this class. Whoever is not a member may do nothing.
    #[must_use]
    pub fn permission(&self, member: &MemberId, permission: Permission) -> bool {
        self.member(member).is_some_and(|member| member.may(permission))
    }

    /// Whether `owner` lets `other` do something.
    #[must_use]
    pub fn allows(&self, owner: &MemberId, other: &MemberId, capability: Capability) -> bool {
        match (self.member(owner), self.member(other)) {
            (Some(owner), Some(other)) => owner.grants(&other.facts.key, capability),
            _ => false,
        }
    }

    /// Name of a session: its own, else its member's as it is now.
    #[must_use]
    pub fn display_name(&self, session: &Session) -> String {
        let own = session.facts.display_name.clone().filter(|name| !name.is_empty());
        own.or_else(|| Some(self.member(&session.facts.member)?.facts.name.clone()))
            .unwrap_or_default()
    }

    /// Registers a session of a known member at this time (wall clock); `None` if there is no such member or the session is registered already.
    ///
    /// Groups: those it asks for, else those the member left with, else the member's default ones. The summary is in
    /// force again when the member comes back, not when it opens one more session beside a live one.
    pub fn connect(&mut self, facts: SessionFacts, now_ms: i64) -> Option<Connected> {
        if self.ordinal_by_presence.contains_key(&facts.presence) {
            return None;
        }
        let alone = !self.is_online(&facts.member);
        let member = self.members.get_mut(&facts.member)?;
        let asked = unique_groups(facts.groups.clone());
        let groups_restored = asked.is_empty() && !member.state.groups.is_empty();
        let groups = if asked.is_empty() {
            member.resting_groups().to_vec()
        } else {
            asked
        };
        let visible = facts.visible.unwrap_or(member.state.visible);
        let summary = if alone && !facts.observer {
            member.state.summary.clone()
        } else {
            String::new()
        };
        let restored = member.seen_before;
        let stats_base = member.state.stats;
        let last_seen_ms = member.state.last_seen_ms;
        let profile = member.state.profile.clone();
        if !facts.observer {
            member.seen_before = true;
            member.state.groups.clone_from(&groups);
            member.state.visible = visible;
            member.state.display_name.clone_from(&facts.display_name);
        }

        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        let (presence, member, observer) = (facts.presence.clone(), facts.member.clone(), facts.observer);
        self.ordinal_by_presence.insert(presence.clone(), ordinal);
        self.ordinals_by_member.entry(member.clone()).or_default().push(ordinal);
        if let Some(key) = &facts.session_key {
            self.ordinals_by_session_key
                .entry(key.clone())
                .or_default()
                .push(ordinal);
        }
        let session = Session {
            facts,
            ordinal,
            connected_at_ms: now_ms,
            status: StatusRecord::new(),
            groups: groups.clone(),
            visible,
            summary: summary.clone(),
            stats_base,
            stats_counted: Stats::default(),
        };
        let announced = is_shown(&session);
        self.sessions.insert(ordinal, session);
        let audience = if announced {
            self.audience(&member, Capability::Read, Some(&presence))
        } else {
            Vec::new()
        };
        Some(Connected {
            restored,
            returned: restored && alone && !observer,
            groups,
            groups_restored,
            summary,
            visible,
            profile,
            stats_base,
            last_seen_ms,
            audience,
        })
    }

    /// Takes a session out at this time (wall clock). What the member left with is what its last session had.
    pub fn disconnect(&mut self, presence: &PresenceId, now_ms: i64) -> Option<Disconnected> {
        let ordinal = *self.ordinal_by_presence.get(presence)?;
        let session = self.take_session(ordinal)?;
        let id = session.facts.member.clone();
        let last_of_member = !session.facts.observer && !self.is_online(&id);
        let audience = if is_shown(&session) {
            self.audience(&id, Capability::Read, None)
        } else {
            Vec::new()
        };
        let mut save = None;
        if !session.facts.observer
            && let Some(member) = self.members.get_mut(&id)
        {
            if last_of_member {
                let state = &mut member.state;
                state.groups.clone_from(&session.groups);
                state.visible = session.visible;
                // One that said nothing does not wipe out what another session of the member has said.
                if !session.summary.is_empty() {
                    state.summary.clone_from(&session.summary);
                }
                state.display_name.clone_from(&session.facts.display_name);
                state.last_seen_ms = Some(now_ms);
            }
            save = Some(member.state.clone());
        }
        Some(Disconnected {
            session,
            last_of_member,
            save,
            audience,
        })
    }

    /// Records what a session says it is doing.
    pub fn set_status(&mut self, presence: &PresenceId, status: PeerStatus, now: Now) -> Option<StatusRecord> {
        let fresh = self.settings.fresh_window_ms;
        let session = self.session_mut(presence)?;
        session
            .status
            .write(status, StatusSource::Manual, now.lasting_ms(), fresh);
        Some(session.status)
    }

    /// Records what a hook of a session's host program says; a session that does not want to be disturbed stays so.
    pub fn hook_status(&mut self, presence: &PresenceId, status: PeerStatus, now: Now) -> Option<StatusRecord> {
        let fresh = self.settings.fresh_window_ms;
        let session = self.session_mut(presence)?;
        session.status.hook(status, now.lasting_ms(), fresh);
        Some(session.status)
    }

    /// The session that a hook of this member speaks for: the one with the host program's session id, else the one
    /// with this directory and process id, else the newest with this directory. Other members' are never found.
    #[must_use]
    pub fn hook_match(
        &self,
        member: &MemberId,
        cwd: &str,
        pid: Option<i64>,
        session_id: Option<&str>,
    ) -> Option<&Session> {
        let newest = |wanted: &dyn Fn(&Session) -> bool| self.sessions_of(member).rev().find(|session| wanted(session));
        session_id
            .filter(|id| !id.is_empty())
            .and_then(|id| newest(&|session| session.facts.session_id == id))
            .or_else(|| pid.and_then(|pid| newest(&|session| session.facts.pid == pid && session.facts.cwd == cwd)))
            .or_else(|| newest(&|session| session.facts.cwd == cwd))
    }

    /// Ends each `working` that nobody has confirmed in time. Returns the sessions that became idle.
    pub fn sweep(&mut self, now: Now) -> Vec<PresenceId> {
        let Settings {
            status_ttl_ms,
            fresh_window_ms,
        } = self.settings;
        let sessions = self.sessions.values_mut();
        let flipped = sessions.filter_map(|session| {
            session
                .status
                .expire(now.lasting_ms(), status_ttl_ms, fresh_window_ms)
                .then(|| session.facts.presence.clone())
        });
        flipped.collect()
    }

    /// Sets what a session is working on; empty removes it.
    pub fn set_summary(&mut self, presence: &PresenceId, summary: &str) -> Option<()> {
        let session = self.session_mut(presence)?;
        summary.clone_into(&mut session.summary);
        if let Some(state) = self.state_to_keep(presence) {
            summary.clone_into(&mut state.summary);
        }
        Some(())
    }

    /// Shows or hides a session. Returns whether that changed anything.
    pub fn set_visible(&mut self, presence: &PresenceId, visible: bool) -> Option<bool> {
        let session = self.session_mut(presence)?;
        let changed = session.visible != visible;
        session.visible = visible;
        if let Some(state) = self.state_to_keep(presence) {
            state.visible = visible;
        }
        Some(changed)
    }

    /// Changes what the session's member tells about itself: given fields replace, empty ones remove.
    pub fn set_profile(&mut self, presence: &PresenceId, change: &SetProfile) -> Option<Profile> {
        let member = self.session(presence)?.facts.member.clone();
        let profile = &mut self.members.get_mut(&member)?.state.profile;
        let text = |field: &mut Option<String>, new: &Option<String>| {
            if let Some(new) = new {
                *field = Some(new.clone()).filter(|text| !text.is_empty());
            }
        };
        text(&mut profile.avatar, &change.avatar);
        text(&mut profile.title, &change.title);
        text(&mut profile.bio, &change.bio);
        if let Some(capabilities) = &change.capabilities {
            profile.capabilities.clone_from(capabilities);
        }
        Some(profile.clone())
    }

    /// Puts a session into a group, or changes its role there. Returns its groups.
    ///
    /// # Errors
    /// `not_connected` if there is no such session, `too_large` if it is in as many groups as it may.
    pub fn join_group(
        &mut self,
        presence: &PresenceId,
        name: &GroupName,
        role: Option<String>,
    ) -> Result<Vec<Group>, ErrorFrame> {
        let gone = || ErrorFrame::new(ErrorCode::NotConnected, "this session is not connected");
        let session = self.session_mut(presence).ok_or_else(gone)?;
        let full = session.groups.len() >= MAX_GROUPS_PER_SESSION;
        match session.groups.iter_mut().find(|group| group.name == *name) {
            Some(group) => group.role = role,
            None if full => {
                let text = format!("a session may be in {MAX_GROUPS_PER_SESSION} groups; leave one first");
                return Err(ErrorFrame::new(ErrorCode::TooLarge, text).at("/name"));
            }
            None => session.groups.push(Group {
                name: name.clone(),
                role,
            }),
        }
        let groups = session.groups.clone();
        self.keep_groups(presence, &groups);
        Ok(groups)
    }

    /// Takes a session out of a group. Returns whether it was in it, and its groups.
    pub fn leave_group(&mut self, presence: &PresenceId, name: &GroupName) -> Option<(bool, Vec<Group>)> {
        let session = self.session_mut(presence)?;
        let before = session.groups.len();
        session.groups.retain(|group| group.name != *name);
        let (was_member, groups) = (session.groups.len() < before, session.groups.clone());
        self.keep_groups(presence, &groups);
        Some((was_member, groups))
    }

    /// Takes in a session's counters: the base that it was given plus what it did. Only what is new since its last
    /// report goes into the member's totals, so that repeating a report or reconnecting never doubles, and sessions
    /// side by side add up. Returns the totals.
    pub fn set_stats(&mut self, presence: &PresenceId, reported: Stats) -> Option<Stats> {
        let session = self.session_mut(presence)?;
        let (base, counted) = (session.stats_base, session.stats_counted);
        let id = session.facts.member.clone();
        let done = each_counter(reported, base, u64::saturating_sub);
        let new = each_counter(done, counted, u64::saturating_sub);
        session.stats_counted = each_counter(counted, new, u64::saturating_add);
        let member = self.members.get_mut(&id)?;
        member.state.stats = each_counter(member.state.stats, new, u64::saturating_add);
        member.state.stats.uptime = reported.uptime;
        Some(member.state.stats)
    }

    /// Merges into what a member lets others do; `None` removes an entry. Returns the whole.
    pub fn set_grants(&mut self, member: &MemberId, change: &GrantMap) -> Option<&BTreeMap<KeyHex, Vec<Capability>>> {
        let grants = &mut self.members.get_mut(member)?.facts.grants;
        for (key, capabilities) in change {
            match capabilities {
                Some(capabilities) => grants.insert(key.clone(), capabilities.clone()),
                None => grants.remove(key),
            };
        }
        Some(grants)
    }

    /// Groups of a member: those of its live sessions, else those it left with, else its default ones.
    #[must_use]
    pub fn groups_of(&self, member: &MemberId) -> Vec<Group> {
        let mut live = self.sessions_of(member).peekable();
        if live.peek().is_some() {
            return unique_groups(live.flat_map(|session| session.groups.iter().cloned()).collect());
        }
        self.member(member)
            .map(|member| member.resting_groups().to_vec())
            .unwrap_or_default()
    }

    /// What to save of a member now.
    #[must_use]
    pub fn peer_state(&self, member: &MemberId) -> Option<&PeerState> {
        self.member(member).map(|member| &member.state)
    }

    /// Checks that the indexes agree with the sessions; for tests.
    ///
    /// # Panics
    /// If they do not.
    pub fn invariants(&self) {
        assert_eq!(self.ordinal_by_presence.len(), self.sessions.len());
        assert_eq!(self.member_by_key.len(), self.members.len());
        assert_eq!(
            self.ordinals_by_member.values().map(Vec::len).sum::<usize>(),
            self.sessions.len()
        );
        for (ordinal, session) in &self.sessions {
            assert_eq!(self.ordinal_by_presence.get(&session.facts.presence), Some(ordinal));
            assert!(self.members.contains_key(&session.facts.member));
            assert!(self.ordinals_of(&session.facts.member).contains(ordinal));
            if let Some(key) = &session.facts.session_key {
                assert!(self.ordinals_by_session_key[key].contains(ordinal));
            }
        }
    }

    fn ordinals_of(&self, member: &MemberId) -> &[u64] {
        self.ordinals_by_member.get(member).map_or(&[], Vec::as_slice)
    }

    fn session_mut(&mut self, presence: &PresenceId) -> Option<&mut Session> {
        self.sessions.get_mut(self.ordinal_by_presence.get(presence)?)
    }

    /// The member's saved state, if what this session says is kept in it: observers leave no trace.
    fn state_to_keep(&mut self, presence: &PresenceId) -> Option<&mut PeerState> {
        let facts = &self.session(presence)?.facts;
        let member = (!facts.observer).then(|| facts.member.clone())?;
        Some(&mut self.members.get_mut(&member)?.state)
    }

    fn keep_groups(&mut self, presence: &PresenceId, groups: &[Group]) {
        if let Some(state) = self.state_to_keep(presence) {
            groups.clone_into(&mut state.groups);
        }
    }

    fn take_session(&mut self, ordinal: u64) -> Option<Session> {
        let session = self.sessions.remove(&ordinal)?;
        self.ordinal_by_presence.remove(&session.facts.presence);
        forget(&mut self.ordinals_by_member, &session.facts.member, ordinal);
        if let Some(key) = &session.facts.session_key {
            forget(&mut self.ordinals_by_session_key, key, ordinal);
        }
        Some(session)
    }
}

/// Whether other members are told of the session.
pub(super) fn is_shown(session: &Session) -> bool {
    session.visible && !session.facts.observer
}

fn forget<K: std::hash::Hash + Eq>(index: &mut HashMap<K, Vec<u64>>, key: &K, ordinal: u64) {
    if let Some(ordinals) = index.get_mut(key) {
        ordinals.retain(|&other| other != ordinal);
        if ordinals.is_empty() {
            index.remove(key);
        }
    }
}

/// The groups without repetitions; the first mention of a name counts.
fn unique_groups(groups: Vec<Group>) -> Vec<Group> {
    let mut unique: Vec<Group> = Vec::with_capacity(groups.len());
    for group in groups {
        if !unique.iter().any(|other| other.name == group.name) {
            unique.push(group);
        }
    }
    unique
}

/// Combines the counters of two reports; the uptime stays that of the first.
fn each_counter(a: Stats, b: Stats, combine: fn(u64, u64) -> u64) -> Stats {
    Stats {
        messages_in: combine(a.messages_in, b.messages_in),
        messages_out: combine(a.messages_out, b.messages_out),
        tool_calls: combine(a.tool_calls, b.tool_calls),
        errors: combine(a.errors, b.errors),
        uptime: a.uptime,
    }
}
