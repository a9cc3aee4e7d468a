//! One session's side of the encryption.

use super::event::{Events, SecureEvent};
use super::group_error::store_error;
use super::heads;
use super::lanes::Lanes;
use super::ring::Ring;
use super::store::KeyStore;
use crate::{ClientError, Identity};
use claudemesh_crypto::group::{EpochId, EpochKeys, GroupKeys as _, Head, HistoryPolicy, Signer};
use claudemesh_crypto::{PublicKey, SecretKey};
use claudemesh_proto::model::EpochHead;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Who decides about members that ask for the group keys without the secret of an invite link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdmitPolicy {
    /// Whoever the broker lists as a member is admitted; a warning asks to compare safety numbers. A dishonest broker can
    /// list whom it likes, so this trusts it with who is a member.
    #[default]
    Enrolled,
    /// Nobody: a person decides, see [`SecureEvent::AdmissionAsked`] and [`SecureChannel::admit_device`].
    Ask,
}

/// Times and policies of a [`SecureChannel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecureOptions {
    /// Who decides about members that ask for the group keys.
    pub admit: AdmitPolicy,
    /// What those who join a mesh of ours may read of its past. Fixed when the group log is started.
    pub history: HistoryPolicy,
    /// How long a send waits for a group key that is missing.
    pub key_wait: Duration,
    /// Longest random delay before work that other devices may do as well.
    pub jitter: Duration,
    /// Least time between two requests for keys.
    pub request_interval: Duration,
    /// Age at which a group key is replaced.
    pub rotate_after: Duration,
    /// Number of messages after which a group key is replaced.
    pub rotate_messages: u64,
    /// Age at which this device's own seal key is replaced.
    pub reseal_after: Duration,
    /// Age of the newest checkpoint at which an admin's device signs another one.
    pub checkpoint_after: Duration,
    /// Age of the newest checkpoint from which on people are told that the broker may be keeping them in the past.
    pub stale_after: Duration,
    /// How long the key of an epoch is kept after the next one, where those who join later may not read the past. More than
    /// the longest time that a message waits for its recipient.
    pub forget_after: Duration,
}

impl Default for SecureOptions {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            admit: AdmitPolicy::default(),
            history: HistoryPolicy::All,
            key_wait: Duration::from_secs(3),
            jitter: Duration::from_millis(300),
            request_interval: Duration::from_secs(2),
            rotate_after: Duration::from_secs(DAY),
            rotate_messages: 10_000,
            reseal_after: Duration::from_secs(7 * DAY),
            checkpoint_after: Duration::from_secs(DAY),
            stale_after: Duration::from_secs(3 * DAY),
            forget_after: Duration::from_secs(31 * DAY),
        }
    }
}

/// What is kept in memory beside the stored keyring.
#[derive(Default)]
pub(super) struct Cache {
    pub(super) ring: Ring,
    /// Whether the broker serves group keys; `None` before the first connection.
    pub(super) served: Option<bool>,
    /// Messages seen under this epoch in this process.
    pub(super) counted: Option<(EpochId, u64)>,
    pub(super) last_request_ms: Option<i64>,
    /// The newest epoch that a message named and the log did not.
    pub(super) withheld: Option<EpochId>,
    /// When it was last told that the log is old.
    pub(super) told_old_ms: Option<i64>,
    /// Member keys of which it was told that the log does not name them.
    pub(super) told_unlisted: HashSet<PublicKey>,
}

/// Seals, opens and keeps the group keys for one session of one member in one mesh.
pub struct SecureChannel {
    pub(super) identity: Arc<Identity>,
    pub(super) session: SecretKey,
    pub(super) options: SecureOptions,
    pub(super) events: Events,
    /// Wakes whoever waits for keys.
    pub(super) changed: Notify,
    /// Held while the log is fetched, also over the network; nothing else is.
    pub(super) fetching: tokio::sync::Mutex<()>,
    store: Arc<dyn KeyStore>,
    cache: Mutex<Cache>,
    lanes: Mutex<Lanes>,
}

impl fmt::Debug for SecureChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecureChannel")
            .field("identity", &self.identity)
            .field("session", &self.session.public())
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

impl SecureChannel {
    /// A channel of the session with this key. The keyring is read when it is first needed.
    #[must_use]
    pub fn new(identity: Arc<Identity>, session: SecretKey, store: Arc<dyn KeyStore>) -> Self {
        Self::with_options(identity, session, store, SecureOptions::default())
    }

