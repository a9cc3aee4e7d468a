//! Replacing keys in time.

use super::channel::SecureChannel;
use super::warning;
use crate::clock::now_ms;
use crate::{ClientError, Transport};
use claudemesh_crypto::group::{Change, GroupKeys as _, HistoryPolicy};
use std::time::Duration;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How long it is not told again that the log is old.
const TELL_AGAIN: Duration = Duration::from_millis(DAY_MS);

impl SecureChannel {
    /// Whether the group key is due to be replaced: it is a day old, 10,000 messages were seen under it, or somebody who was
    /// removed knows it.
    #[must_use]
    pub fn rotation_due(&self, now_ms: i64) -> bool {
        let cache = self.cache();
        let Some(keys) = cache.ring.keys.as_ref().filter(|keys| keys.is_member()) else {
            return false;
        };
        let id = keys.epoch_id();
        let old = cache
            .ring
            .epoch_since
            .is_some_and(|since| since.id == id && is_past(since.at_ms, self.options.rotate_after, now_ms));
        let busy = cache
            .counted
            .is_some_and(|(counted, number)| counted == id && number >= self.options.rotate_messages);
        old || busy || keys.rekey_needed()
    }

    /// Whether this device's own seal key is due to be replaced: at once after joining, then weekly. A stolen member key does
    /// not open what was sealed to an earlier seal key.
    #[must_use]
    pub fn reseal_due(&self, now_ms: i64) -> bool {
        let cache = self.cache();
        let Some(keys) = cache.ring.keys.as_ref().filter(|keys| keys.is_member()) else {
            return false;
        };
        keys.first_seal_key_in_use() || is_past(cache.ring.resealed_ms, self.options.reseal_after, now_ms)
    }

    /// Replaces the group key.
    ///
    /// # Errors
    /// When this device is not in the group, and those of the requests.
    pub async fn rotate(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        let before = self.with_keys(|keys| keys.epoch_id());
        self.commit(transport, &|keys, now| {
            // Somebody else was faster: good enough.
            if before.is_some_and(|before| keys.epoch_id() > before) && !keys.rekey_needed() {
                return Ok(None);
            }
            keys.propose_rotate(now).map(Some)
        })
        .await
        .map(drop)
    }

    /// Replaces this device's seal key.
    pub(super) async fn reseal_key(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        self.commit(transport, &|keys, now| keys.propose_reseal(now).map(Some))
            .await?;
        self.with_ring(|ring| {
            ring.resealed_ms = now_ms();
            ring.touch();
            Ok(())
        })
    }

    /// Signs where the log stands now, if nobody did for a day: whoever sees an old signature knows that the broker may be
    /// keeping them in the past. Does nothing on a device that is no admin's.
    async fn checkpoint(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        if !self.may_admit() || !self.checkpoint_due() {
            return Ok(());
        }
        // Other admins have the same clock: let the first one win.
        self.pause(4).await;
        self.catch_up(transport).await?;
        self.commit(transport, &|keys, now| {
            if !is_past(
                signed(keys.state().checkpoint_ms()),
                self.options.checkpoint_after,
                signed(now),
            ) {
                return Ok(None);
            }
            keys.propose(&Change::Checkpoint, &self.signer(), now).map(Some)
        })
        .await
        .map(drop)
    }

    fn checkpoint_due(&self) -> bool {
        let confirmed = self.with_keys(|keys| keys.state().checkpoint_ms());
        confirmed.is_some_and(|at_ms| is_past(signed(at_ms), self.options.checkpoint_after, now_ms()))
    }

    /// Tells once a day that no owner or admin has signed the log for days.
    fn tell_old(&self) {
        let now = now_ms();
        let Some(confirmed) = self.with_keys(|keys| match keys.state().checkpoint_ms() {
            // Signed by the owner or an admin, or, in a new mesh, what the log proves otherwise.
            0 => keys.roster().latest_ms(),
            at_ms => at_ms,
        }) else {
            return;
        };
        if !is_past(signed(confirmed), self.options.stale_after, now) {
            return;
        }
        let mut cache = self.cache();
        if cache.told_old_ms.is_some_and(|told| !is_past(told, TELL_AGAIN, now)) {
            return;
        }
        cache.told_old_ms = Some(now);
        drop(cache);
        let age_ms = u64::try_from(now).unwrap_or(0).saturating_sub(confirmed);
        self.events.warn(warning::stale(age_ms / DAY_MS));
    }

    /// Deletes keys of epochs that ended long ago, where the mesh does not pass on its past.
    fn forget_old_keys(&self) -> Result<(), ClientError> {
        let keeps = self.with_keys(|keys| keys.roster().history()) != Some(HistoryPolicy::SinceJoin);
        if keeps {
            return Ok(());
        }
        let age = i64::try_from(self.options.forget_after.as_millis()).unwrap_or(i64::MAX);
        self.with_ring(|ring| {
            ring.forget_ended(now_ms().saturating_sub(age));
            Ok(())
        })
    }

    /// Starts the log anew with the members as they are, and with a new key: what an owner or admin does when entries of a
    /// rogue member stand in the way. Nobody loses the right to read or write, and earlier messages stay readable.
    ///
    /// # Errors
    /// When this device may not do that, and those of the requests.
    pub async fn reset_group(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        let before = self.with_keys(|keys| keys.head().generation);
        self.commit(transport, &|keys, now| {
            if before.is_some_and(|before| keys.head().generation > before) {
                return Ok(None);
            }
            keys.propose(&Change::Reset, &self.signer(), now).map(Some)
        })
        .await
        .map(drop)
    }

    /// Regular work: asks again for what is missing, replaces the keys that are due, signs the log as an admin and tells if
    /// nobody has for days, forgets old keys. Call it about hourly, and soon after connecting.
    ///
    /// # Errors
    /// Those of the requests.
    pub async fn maintain(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        if self.cache().served != Some(true) {
            return Ok(());
        }
        self.settle(transport).await?;
        // Whatever else fails, who is kept in the past must be told.
        let checked = self.checkpoint(transport).await;
        self.tell_old();
        checked?;
        if !self.is_ready() && !self.rotation_due(now_ms()) {
            return Ok(());
        }
        if self.reseal_due(now_ms()) {
            self.reseal_key(transport).await?;
        }
        if self.rotation_due(now_ms()) {
            // Others have the same clock: let the first one win.
            self.pause(4).await;
            self.catch_up(transport).await?;
            if self.rotation_due(now_ms()) {
                self.rotate(transport).await?;
            }
        }
        self.forget_old_keys()
    }

    /// Counts a message under the newest key.
    pub(super) fn count_message(&self) {
        let mut cache = self.cache();
        let Some(id) = cache.ring.keys.as_ref().map(|keys| keys.epoch_id()) else {
            return;
        };
        let number = cache
            .counted
            .filter(|(counted, _)| *counted == id)
            .map_or(0, |(_, number)| number);
        cache.counted = Some((id, number.saturating_add(1)));
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn is_past(since_ms: i64, age: Duration, now_ms: i64) -> bool {
    now_ms.saturating_sub(since_ms) >= i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
}
