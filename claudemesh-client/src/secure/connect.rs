//! From a fresh connection to a device that can read and write group messages.

use super::catch_up::{owner_mismatch, read_seals};
use super::channel::SecureChannel;
use super::commit::send;
use super::group_error::group_error;
use super::{heads, warning};
use crate::clock::now_ms;
use crate::identity::key_hex;
use crate::{ClientError, Transport};
use claudemesh_crypto::PublicKey;
use claudemesh_crypto::group::{EpochKeys, GroupKeys as _, HistoryPolicy, InviteKeys, RequestReason};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::hello::HelloAck;
use claudemesh_proto::model::KeyHex;
use claudemesh_proto::ops::{GroupInfo, GroupStatus};

/// How this device stands.
enum Standing {
    /// The mesh has no log.
    NoLog,
    /// Not on the roster.
    Outside,
    /// On the roster, but what is sealed to it cannot be opened.
    SealKeyLost,
    /// On the roster, the newest key is missing.
    KeyMissing,
    Ready,
}

impl SecureChannel {
    /// Brings the keys up to date after `hello_ack`: starts the group log as its owner, else follows it; enters the group
    /// with the secret of an invite link, or asks to be admitted; asks for keys that are missing. Does nothing on a broker
    /// of protocol 1, which has no group keys.
    ///
    /// # Errors
    /// [`ClientError::Crypto`] when the broker names another owner than the invite did, or shows a forked log; those of the
    /// keyring and of the requests.
    pub async fn on_connected(&self, transport: &dyn Transport, ack: &HelloAck) -> Result<(), ClientError> {
        self.restore()?;
        let served = ack.protocol.unwrap_or(1) >= 2;
        self.cache().served = Some(served);
        if !served {
            if self.head().is_some() {
                self.events.warn(warning::downgraded());
            }
            return Ok(());
        }
        let info = transport
            .request(&GroupInfo {
                invite_key: self.invite_key(),
            })
            .await?;
        self.check_owner(&info.owner_pubkey)?;
        if info.head.is_none() && self.head().is_none() {
            self.create(transport).await?;
        } else {
            self.start_over_if_removed()?;
            self.catch_up(transport).await?;
            let seals = read_seals(&info.seals);
            self.with_ring(|ring| Ok(ring.follow(&[], &seals, now_ms())))?;
        }
        self.settle(transport).await?;
        if let Some(head) = self.head() {
            transport
                .request(&GroupStatus {
                    head: heads::to_wire(&head),
                    problem: None,
                })
                .await?;
        }
        Ok(())
    }

    /// Keeps the secret of the invite link that this member joined with until it is in the group. Call it before connecting.
    ///
    /// # Errors
    /// When the keyring cannot be written.
    pub fn join_with_invite_secret(&self, secret: &claudemesh_crypto::InviteSecret) -> Result<(), ClientError> {
        self.with_ring(|ring| {
            ring.set_invite(Some(zeroize::Zeroizing::new(*secret.as_bytes())));
            Ok(())
        })
    }

    /// Keeps what those who join this mesh of ours may read of its past, until its log is started with it. Does nothing once
    /// there is a log. Call it before connecting; [`SecureOptions::history`](super::SecureOptions::history) counts if it is
    /// not called.
    ///
    /// # Errors
    /// When the keyring cannot be written.
    pub fn create_with_history(&self, history: HistoryPolicy) -> Result<(), ClientError> {
        self.with_ring(|ring| {
            ring.set_history(history);
            Ok(())
        })
    }

    fn invite(&self) -> Option<InviteKeys> {
        let cache = self.cache();
        cache
            .ring
            .invite
            .as_ref()
            .map(|secret| InviteKeys::from_link_secret(self.mesh_id(), secret))
    }

    fn invite_key(&self) -> Option<KeyHex> {
        self.invite().map(|invite| key_hex(&invite.invite_key()))
    }

    /// The broker must name the owner that we know. Without an invite link that names one, the first answer counts.
    fn check_owner(&self, named: &KeyHex) -> Result<(), ClientError> {
        let named: PublicKey = named.as_str().parse().map_err(|_| owner_mismatch())?;
        let first = self.with_ring(|ring| match self.owner(ring) {
            Some(owner) if owner == named => Ok(false),
            Some(_) => Err(owner_mismatch()),
            None => {
                ring.owner = Some(named);
                ring.touch();
                Ok(true)
            }
        })?;
        if first {
            self.events.warn(warning::trusted_on_first_use(&named));
        }
        Ok(())
    }

