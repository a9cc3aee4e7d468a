//! Status: of a session, by its host program's hooks; and of the broker.

use super::BrokerHttp;
use crate::ClientError;
use claudemesh_crypto::SecretKey;
use claudemesh_proto::http::{Health, HookStatus, HookStatusResult};
use reqwest::Method;

impl BrokerHttp {
    /// `POST /hook/set-status`, signed by the member: changes the status of its sessions in that directory.
    ///
    /// # Errors
    /// The broker's refusal, [`ClientError::Http`].
    pub async fn hook_status(&self, member: &SecretKey, request: &HookStatus) -> Result<HookStatusResult, ClientError> {
        self.send(Method::POST, "/hook/set-status", Some(request), Some(member))
            .await
    }

    /// `GET /health`: an error with status 503 while the broker is not ready.
    ///
    /// # Errors
    /// [`ClientError::Http`].
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.send(Method::GET, "/health", None::<&()>, None).await
    }
}
