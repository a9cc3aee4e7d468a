//! Members that come without the secret of an invite link: they ask, the owner or an admin admits.

use super::channel::{AdmitPolicy, SecureChannel};
use super::event::SecureEvent;
use super::warning;
use crate::clock::now_ms;
use crate::{ClientError, Transport};
use claudemesh_crypto::group::{Change, DeviceEntry, GroupError, GroupKeys as _, Role};
use claudemesh_crypto::{PublicKey, safety_number};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::ops::{KeyGrant, KeyRequest, ListMembers};
use serde::{Deserialize, Serialize};

/// A device asks to be put on the roster. Travels where key requests do; told apart by its `type`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AdmissionRequest {
    /// Always `admit`.
    #[serde(rename = "type")]
    pub(super) kind: AdmissionKind,
    pub(super) v: u8,
    pub(super) mesh_id: String,
    /// Signed by device and member for this mesh: nobody can ask for somebody else.
    pub(super) device: DeviceEntry,
    pub(super) at_ms: i64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AdmissionKind {
    Admit,
}

impl SecureChannel {
    /// Asks the owner and admins to admit this device.
    pub(super) async fn ask_admission(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        if !self.may_request() {
            return Ok(());
        }
        let member = self.device();
        let request = AdmissionRequest {
            kind: AdmissionKind::Admit,
            v: 1,
            mesh_id: self.mesh_id().to_owned(),
            device: DeviceEntry::new(self.mesh_id(), member, member, Role::Member),
            at_ms: now_ms(),
        };
        let request = serde_json::to_value(&request).map_err(ClientError::crypto)?;
        transport.request(&KeyRequest { request }).await.map(drop)
    }

    /// Whether this device may admit others.
    pub(super) fn may_admit(&self) -> bool {
        let me = self.device().public();
        self.with_keys(|keys| {
            keys.roster()
                .device(&me)
                .is_some_and(|row| row.entry.role == Role::Admin)
                || self.owns_log(keys.roster().owner())
        }) == Some(true)
    }

    fn owns_log(&self, owner: PublicKey) -> bool {
        self.identity.owner.as_ref().is_some_and(|key| key.public() == owner)
    }

    pub(super) async fn on_admission_request(
        &self,
        request: AdmissionRequest,
        transport: &dyn Transport,
    ) -> Result<(), ClientError> {
        let member = request.device.member;
        let fits = request.v == 1 && request.mesh_id == self.mesh_id() && request.device.verify(self.mesh_id()).is_ok();
        if !fits || member == self.identity.public() || !self.may_admit() {
            return Ok(());
        }
        let rank = self.rank(transport, &request.device.device.to_string(), true).await;
        self.pause(rank.saturating_add(1)).await;
        if self.is_on_roster(&request.device.device) {
            return self.grant_all(&request.device.device, transport).await;
        }
        let former = self.with_keys(|keys| keys.roster().former().iter().any(|row| row.member == member)) == Some(true);
        if former || self.options.admit == AdmitPolicy::Ask {
            if former {
                self.events.warn(warning::comes_back(&member));
            }
            let safety_number = safety_number(&self.identity.public(), &member);
            self.events.push(SecureEvent::AdmissionAsked { member, safety_number });
            return Ok(());
        }
        if !is_enrolled(&member, transport).await? {
            return Ok(());
        }
        self.admit_device(request.device, transport).await?;
        let safety_number = safety_number(&self.identity.public(), &member);
        self.events.warn(warning::admitted(&member, &safety_number));
        Ok(())
    }

    /// Admits a member's device: what a person decided after comparing safety numbers. The device row comes from the
    /// request, whose signatures are checked; the role is always that of an ordinary member.
    ///
    /// # Errors
    /// When the row is not signed by the member, or this device may not admit.
    pub async fn admit_device(&self, mut device: DeviceEntry, transport: &dyn Transport) -> Result<(), ClientError> {
        device
            .verify(self.mesh_id())
            .map_err(|refusal| super::group_error::group_error(refusal.into()))?;
        device.role = self
            .with_keys(|keys| keys.roster().role(&device.member))
            .flatten()
            .unwrap_or(Role::Member);
        let key = device.device;
        self.commit(transport, &|keys, now| {
            if keys.roster().contains(&key) {
                return Ok(None);
            }
            keys.propose(&Change::Admit(device.clone()), &self.signer(), now)
                .map(Some)
        })
        .await?;
        self.grant_all(&key, transport).await
    }

    /// The owner puts another member of its own on the roster.
    pub(super) async fn admit_own(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        let member = self.device();
        let device = DeviceEntry::new(self.mesh_id(), member, member, Role::Admin);
        self.commit(transport, &|keys, now| {
            if keys.is_member() {
                return Ok(None);
            }
            keys.propose(&Change::Admit(device.clone()), &self.signer(), now)
                .map(Some)
        })
        .await?;
        if self.is_ready() {
            return Ok(());
        }
        self.request_keys(transport, claudemesh_crypto::group::RequestReason::Joined)
            .await
    }

    /// Hands everything that the mesh's policy allows to a device on the roster.
    async fn grant_all(&self, device: &PublicKey, transport: &dyn Transport) -> Result<(), ClientError> {
        match self.with_keys(|keys| keys.grant_for(device, None)) {
            Some(Ok(grant)) => send_grant(&grant, transport).await,
            Some(Err(GroupError::UnknownEpoch { .. })) | None => Ok(()),
            Some(Err(error)) => Err(super::group_error::group_error(error)),
        }
    }

    pub(super) fn is_on_roster(&self, device: &PublicKey) -> bool {
        self.with_keys(|keys| keys.roster().contains(device)) == Some(true)
    }
}

async fn is_enrolled(member: &PublicKey, transport: &dyn Transport) -> Result<bool, ClientError> {
    let list = transport.request(&ListMembers {}).await?;
    let key = member.to_string();
    Ok(list.members.iter().any(|row| row.pubkey.as_str() == key))
}

/// Sends a grant; whoever is gone by now asks again.
pub(super) async fn send_grant(
    grant: &claudemesh_crypto::group::KeyGrant,
    transport: &dyn Transport,
) -> Result<(), ClientError> {
    let body = serde_json::to_value(grant).map_err(ClientError::crypto)?;
    let sent = transport
        .request(&KeyGrant {
            to: crate::identity::key_hex(&grant.to),
            grant: body,
        })
        .await;
    match sent {
        Ok(_) => Ok(()),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
