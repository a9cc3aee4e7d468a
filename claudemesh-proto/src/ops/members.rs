//! Members of the mesh and what they let each other do.

use crate::model::{Capability, KeyHex, Member, MemberId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Lists every member of the mesh, online or not. Names are resolved to keys with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListMembers {}

/// The members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MembersList {
    /// One entry per member, in the order in which they joined.
    pub members: Vec<Member>,
}

/// Removes a member from the mesh and ends its sessions. Admins may remove members, the owner may remove anybody else,
/// and everybody may remove themselves. Messages that wait for it end as `revoked`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoveMember {
    /// The member.
    pub member_id: MemberId,
}

/// The member is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberRemoved {
    /// The member.
    pub member_id: MemberId,
}

/// What the caller lets other members do, by their member key. `null` removes an entry; an empty list blocks.
pub type GrantMap = BTreeMap<KeyHex, Option<Vec<Capability>>>;

/// Changes what the caller lets other members do. Entries are merged into the existing ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetGrants {
    /// The entries to change.
    #[schemars(length(max = 1000))]
    pub grants: GrantMap,
}

/// Reads what the caller lets other members do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GetGrants {}

/// What the caller lets other members do. Whoever has no entry may `read`, `dm`, `broadcast` and `state-read`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Grants {
    /// Capabilities by member key.
    pub grants: BTreeMap<KeyHex, Vec<Capability>>,
}
