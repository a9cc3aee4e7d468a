//! The tool `forget`, whose argument has another name than that of the wire request.

use crate::{ClientError, MeshClient};
use claudemesh_proto::ops::Forget;
use claudemesh_proto::tools::{ForgetTool, Forgotten};

impl MeshClient {
    /// The tool `forget`.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`]: `not_found`, `forbidden` for other members' memories.
    pub async fn forget_tool(&self, params: ForgetTool) -> Result<Forgotten, ClientError> {
        let request = Forget {
            memory_id: params.id.clone(),
        };
        let reply = self.request(request).await?;
        Ok(Forgotten {
            id: params.id,
            forgotten: reply.forgotten,
        })
    }
}
