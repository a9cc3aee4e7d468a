//! The tool `share_context`, whose arguments are spelled differently on the wire.

use crate::{ClientError, MeshClient};
use claudemesh_proto::ops::{ContextShared, ShareContext};
use claudemesh_proto::tools::ShareContextTool;

impl MeshClient {
    /// The tool `share_context`.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`].
    pub async fn share_context_tool(&self, params: ShareContextTool) -> Result<ContextShared, ClientError> {
        self.request(ShareContext {
            summary: params.summary,
            topic: params.topic,
            files_read: params.files_read,
            key_findings: params.key_findings,
            tags: params.tags,
        })
        .await
    }
}
