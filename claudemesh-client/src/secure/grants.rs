//! Asking for keys, and handing them out.

use super::admission::{AdmissionRequest, send_grant};
use super::channel::SecureChannel;
use super::group_error::group_error;
use super::warning;
use crate::clock::now_ms;
use crate::{ClientError, Transport};
use claudemesh_crypto::PublicKey;
use claudemesh_crypto::group::{
    GrantApplied, GroupError, GroupKeys as _, HeadRelation, KeyGrant, KeyRequest, RequestReason, Role,
};
use claudemesh_proto::frame::{KeyGrantForward, KeyRequestForward};
use claudemesh_proto::ops::{self, ListPeers};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// How many devices answer one request.
const ANSWERS: u32 = 2;

impl SecureChannel {
    /// Asks the other devices for the keys that are missing. At most once per interval.
    pub(super) async fn request_keys(
        &self,
        transport: &dyn Transport,
        reason: RequestReason,
    ) -> Result<(), ClientError> {
        if !self.may_request() {
            return Ok(());
        }
        let now = u64::try_from(now_ms()).unwrap_or(0);
        let Some(request) = self.with_keys(|keys| keys.request(reason, now)) else {
            return Ok(());
        };
        let request = serde_json::to_value(&request).map_err(ClientError::crypto)?;
        transport.request(&ops::KeyRequest { request }).await.map(drop)
    }

    /// Whether enough time has passed since the last request; notes this one.
    pub(super) fn may_request(&self) -> bool {
        let now = now_ms();
        let interval = i64::try_from(self.options.request_interval.as_millis()).unwrap_or(i64::MAX);
        let mut cache = self.cache();
        let may = cache
            .last_request_ms
            .is_none_or(|last| now.saturating_sub(last) >= interval || now < last);
        if may {
            cache.last_request_ms = Some(now);
        }
        may
    }

    /// Another device asks for keys, or to be admitted. Few of the devices that could answer do: which ones follows from the
    /// request, and another try of the asker reaches others. Waits a moment first; run it in a task of its own.
    ///
    /// # Errors
    /// Those of the requests. A request that is not for us is no error.
    pub async fn on_key_request(
        &self,
        frame: &KeyRequestForward,
        transport: &dyn Transport,
    ) -> Result<(), ClientError> {
        if let Ok(request) = serde_json::from_value::<AdmissionRequest>(frame.request.clone()) {
            return self.on_admission_request(request, transport).await;
        }
        let Ok(request) = serde_json::from_value::<KeyRequest>(frame.request.clone()) else {
            return Ok(());
        };
        if request.device == self.device().public() || !self.is_ready() {
            return Ok(());
        }
        let rank = self.rank(transport, &request.signature.to_string(), false).await;
        if rank >= ANSWERS {
            return Ok(());
        }
        self.pause(rank.saturating_add(1)).await;
        match self.answer(&request) {
            // It may have been admitted since we last looked.
            Err(GroupError::NotOnRoster(_)) => {
                self.catch_up(transport).await?;
                match self.answer(&request) {
                    Ok(grant) => send_grant(&grant, transport).await,
                    Err(_) => Ok(()),
                }
            }
            Ok(grant) => send_grant(&grant, transport).await,
            Err(GroupError::Fork) => {
                self.events.warn(warning::fork());
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    fn answer(&self, request: &KeyRequest) -> Result<KeyGrant, GroupError> {
        self.with_keys(|keys| keys.answer(request))
            .unwrap_or(Err(GroupError::Unreadable))
    }

    /// How many of the devices that are online and could do the same come before this one, in an order that depends on
    /// `seed`.
    pub(super) async fn rank(&self, transport: &dyn Transport, seed: &str, admins: bool) -> u32 {
        let Ok(list) = transport.request(&ListPeers {}).await else {
            return 0;
        };
        let online: BTreeSet<PublicKey> = list
            .peers
            .iter()
            .filter_map(|peer| {
                peer.member_pubkey
                    .as_ref()
                    .unwrap_or(&peer.pubkey)
                    .as_str()
                    .parse()
                    .ok()
            })
            .collect();
        let place = |key: &PublicKey| Sha256::new().chain_update(seed).chain_update(key.as_bytes()).finalize();
        let me = self.device().public();
        let mine = place(&me);
        let before = self.with_keys(|keys| {
            let rows = keys.roster().devices().iter();
            rows.filter(|row| row.entry.device != me && online.contains(&row.entry.member))
                .filter(|row| !admins || row.entry.role == Role::Admin)
                .filter(|row| place(&row.entry.device) < mine)
                .count()
        });
        before.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Another device hands us keys.
    ///
    /// # Errors
    /// [`ClientError::Crypto`] for keys that are not those of the group log; a warning says so too.
    pub async fn on_key_grant(&self, frame: &KeyGrantForward, transport: &dyn Transport) -> Result<(), ClientError> {
        let Ok(grant) = serde_json::from_value::<KeyGrant>(frame.grant.clone()) else {
            return Err(self.refuse_grant(GroupError::Unreadable));
        };
        if grant.to != self.device().public() {
            return Ok(());
        }
        let behind = self.with_keys(|keys| keys.state().compare(&grant.head) == HeadRelation::Ahead) != Some(false);
        if behind {
            self.catch_up(transport).await?;
        }
        let applied = self.take_grant(&grant)?;
        match applied.author_head {
            HeadRelation::Fork => {
                self.events.warn(warning::fork());
                Err(super::group_error::fork())
            }
            HeadRelation::Ahead => {
                self.events.warn(warning::withheld(&grant.author.short()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_grant(&self, grant: &KeyGrant) -> Result<GrantApplied, ClientError> {
        let applied = self.with_ring(|ring| {
            let Some(keys) = ring.keys.as_mut() else {
                return Ok(Err(GroupError::Unreadable));
            };
            let applied = keys.apply_grant(grant);
            if applied.is_ok() {
                ring.touch();
            }
            Ok(applied)
        })?;
        applied.map_err(|error| self.refuse_grant(error))
    }

    fn refuse_grant(&self, error: GroupError) -> ClientError {
        self.events.warn(warning::bad_grant(&error.to_string()));
        group_error(error)
    }
}
