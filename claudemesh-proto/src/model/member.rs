//! Members: keys enrolled in a mesh, online or not.

use super::{Group, KeyHex, MemberId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Standing of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Role {
    /// May use the mesh.
    #[default]
    Member,
    /// May also invite, edit and remove members.
    Admin,
}

impl Role {
    /// The wire text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}

/// How a member wants to be told of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum MessageMode {
    /// The whole message is put in front of the model.
    #[default]
    Push,
    /// The model is told that there is mail; it reads with `check_messages`.
    Inbox,
    /// Nothing is shown; messages wait for `check_messages`.
    Off,
}

/// What one member lets another do to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Capability {
    /// See me and my summary.
    Read,
    /// Send me direct messages.
    Dm,
    /// Reach me by group and broadcast messages.
    Broadcast,
    /// Read state that I wrote.
    StateRead,
    /// Change state that I wrote.
    StateWrite,
    /// Read files that I share.
    FileRead,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Dm,
        Self::Broadcast,
        Self::StateRead,
        Self::StateWrite,
        Self::FileRead,
    ];
    /// What a peer may do to whom it has no entry with.
    pub const DEFAULT: [Self; 4] = [Self::Read, Self::Dm, Self::Broadcast, Self::StateRead];

    /// The wire text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Dm => "dm",
            Self::Broadcast => "broadcast",
            Self::StateRead => "state-read",
            Self::StateWrite => "state-write",
            Self::FileRead => "file-read",
        }
    }
}

/// What a member may do in the mesh. Absent fields follow the member's role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Permissions {
    /// Create invites (owner and admins).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_invite: Option<bool>,
    /// Write shared state (everybody).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_write_state: Option<bool>,
    /// Send messages (everybody).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_send: Option<bool>,
    /// Call tools (everybody).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_use_tools: Option<bool>,
    /// Edit members' roles and permissions (owner and admins).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_manage_permissions: Option<bool>,
    /// Archive the mesh (owner).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_delete_mesh: Option<bool>,
}

/// Which fields of their own profile members may edit without an admin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SelfEditable {
    /// Their name.
    pub display_name: bool,
    /// Their role tag.
    pub role_tag: bool,
    /// Their default groups.
    pub groups: bool,
    /// Their message mode.
    pub message_mode: bool,
}

impl Default for SelfEditable {
    fn default() -> Self {
        Self {
            display_name: true,
            role_tag: true,
            groups: true,
            message_mode: true,
        }
    }
}

/// Rules of a mesh that its admins set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshPolicy {
    /// Which fields members may edit themselves.
    pub self_editable: SelfEditable,
}

/// A key enrolled in the mesh, online or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Row of the member.
    pub id: MemberId,
    /// Its key: what messages are addressed to.
    pub pubkey: KeyHex,
    /// Its name.
    pub display_name: String,
    /// Label that an admin gave, for example `backend`.
    #[serde(default)]
    pub role_tag: Option<String>,
    /// Groups that it is in: those of its live sessions, else those it left with, else its default groups.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// How it wants to be told of messages.
    #[serde(default)]
    pub message_mode: MessageMode,
    /// Its standing.
    pub permission: Role,
    /// Whether it owns the mesh.
    #[serde(default)]
    pub is_owner: bool,
    /// Whether a session of it is connected.
    pub online: bool,
    /// How many sessions of it are connected.
    #[serde(default)]
    pub session_count: u32,
    /// When it joined the mesh.
    pub joined_at: Timestamp,
    /// When its last session left; absent while one is connected, and before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
    /// Account in a dashboard, if the member came from one.
    #[serde(default)]
    pub dashboard_user_id: Option<String>,
}
