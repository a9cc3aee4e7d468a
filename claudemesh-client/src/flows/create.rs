//! Creating a mesh.

use crate::http::BrokerHttp;
use crate::identity::key_hex;
use crate::{ClientError, Identity};
use claudemesh_crypto::SecretKey;
use claudemesh_proto::http::CreateMesh;

/// A new mesh.
#[derive(Clone, Debug)]
pub struct Created {
    /// The owner as its first member. Store it: nobody else has the owner's key.
    pub identity: Identity,
}

/// Creates a mesh on a broker. The owner's key and the first member's key are made here and never leave this machine.
///
/// # Errors
/// [`ClientError::InvalidArgument`] for a broker address that is none, the broker's refusal, [`ClientError::Http`].
pub async fn create_mesh(broker_url: &str, name: &str, display_name: Option<&str>) -> Result<Created, ClientError> {
    let owner = SecretKey::generate();
    let member = SecretKey::generate();
    let request = CreateMesh {
        name: name.to_owned(),
        slug: None,
        owner_pubkey: key_hex(&owner.public()),
        pubkey: key_hex(&member.public()),
        display_name: display_name.map(str::to_owned),
    };
    let created = BrokerHttp::new(broker_url)?.create_mesh(&owner, &request).await?;
    Ok(Created {
        identity: Identity {
            mesh_id: created.id,
            member_id: created.member_id,
            slug: created.slug,
            name: created.name,
            member,
            broker_url: super::join::socket_url(broker_url, Some(&created.broker_url))?,
            owner_pubkey: Some(owner.public()),
            owner: Some(owner),
            display_name: display_name.map(str::to_owned),
        },
    })
}
