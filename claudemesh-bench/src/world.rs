//! Meshes and members to put load on, made the way a program makes them.

use anyhow::Context as _;
use claudemesh_client::flows::{InviteOptions, create_invite, create_mesh, join};
use claudemesh_client::{Identity, MeshClient};
use futures_util::{StreamExt as _, stream};

use crate::broker::Broker;
use crate::wire::Member;

/// Joins that run beside each other.
const JOINS: usize = 8;

/// A mesh with members; the first is its owner, and the group keys exist.
pub(crate) struct World {
    /// The members.
    pub(crate) members: Vec<Member>,
}

impl World {
    /// Creates a mesh with so many members.
    pub(crate) async fn create(broker: &Broker, name: &str, members: usize) -> anyhow::Result<Self> {
        let owner = create_mesh(&broker.url(), name, Some("peer-0")).await?.identity;
        let client = MeshClient::connect(owner.clone()).await?;
        let options = InviteOptions {
            max_uses: u32::try_from(members.max(1))?,
            ..InviteOptions::default()
        };
        let invite = create_invite(&client, options).await?;
        // Broadcasts name the epoch of the group log: there has to be one.
        client
            .send_text("@all", "first", claudemesh_proto::model::Priority::Now)
            .await
            .ok();
        client.close().await;
        let link = invite.link;
        let joins = (1..members).map(|index| {
            let link = link.clone();
            async move { join(&link, &format!("peer-{index}"), None).await.context("joining") }
        });
        let joined: Vec<_> = stream::iter(joins).buffered(JOINS).collect().await;
        let mut all = vec![member(&owner)];
        for joined in joined {
            all.push(member(&joined?.identity));
        }
        Ok(Self { members: all })
    }
}

fn member(identity: &Identity) -> Member {
    Member {
        mesh: identity.mesh_id.to_string(),
        id: identity.member_id.to_string(),
        secret: identity.member.clone(),
        key: identity.key_hex().to_string(),
    }
}
