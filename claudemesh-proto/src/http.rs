//! Bodies of the broker's HTTP endpoints.
//!
//! Endpoints that act for a member carry a signed request in the `Authorization` header
//! (`claudemesh_crypto::SignedRequest`): the broker believes no id in a header or body.

use crate::model::{
    Group, HexSignature, KeyHex, Member, MemberId, MeshId, MeshPolicy, MessageMode, PeerStatus, Permissions, Role,
    SelfEditable, Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answer to a failed request: the original's two members, and the typed error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpError {
    /// Always `false`.
    pub ok: bool,
    /// What went wrong: a code of the original where it had one, else a text.
    pub error: String,
    /// What went wrong, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<crate::ErrorCode>,
    /// What went wrong, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How long to wait before the next try, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// `GET /health` and `GET /health/ready`. Status 200 if ready, 503 if not. `GET /health/live` is 200 while the process runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// `ok` or `degraded`.
    pub status: String,
    /// `up` or `down`.
    pub db: String,
    /// The broker's version.
    pub version: String,
    /// Commit that it was built from, or `unknown`.
    #[serde(rename = "gitSha")]
    pub git_sha: String,
    /// Whole seconds since it started.
    pub uptime: u64,
}

/// `POST /hook/set-status`, signed by a member key: changes the status of that member's sessions only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookStatus {
    /// Working directory of the session.
    #[schemars(length(min = 1, max = 4096))]
    pub cwd: String,
    /// What the session is doing.
    pub status: PeerStatus,
    /// Process id of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i64>,
    /// Identifier that the host program gave the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub session_id: Option<String>,
}

/// Answer to [`HookStatus`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookStatusResult {
    /// Always `true`.
    pub ok: bool,
    /// The session that was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_id: Option<String>,
    /// No session matched; the status is applied to one that connects within ten seconds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
}

/// `POST /join`: enrols a key with an invite token of version 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Join {
    /// The token, verbatim.
    #[schemars(length(min = 1, max = 4096))]
    pub invite_token: String,
    /// The token's payload.
    pub invite_payload: serde_json::Value,
    /// The key to enrol.
    pub peer_pubkey: KeyHex,
    /// Name of the new member.
    #[schemars(length(min = 1, max = 128))]
    pub display_name: String,
}

/// Answer to [`Join`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// Always `true`.
    pub ok: bool,
    /// The member's row.
    pub member_id: MemberId,
    /// Whether the key was a member already; the invite was not used then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already_member: bool,
}

/// `POST /invites/:code/claim`: enrols a key with an invite code of version 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// Fresh X25519 key that the mesh's root key is sealed to, base64url without padding.
    #[schemars(length(min = 32, max = 64))]
    pub recipient_x25519_pubkey: String,
    /// The ed25519 key to enrol. Original clients leave it out and cannot be enrolled this way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_pubkey: Option<KeyHex>,
    /// Name of the new member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub display_name: Option<String>,
}

/// Answer to [`Claim`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Claimed {
    /// The mesh's root key, sealed.
    pub sealed_root_key: String,
    /// The mesh.
    pub mesh_id: MeshId,
    /// The member's row.
    pub member_id: MemberId,
    /// The owner's key, as the broker knows it.
    pub owner_pubkey: KeyHex,
    /// Signed text of the invite.
    pub canonical_v2: String,
    /// Signature of that text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<HexSignature>,
    /// Key that made the signature: the owner's or an admin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_pubkey: Option<KeyHex>,
    /// Slug of the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_slug: Option<String>,
    /// Name of the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_name: Option<String>,
    /// WebSocket address of the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_url: Option<String>,
    /// The new member's standing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Whether the key was a member already; the invite was not used then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already_member: bool,
}

/// `POST /cli/mesh/create`, signed by the owner key: the owner's secret stays with the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateMesh {
    /// Name of the mesh.
    #[schemars(length(min = 1, max = 80))]
    pub name: String,
    /// Slug to use; made from the name if absent. `-2`, `-3`, … is added if it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub slug: Option<String>,
    /// The owner's key: signs invites and the roster.
    pub owner_pubkey: KeyHex,
    /// Member key of the owner.
    pub pubkey: KeyHex,
    /// Name of the owner as a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub display_name: Option<String>,
}

