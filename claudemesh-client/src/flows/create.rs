//! Creating a mesh.

use crate::http::BrokerHttp;
use crate::identity::key_hex;
use crate::secure::{KeyStore, SecureChannel};
use crate::{ClientError, Identity, MeshClient, MeshClientBuilder};
use claudemesh_crypto::SecretKey;
use claudemesh_crypto::group::HistoryPolicy;
use claudemesh_proto::http::CreateMesh;
use std::sync::Arc;

/// How a mesh is created.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Name of the mesh.
    pub name: String,
    /// Name of its first member, the owner; the broker gives one if absent.
    pub display_name: Option<String>,
    /// Short name of the mesh; made of its name if absent.
    pub slug: Option<String>,
    /// What later joiners may read of the messages to groups and to all from before. Cannot be changed afterwards.
    pub history: HistoryPolicy,
}

impl CreateOptions {
    /// A mesh of this name whose joiners may read everything.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            display_name: None,
            slug: None,
            history: HistoryPolicy::All,
        }
    }
}

/// A new mesh.
#[derive(Clone, Debug)]
pub struct Created {
    /// The owner as its first member. Store it: nobody else has the owner's key.
    pub identity: Identity,
    /// What later joiners may read. The first connection starts the group keys with it: make that with
    /// [`Created::builder`], or [`Created::remember`] it in the key store of that connection.
    pub history: HistoryPolicy,
}

impl Created {
    /// Settings of the first connection, which starts the group keys. Store the identity before.
    pub fn builder(&self) -> MeshClientBuilder {
        MeshClient::builder(self.identity.clone()).history(self.history)
    }

    /// Keeps the policy in a key store, for a first connection that another process makes. Do it before the identity is
    /// stored, so that nobody can connect without the policy.
    ///
    /// # Errors
    /// When the key store cannot be written.
    pub fn remember(&self, store: Arc<dyn KeyStore>) -> Result<(), ClientError> {
        SecureChannel::new(Arc::new(self.identity.clone()), SecretKey::generate(), store)
            .create_with_history(self.history)
    }
}

/// Creates a mesh on a broker. The owner's key and the first member's key are made here and never leave this machine.
///
/// # Errors
/// [`ClientError::InvalidArgument`] for a broker address that is none, the broker's refusal, [`ClientError::Http`].
pub async fn create_mesh(broker_url: &str, name: &str, display_name: Option<&str>) -> Result<Created, ClientError> {
    let options = CreateOptions {
        display_name: display_name.map(str::to_owned),
        ..CreateOptions::new(name)
    };
    create_mesh_with(broker_url, options).await
}

/// [`create_mesh`] with all that can be chosen.
///
/// # Errors
/// Those of [`create_mesh`].
pub async fn create_mesh_with(broker_url: &str, options: CreateOptions) -> Result<Created, ClientError> {
    let owner = SecretKey::generate();
    let member = SecretKey::generate();
    let request = CreateMesh {
        name: options.name,
        slug: options.slug,
        owner_pubkey: key_hex(&owner.public()),
        pubkey: key_hex(&member.public()),
        display_name: options.display_name.clone(),
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
            display_name: options.display_name,
        },
        history: options.history,
    })
}
