//! Groups of peers.

use crate::model::{Group, GroupName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Puts this session into a group, so that messages to `@name` reach it. Joining again replaces the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JoinGroup {
    /// Name of the group without `@`; `/` separates levels (`backend/db` also gets `@backend`).
    pub name: GroupName,
    /// What this session does there: `lead`, `member`, `observer` or any other word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub role: Option<String>,
}

/// The session's groups now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupJoined {
    /// The group that was joined.
    pub name: GroupName,
    /// All groups of the session.
    pub groups: Vec<Group>,
}

/// Takes this session out of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaveGroup {
    /// Name of the group without `@`.
    pub name: GroupName,
}

/// The session's groups now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupLeft {
    /// The group that was left.
    pub name: GroupName,
    /// Whether the session was in it.
    pub was_member: bool,
    /// All groups of the session.
    pub groups: Vec<Group>,
}