/// Answer to [`CreateMesh`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeshCreated {
    /// The mesh.
    pub id: MeshId,
    /// Its slug on this broker.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// The owner's row as a member.
    pub member_id: MemberId,
    /// WebSocket address of the broker.
    pub broker_url: String,
}

/// `POST /mesh/:id/invites`, signed by the member key of the owner or an admin with `canInvite`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateInvite {
    /// Row of the invite, chosen by the issuer.
    #[schemars(length(min = 16, max = 64), regex(pattern = "^[0-9A-Za-z]+$"))]
    pub invite_id: String,
    /// Short code, chosen by the issuer.
    #[schemars(length(min = 6, max = 32), regex(pattern = "^[0-9A-Za-z]+$"))]
    pub code: String,
    /// Standing of who joins with it. Only the owner may invite admins.
    pub role: Role,
    /// When it ends, in seconds since the Unix epoch; at most a year ahead.
    pub expires_at: i64,
    /// How many may join with it (1 to 1000).
    #[schemars(range(min = 1, max = 1000))]
    pub max_uses: u32,
    /// Signed text of version 2.
    #[schemars(length(max = 1024))]
    pub canonical_v2: String,
    /// Signature of it by `issuer_pubkey`.
    pub signature: HexSignature,
    /// The owner's key, or the caller's member key.
    pub issuer_pubkey: KeyHex,
    /// SHA-256 of a version 1 token for the same invite; the broker never sees the token before it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub token_hash: Option<String>,
    /// Public key of the link's secret, as the group log knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite_key: Option<KeyHex>,
    /// What new members start with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<InvitePreset>,
}

/// What members who join with an invite start with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct InvitePreset {
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub display_name: Option<String>,
    /// Label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub role_tag: Option<String>,
    /// Groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub groups: Vec<Group>,
    /// How to be told of messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_mode: Option<MessageMode>,
}

/// Answer to [`CreateInvite`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InviteCreated {
    /// Always `true`.
    pub ok: bool,
    /// The short code.
    pub code: String,
    /// Link to it on this broker, without the secret part.
    pub url: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// `GET /mesh/:id/invites`, signed by the owner or an admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Invites {
    /// Always `true`.
    pub ok: bool,
    /// Invites that may still be used, the newest first.
    pub invites: Vec<Invite>,
}

/// An invite that may still be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Invite {
    /// Row of the invite.
    pub id: String,
    /// Short code.
    pub code: String,
    /// Standing of who joins with it.
    pub role: Role,
    /// When it ends.
    pub expires_at: Timestamp,
    /// How many may join with it.
    pub max_uses: u32,
    /// How many have.
    pub used_count: u32,
    /// When it was made.
    pub created_at: Timestamp,
}

/// `GET /mesh/:id/members`, signed by any member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Members {
    /// Always `true`.
    pub ok: bool,
    /// The members.
    pub members: Vec<Member>,
}

/// `PATCH /mesh/:id/member/:memberId`, signed by the member itself (fields that the mesh's policy allows) or an admin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PatchMember {
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub display_name: Option<String>,
    /// Label; empty removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub role_tag: Option<String>,
    /// Default groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub groups: Option<Vec<Group>>,
    /// How to be told of messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_mode: Option<MessageMode>,
    /// Standing; admins only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<Role>,
    /// Exceptions from what the standing allows; admins only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
}

/// Answer to [`PatchMember`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemberPatched {
    /// Always `true`.
    pub ok: bool,
    /// The member now.
    pub member: Member,
    /// The profile fields that changed.
    pub changes: serde_json::Value,
}

/// `PATCH /mesh/:id/settings`, signed by an admin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PatchSettings {
    /// Which fields members may edit themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_editable: Option<SelfEditable>,
}

/// Answer to [`PatchSettings`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsPatched {
    /// Always `true`.
    pub ok: bool,
    /// The rules now.
    pub policy: MeshPolicy,
}

/// Answer to a request that has nothing to tell but that it worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// Always `true`.
    pub ok: bool,
}

/// `POST /upload?mesh=…&file=…&offset=…`, signed by the member that began the upload: one part of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartTaken {
    /// Always `true`.
    pub ok: bool,
    /// The file.
    pub file_id: String,
    /// How many of its bytes are safe.
    pub received: u64,
}

/// Header of a request whose body is not read before its signature is checked: the body's SHA-256, in hexadecimal.
pub const CONTENT_SHA256: &str = "x-content-sha256";
