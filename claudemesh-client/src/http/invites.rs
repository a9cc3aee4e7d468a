//! Invites: create, list, revoke, and both ways to use one.

use super::BrokerHttp;
use crate::ClientError;
use claudemesh_crypto::{SecretKey, is_invite_code};
use claudemesh_proto::http::{Claim, Claimed, CreateInvite, Done, InviteCreated, Invites, Join, Joined};
use claudemesh_proto::model::MeshId;
use reqwest::Method;

impl BrokerHttp {
    /// `POST /mesh/:id/invites`, signed by the member key of the owner or an admin that may invite.
    ///
    /// # Errors
    /// The broker's refusal, [`ClientError::Http`].
    pub async fn create_invite(
        &self,
        signer: &SecretKey,
        mesh: &MeshId,
        request: &CreateInvite,
    ) -> Result<InviteCreated, ClientError> {
        self.send(
            Method::POST,
            &format!("/mesh/{mesh}/invites"),
            Some(request),
            Some(signer),
        )
        .await
    }

    /// `GET /mesh/:id/invites`, signed by the owner or an admin: invites that may still be used.
    ///
    /// # Errors
    /// The broker's refusal, [`ClientError::Http`].
    pub async fn list_invites(&self, signer: &SecretKey, mesh: &MeshId) -> Result<Invites, ClientError> {
        self.send(Method::GET, &format!("/mesh/{mesh}/invites"), None::<&()>, Some(signer))
            .await
    }

    /// `DELETE /mesh/:id/invites/:inviteId`, signed by the owner or an admin.
    ///
    /// # Errors
    /// The broker's refusal, [`ClientError::Http`].
    pub async fn revoke_invite(&self, signer: &SecretKey, mesh: &MeshId, invite_id: &str) -> Result<Done, ClientError> {
        if !is_invite_code(invite_id) {
            return Err(ClientError::invalid("invite_id", "must be letters and digits"));
        }
        self.send(
            Method::DELETE,
            &format!("/mesh/{mesh}/invites/{invite_id}"),
            None::<&()>,
            Some(signer),
        )
        .await
    }

    /// `POST /invites/:code/claim`: enrols a key with a code of version 2. Signed by the new key, which proves that the
    /// caller holds it.
    ///
    /// # Errors
    /// `invite_expired`, `invite_exhausted`, `invite_revoked`, `not_found`; [`ClientError::Http`].
    pub async fn claim_invite(&self, member: &SecretKey, code: &str, request: &Claim) -> Result<Claimed, ClientError> {
        if !is_invite_code(code) {
            return Err(ClientError::invalid("code", "must be letters and digits"));
        }
        self.send(
            Method::POST,
            &format!("/invites/{code}/claim"),
            Some(request),
            Some(member),
        )
        .await
    }

    /// `POST /join`: enrols a key with a token of version 1. Signed by the new key, which proves that the caller holds it.
    ///
    /// # Errors
    /// As [`BrokerHttp::claim_invite`].
    pub async fn join(&self, member: &SecretKey, request: &Join) -> Result<Joined, ClientError> {
        self.send(Method::POST, "/join", Some(request), Some(member)).await
    }
}
