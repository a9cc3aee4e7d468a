//! Meshes: create, change, archive.

use super::BrokerHttp;
use crate::ClientError;
use claudemesh_crypto::SecretKey;
use claudemesh_proto::http::{CreateMesh, Done, MeshCreated, PatchSettings, SettingsPatched};
use claudemesh_proto::model::MeshId;
use reqwest::Method;

impl BrokerHttp {
    /// `POST /cli/mesh/create`, signed by the new mesh's owner key, which never leaves this machine.
    ///
    /// # Errors
    /// The broker's refusal, [`ClientError::Http`].
    pub async fn create_mesh(&self, owner: &SecretKey, request: &CreateMesh) -> Result<MeshCreated, ClientError> {
        self.send(Method::POST, "/cli/mesh/create", Some(request), Some(owner))
            .await
    }

    /// `PATCH /mesh/:id/settings`, signed by the owner or an admin.
    ///
    /// # Errors
    /// The broker's refusal, [`ClientError::Http`].
    pub async fn patch_settings(
        &self,
        signer: &SecretKey,
        mesh: &MeshId,
        request: &PatchSettings,
    ) -> Result<SettingsPatched, ClientError> {
        self.send(
            Method::PATCH,
            &format!("/mesh/{mesh}/settings"),
            Some(request),
            Some(signer),
        )
        .await
    }

    /// `DELETE /mesh/:id`, signed by the owner: archives the mesh and ends all of its sessions.
    ///
    /// # Errors
    /// The broker's refusal, [`ClientError::Http`].
    pub async fn archive_mesh(&self, signer: &SecretKey, mesh: &MeshId) -> Result<Done, ClientError> {
        self.send(Method::DELETE, &format!("/mesh/{mesh}"), None::<&()>, Some(signer))
            .await
    }
}
