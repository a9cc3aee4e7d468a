//! Between rows of the store and live state.

use claudemesh_proto::model::{MemberId, MeshId, Timestamp};

use crate::mesh::{MemberFacts, MeshFacts, PeerState};
use crate::store::{MemberRow, MeshRow, PeerStateRow};

/// The facts of a mesh.
pub(super) fn mesh_facts(row: &MeshRow) -> MeshFacts {
    MeshFacts {
        id: row.id.clone(),
        slug: row.slug.clone(),
        name: row.name.clone(),
        owner_key: Some(row.owner_pubkey.clone()),
        policy: row.policy,
    }
}

/// The facts of a member.
pub(super) fn member_facts(row: MemberRow) -> MemberFacts {
    MemberFacts {
        id: row.id,
        key: row.pubkey,
        name: row.display_name,
        role: row.role,
        is_owner: row.is_owner,
        permissions: row.permissions,
        role_tag: row.role_tag,
        default_groups: row.default_groups,
        message_mode: row.message_mode,
        grants: row.peer_grants,
        joined_at_ms: row.joined_at.as_ms(),
        dashboard_user_id: row.dashboard_user_id,
    }
}

/// What a member left with.
pub(super) fn peer_state(row: &PeerStateRow) -> PeerState {
    PeerState {
        groups: row.groups.clone(),
        profile: row.profile.clone(),
        visible: row.visible,
        summary: row.last_summary.clone().unwrap_or_default(),
        display_name: row.last_display_name.clone(),
        stats: row.stats,
        last_seen_ms: Some(row.last_seen_at.as_ms()),
    }
}

/// What a member leaves with, as a row. While it is connected "last seen" is now.
pub(super) fn peer_state_row(mesh: &MeshId, member: &MemberId, state: &PeerState, now: i64) -> PeerStateRow {
    PeerStateRow {
        mesh_id: mesh.clone(),
        member_id: member.clone(),
        groups: state.groups.clone(),
        profile: state.profile.clone(),
        visible: state.visible,
        last_summary: Some(state.summary.clone()).filter(|summary| !summary.is_empty()),
        last_display_name: state.display_name.clone(),
        stats: state.stats,
        last_seen_at: Timestamp::from_ms(state.last_seen_ms.unwrap_or(now)),
    }
}
