//! Names of members and sessions.

use claudemesh_proto::model::{KeyHex, MemberId, PresenceId};

/// The group that messages are sent to; sessions are in it by way of a group below it.
pub const GROUP: &str = "team";
pub const BELOW: &str = "team/core";

pub fn member_id(member: usize) -> MemberId {
    MemberId(format!("member{member}"))
}

pub fn member_of(id: &MemberId) -> usize {
    id.as_str()["member".len()..].parse().unwrap()
}

pub fn member_key(member: usize) -> KeyHex {
    KeyHex(format!("{member:064x}"))
}

/// Key of a program of the member.
pub fn session_key(member: usize, place: usize) -> KeyHex {
    KeyHex(format!("{:064x}", 0x1000 + member * 16 + place))
}

pub fn presence(connection: u64) -> PresenceId {
    PresenceId(format!("s{connection}"))
}

pub fn connection_of(presence: &PresenceId) -> u64 {
    presence.as_str()[1..].parse().unwrap()
}