    /// Starts the log, if we are the owner. Whoever is second follows the first.
    async fn create(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        let Some(owner) = &self.identity.owner else {
            return Ok(());
        };
        let now = u64::try_from(now_ms()).unwrap_or(0);
        let history = self.cache().ring.history().unwrap_or(self.options.history);
        let (keys, proposed) =
            EpochKeys::create(self.mesh_id(), owner, self.device(), history, now).map_err(group_error)?;
        match send(transport, &proposed).await {
            Ok(_) => self.with_ring(|ring| {
                if ring.keys.is_none() {
                    ring.set_keys(keys, now_ms());
                }
                Ok(())
            }),
            Err(error)
                if matches!(
                    error.code(),
                    ErrorCode::StaleEpoch | ErrorCode::Conflict | ErrorCode::InvalidCommit
                ) =>
            {
                self.catch_up(transport).await
            }
            Err(error) => Err(error),
        }
    }

    fn standing(&self) -> Standing {
        let standing = self.with_keys(|keys| {
            if !keys.is_member() {
                Standing::Outside
            } else if !keys.seal_key_known() {
                Standing::SealKeyLost
            } else if !keys.has_key(keys.epoch_id()) {
                Standing::KeyMissing
            } else {
                Standing::Ready
            }
        });
        standing.unwrap_or(Standing::NoLog)
    }

    /// Does what is next on the way into the group.
    pub(super) async fn settle(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        match self.standing() {
            Standing::NoLog if self.identity.owner.is_some() => Ok(()),
            Standing::NoLog => self.ask_admission(transport).await,
            Standing::Outside => self.enter(transport).await,
            Standing::SealKeyLost => {
                self.reseal_key(transport).await?;
                self.request_keys(transport, RequestReason::Restored).await
            }
            Standing::KeyMissing => self.request_keys(transport, RequestReason::Missed).await,
            Standing::Ready => self.clear_invite(),
        }
    }

    async fn enter(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        if self.was_removed() {
            // Only a person can decide that; see `AdmissionAsked` on the other side.
            return self.ask_admission(transport).await;
        }
        if self.identity.owner.is_some() {
            return self.admit_own(transport).await;
        }
        let Some(invite) = self.invite() else {
            return self.ask_admission(transport).await;
        };
        match self.enter_by_invite(transport, &invite).await {
            Ok(()) => self.clear_invite(),
            Err(error) if error.code() == ErrorCode::InviteExhausted => {
                self.clear_invite()?;
                self.events.warn(warning::invite_spent());
                self.ask_admission(transport).await
            }
            Err(error) => Err(error),
        }
    }

    async fn enter_by_invite(&self, transport: &dyn Transport, invite: &InviteKeys) -> Result<(), ClientError> {
        self.open_invite_seals(transport, invite).await?;
        self.commit(transport, &|keys, now| {
            if keys.is_member() {
                return Ok(None);
            }
            keys.propose_admit_by_invite(invite, self.device(), now).map(Some)
        })
        .await?;
        if matches!(self.standing(), Standing::KeyMissing) {
            // The key was replaced while we came in.
            self.open_invite_seals(transport, invite).await?;
        }
        match self.standing() {
            Standing::KeyMissing => self.request_keys(transport, RequestReason::Joined).await,
            _ => Ok(()),
        }
    }

    async fn open_invite_seals(&self, transport: &dyn Transport, invite: &InviteKeys) -> Result<(), ClientError> {
        // Where joiners may not read the past, our admission starts an epoch with a key of our own making.
        if self.with_keys(|keys| keys.roster().history()) != Some(HistoryPolicy::All) {
            return Ok(());
        }
        let info = transport
            .request(&GroupInfo {
                invite_key: Some(key_hex(&invite.invite_key())),
            })
            .await?;
        let seals = read_seals(&info.seals);
        self.with_ring(|ring| {
            if let Some(keys) = ring.keys.as_mut() {
                for seal in seals.iter().filter(|seal| seal.to == invite.invite_key()) {
                    // A bad seal must not hide a good one.
                    let _ = keys.open_with_invite(invite, seal);
                }
                ring.touch();
            }
            Ok(())
        })
    }

    fn clear_invite(&self) -> Result<(), ClientError> {
        if self.cache().ring.invite.is_none() {
            return Ok(());
        }
        self.with_ring(|ring| {
            ring.set_invite(None);
            Ok(())
        })
    }

    /// A keyring that was removed follows no further. The log is read again, in case we were admitted again.
    fn start_over_if_removed(&self) -> Result<(), ClientError> {
        if !self.was_removed() {
            return Ok(());
        }
        self.with_ring(|ring| {
            if ring.keys.as_ref().is_some_and(|keys| !keys.is_member()) {
                ring.keys = None;
                ring.touch();
            }
            Ok(())
        })
    }

    fn was_removed(&self) -> bool {
        let me = self.device().public();
        self.with_keys(|keys| keys.roster().former().iter().any(|row| row.device == me)) == Some(true)
    }
}
