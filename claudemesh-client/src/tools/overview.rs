//! The tools `list_peers` and `message_status`, whose arguments are not the wire request.

use crate::{ClientError, MeshClient};
use claudemesh_proto::ops::{ListPeers, MessageStatus, MessageStatusResult};
use claudemesh_proto::tools::{ListPeersTool, MeshPeers, MessageStatusTool, PeersByMesh};

impl MeshClient {
    /// The tool `list_peers` for this mesh.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`], and [`ClientError::InvalidArgument`] for the slug of another mesh.
    pub async fn list_peers_tool(&self, params: ListPeersTool) -> Result<PeersByMesh, ClientError> {
        let slug = &self.identity().slug;
        if params.mesh_slug.as_ref().is_some_and(|wanted| wanted != slug) {
            return Err(ClientError::invalid(
                "mesh_slug",
                format!("this connection is to {slug}"),
            ));
        }
        let peers = self.request(ListPeers {}).await?.peers;
        Ok(PeersByMesh {
            meshes: vec![MeshPeers {
                mesh: slug.clone(),
                peers,
                error: None,
            }],
        })
    }

    /// The tool `message_status`.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`].
    pub async fn message_status_tool(&self, params: MessageStatusTool) -> Result<MessageStatusResult, ClientError> {
        self.request(MessageStatus {
            message_id: params.id.into(),
        })
        .await
    }
}
