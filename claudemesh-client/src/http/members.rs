//! Members: list, change, remove.

use super::BrokerHttp;
use crate::ClientError;
use claudemesh_crypto::SecretKey;
use claudemesh_proto::http::{Done, MemberPatched, Members, PatchMember};
use claudemesh_proto::model::{MemberId, MeshId};
use reqwest::Method;

impl BrokerHttp {
    /// `GET /mesh/:id/members`, signed by any member.
    ///
    /// # Errors
    /// The broker's refusal, [`ClientError::Http`].
    pub async fn list_members(&self, signer: &SecretKey, mesh: &MeshId) -> Result<Members, ClientError> {
        self.send(Method::GET, &format!("/mesh/{mesh}/members"), None::<&()>, Some(signer))
            .await
    }

    /// `PATCH /mesh/:id/member/:memberId`, signed by the member itself or an admin.
    ///
    /// # Errors
    /// The broker's refusal, [`ClientError::Http`].
    pub async fn patch_member(
        &self,
        signer: &SecretKey,
        mesh: &MeshId,
        member: &MemberId,
        request: &PatchMember,
    ) -> Result<MemberPatched, ClientError> {
        self.send(
            Method::PATCH,
            &format!("/mesh/{mesh}/member/{member}"),
            Some(request),
            Some(signer),
        )
        .await
    }

    /// `DELETE /mesh/:id/member/:memberId`, signed by the member itself, an admin or the owner. Remove the member from the
    /// group keys first: [`SecureChannel::remove_member`](crate::secure::SecureChannel::remove_member).
    ///
    /// # Errors
    /// The broker's refusal, [`ClientError::Http`].
    pub async fn remove_member(
        &self,
        signer: &SecretKey,
        mesh: &MeshId,
        member: &MemberId,
    ) -> Result<Done, ClientError> {
        self.send(
            Method::DELETE,
            &format!("/mesh/{mesh}/member/{member}"),
            None::<&()>,
            Some(signer),
        )
        .await
    }
}
