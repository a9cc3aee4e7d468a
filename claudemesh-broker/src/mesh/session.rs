//! One live session: one accepted `hello`.

use super::StatusRecord;
use claudemesh_proto::model::{Group, GroupName, KeyHex, MemberId, PeerStatus, PresenceId, Stats};

/// What a session says about itself in `hello`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFacts {
    /// Its row.
    pub presence: PresenceId,
    /// Its member.
    pub member: MemberId,
    /// Key of this session, in lower case.
    pub session_key: Option<KeyHex>,
    /// Name of this session; the member's if absent.
    pub display_name: Option<String>,
    /// Identifier that its host program gave.
    pub session_id: String,
    /// Process id on its machine.
    pub pid: i64,
    /// Its working directory.
    pub cwd: String,
    /// Its machine.
    pub hostname: Option<String>,
    /// `ai`, `human`, `connector` or `bridge`.
    pub peer_type: Option<String>,
    /// Where it comes from.
    pub channel: Option<String>,
    /// The model behind it.
    pub model: Option<String>,
    /// Groups that it asks for; those it left with if empty.
    pub groups: Vec<Group>,
    /// Visibility that it asks for; that of the member's last session if absent.
    pub visible: Option<bool>,
    /// Protocol version of its client.
    pub protocol: u32,
    /// What its client can do.
    pub caps: Vec<String>,
    /// A one-shot connection: never listed, announced or counted, and gets no mail unless it asks.
    pub observer: bool,
}

/// One live session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What it said about itself; `groups` and `visible` in it are as asked for, not as in force.
    pub facts: SessionFacts,
    /// Counts the sessions of the mesh: a later one has a larger number.
    pub ordinal: u64,
    /// When it connected, by the wall clock.
    pub connected_at_ms: i64,
    /// What it is doing.
    pub status: StatusRecord,
    /// Groups that it is in.
    pub groups: Vec<Group>,
    /// Whether it is shown to others.
    pub visible: bool,
    /// What it is working on; empty if it did not say.
    pub summary: String,
    /// The member's totals when it connected: its reports start from here.
    pub stats_base: Stats,
    /// How much of what it did is in the member's totals already.
    pub(super) stats_counted: Stats,
}

impl Session {
    /// Whether its client announced `cap`.
    #[must_use]
    pub fn has_cap(&self, cap: &str) -> bool {
        self.facts.caps.iter().any(|have| have == cap)
    }

    /// What delivery has to know of it.
    #[must_use]
    pub fn view(&self) -> SessionView {
        SessionView {
            presence: self.facts.presence.clone(),
            member: self.facts.member.clone(),
            key: self.facts.session_key.clone(),
            ordinal: self.ordinal,
            status: self.status.status,
            visible: self.visible,
            groups: self.groups.iter().map(|group| group.name.clone()).collect(),
            observer: self.facts.observer,
            acks: self.has_cap(claudemesh_proto::hello::caps::ACK),
            pulls: self.facts.protocol >= 2,
        }
    }
}

/// What delivery has to know of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its row.
    pub presence: PresenceId,
    /// Its member.
    pub member: MemberId,
    /// Its key.
    pub key: Option<KeyHex>,
    /// Place in the order of connection.
    pub ordinal: u64,
    /// What it is doing.
    pub status: PeerStatus,
    /// Whether it gets group and broadcast messages.
    pub visible: bool,
    /// Groups that it is in.
    pub groups: Vec<GroupName>,
    /// Gets nothing unless it pulls.
    pub observer: bool,
    /// Acknowledges messages; one that does not counts as having what was pushed to it.
    pub acks: bool,
    /// Can pull; one that cannot (protocol 1) gets `low` messages pushed when it is idle.
    pub pulls: bool,
}

/// Whether one of `groups` is `name` or below it: `backend/db` is in `backend`.
pub(super) fn is_in_group<'a>(groups: impl IntoIterator<Item = &'a GroupName>, name: &str) -> bool {
    groups
        .into_iter()
        .any(|group| group.with_ancestors().any(|level| level == name))
}
