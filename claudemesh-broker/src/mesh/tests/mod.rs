//! Tests of the rules, by subject. `tests/mesh_delivery_sim.rs` checks that they hold together.

mod delivery;
mod mutants;
mod roster;
#[path = "../../../tests/sim/mod.rs"]
mod sim;
mod targets;
mod views;

use crate::mesh;

use super::{MemberFacts, Mesh, MeshFacts, PeerState, SessionFacts, Settings};
use claudemesh_proto::hello::caps;
use claudemesh_proto::model::{Group, GroupName, KeyHex, MemberId, PresenceId};

/// Key of a member or session: `seed` repeated, so that it is recognised in a failure.
fn key(seed: &str) -> KeyHex {
    let hex: String = seed.bytes().map(|byte| format!("{byte:02x}")).collect();
    KeyHex(hex.chars().cycle().take(64).collect())
}

fn member(name: &str) -> MemberFacts {
    MemberFacts {
        id: name.into(),
        key: key(name),
        name: name.to_owned(),
        ..MemberFacts::default()
    }
}

fn group(name: &str) -> Group {
    Group {
        name: GroupName::new(name),
        role: None,
    }
}

fn names(groups: &[Group]) -> Vec<&str> {
    groups.iter().map(|group| group.name.as_str()).collect()
}

/// A mesh with these members, none of whom has been connected.
fn mesh(members: &[&str]) -> Mesh {
    let mut mesh = Mesh::new(MeshFacts::default(), Settings::default());
    for name in members {
        mesh.upsert_member(member(name), None);
    }
    mesh
}

/// A mesh with one member that left with `state`.
fn mesh_with_state(name: &str, state: PeerState) -> Mesh {
    let mut mesh = mesh(&[]);
    mesh.upsert_member(member(name), Some(state));
    mesh
}

/// What a session of `member` says; its presence and session key are made from `presence`.
fn session(presence: &str, member: &str) -> SessionFacts {
    SessionFacts {
        presence: presence.into(),
        member: member.into(),
        session_key: Some(key(presence)),
        protocol: 2,
        caps: vec![caps::ACK.to_owned()],
        ..SessionFacts::default()
    }
}

fn id(text: &str) -> PresenceId {
    text.into()
}

fn member_id(text: &str) -> MemberId {
    text.into()
}