    /// [`SecureChannel::new`] with other times and policies.
    #[must_use]
    pub fn with_options(
        identity: Arc<Identity>,
        session: SecretKey,
        store: Arc<dyn KeyStore>,
        options: SecureOptions,
    ) -> Self {
        Self {
            identity,
            session,
            options,
            events: Events::default(),
            changed: Notify::new(),
            fetching: tokio::sync::Mutex::new(()),
            store,
            cache: Mutex::default(),
            lanes: Mutex::default(),
        }
    }

    /// Key of this session: what peers see as the sender.
    #[must_use]
    pub fn session_key(&self) -> PublicKey {
        self.session.public()
    }

    /// Where this device stands in the group log; `None` before it has one.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.with_keys(|keys| keys.head())
    }

    /// [`SecureChannel::head`] in the form of the wire, for `hello`.
    #[must_use]
    pub fn wire_head(&self) -> Option<EpochHead> {
        self.head().map(|head| heads::to_wire(&head))
    }

    /// Whether group messages can be sealed now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        is_ready(&self.cache().ring)
    }

    /// Members of the encrypted group, proven by the owner's signatures; empty before the log is known.
    #[must_use]
    pub fn group_members(&self) -> Vec<PublicKey> {
        self.with_keys(|keys| keys.roster().members()).unwrap_or_default()
    }

    /// The events that have come since the last call.
    pub fn take_events(&self) -> Vec<SecureEvent> {
        self.events.take()
    }

    /// Waits for the next event.
    pub async fn next_event(&self) -> SecureEvent {
        self.events.next().await
    }

    /// Reads the stored keyring, so that [`SecureChannel::head`] knows it. [`SecureChannel::on_connected`] does it too.
    ///
    /// # Errors
    /// When the keyring cannot be read.
    pub fn restore(&self) -> Result<(), ClientError> {
        self.with_ring(|_| Ok(()))
    }

    pub(super) fn mesh_id(&self) -> &str {
        self.identity.mesh_id.as_str()
    }

    pub(super) fn device(&self) -> &SecretKey {
        &self.identity.member
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the keys as they are in memory.
    pub(super) fn with_keys<T>(&self, look: impl FnOnce(&EpochKeys) -> T) -> Option<T> {
        self.cache().ring.keys.as_ref().map(look)
    }

    /// Changes the stored keyring under the store's lock, and takes over what other processes have stored. What `change` did
    /// before it failed is kept.
    pub(super) fn with_ring<T>(
        &self,
        change: impl FnOnce(&mut Ring) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut cache = self.cache();
        let mut change = Some(change);
        let mut outcome = None;
        let mut after = None;
        self.store
            .update(self.mesh_id(), &mut |stored| {
                let change = change.take()?;
                let mut ring = match Ring::read(stored, self.device()) {
                    Ok(ring) => ring,
                    Err(error) => {
                        outcome = Some(Err(error));
                        return None;
                    }
                };
                outcome = Some(change(&mut ring));
                match ring.write() {
                    Ok(bytes) => {
                        after = Some(ring);
                        bytes
                    }
                    Err(error) => {
                        outcome = Some(Err(error));
                        None
                    }
                }
            })
            .map_err(|error| store_error(&error))?;
        let was_ready = is_ready(&cache.ring);
        if let Some(ring) = after {
            cache.ring = ring;
        }
        let became_ready = !was_ready && is_ready(&cache.ring);
        drop(cache);
        if became_ready {
            self.events.push(SecureEvent::Ready);
        }
        self.changed.notify_waiters();
        outcome.unwrap_or_else(|| Err(ClientError::crypto("the key store did not run the change")))
    }

    /// Signs as the owner where we are, else as this device.
    pub(super) fn signer(&self) -> Signer<'_> {
        Signer::new(self.identity.owner.as_ref().unwrap_or(&self.identity.member))
    }

    /// Waits a random part of the jitter.
    pub(super) async fn pause(&self, times: u32) {
        let [byte] = claudemesh_crypto::random_bytes::<1>();
        tokio::time::sleep(self.options.jitter * times * u32::from(byte) / 256).await;
    }
}

fn is_ready(ring: &Ring) -> bool {
    ring.keys
        .as_ref()
        .is_some_and(|keys| keys.is_member() && !keys.rekey_needed() && keys.has_key(keys.epoch_id()))
}
