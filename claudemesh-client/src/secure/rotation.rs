//! Replacing keys in time.

use super::channel::SecureChannel;
use crate::clock::now_ms;
use crate::{ClientError, Transport};
use claudemesh_crypto::group::GroupKeys as _;
use std::time::Duration;

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

    /// Regular work: asks again for what is missing and replaces the keys that are due. Call it about hourly, and soon after
    /// connecting.
    ///
    /// # Errors
    /// Those of the requests.
    pub async fn maintain(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        if self.cache().served != Some(true) {
            return Ok(());
        }
        self.settle(transport).await?;
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
        Ok(())
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

fn is_past(since_ms: i64, age: Duration, now_ms: i64) -> bool {
    now_ms.saturating_sub(since_ms) >= i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
}
