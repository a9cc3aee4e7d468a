//! Who a client is in one mesh.

use claudemesh_crypto::{PublicKey, SecretKey};
use claudemesh_proto::model::{KeyHex, MemberId, MeshId};
use std::fmt;

/// Membership in one mesh: the member key and where the broker is. `Debug` shows no secret.
#[derive(Clone)]
pub struct Identity {
    /// The mesh.
    pub mesh_id: MeshId,
    /// Row of the member.
    pub member_id: MemberId,
    /// Short name of the mesh, unique among those that the program has joined.
    pub slug: String,
    /// Name of the mesh.
    pub name: String,
    /// The member's key: proves membership, and is what messages are addressed to.
    pub member: SecretKey,
    /// WebSocket address of the broker (`wss://mesh.example.org/ws`).
    pub broker_url: String,
    /// Key of the mesh's owner, from the invite link or from creating the mesh: what the group log is checked against.
    pub owner_pubkey: Option<PublicKey>,
    /// The owner's secret key, at the owner's only.
    pub owner: Option<SecretKey>,
    /// Name of this member, if the program has one; the broker's record otherwise.
    pub display_name: Option<String>,
}

impl Identity {
    /// The member's public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.member.public()
    }

    /// The member's public key in the form of the wire.
    #[must_use]
    pub fn key_hex(&self) -> KeyHex {
        key_hex(&self.public())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("mesh_id", &self.mesh_id)
            .field("member_id", &self.member_id)
            .field("slug", &self.slug)
            .field("broker_url", &self.broker_url)
            .field("member", &self.public())
            .field("owner_pubkey", &self.owner_pubkey)
            .field("holds_owner_key", &self.owner.is_some())
            .finish_non_exhaustive()
    }
}

/// A key in the form of the wire.
pub(crate) fn key_hex(key: &PublicKey) -> KeyHex {
    KeyHex(key.to_string())
}
