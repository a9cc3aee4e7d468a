//! Writing to the group log: compare-and-set with retries.

use super::channel::SecureChannel;
use super::group_error::{group_error, keys_missing};
use super::warning;
use crate::clock::now_ms;
use crate::identity::key_hex;
use crate::{ClientError, Transport};
use claudemesh_crypto::group::{EpochKeys, GroupError, Proposed};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::ops::{GroupCommit, GroupCommitted, SealRecord};

/// Lost races before giving up.
const MAX_ATTEMPTS: u32 = 16;
/// How often in a row a race may be lost to nobody before the broker is not believed.
const MAX_UNMOVED: u32 = 3;

/// Builds a proposal on the given state; `None` when there is nothing to do (any more).
pub(super) type Build<'a> = dyn Fn(&EpochKeys, u64) -> Result<Option<Proposed>, GroupError> + Send + Sync + 'a;

impl SecureChannel {
    /// Commits what `build` proposes. Whoever loses the race for the head catches up, waits a moment and builds again.
    /// Gives whether there was anything to commit.
    pub(super) async fn commit(&self, transport: &dyn Transport, build: &Build<'_>) -> Result<bool, ClientError> {
        let mut last = group_error(GroupError::Stale);
        let mut unmoved = 0;
        for attempt in 0..MAX_ATTEMPTS {
            let now = u64::try_from(now_ms()).unwrap_or(0);
            let built = self.with_keys(|keys| build(keys, now));
            let built = built.ok_or_else(|| keys_missing("the mesh has no group log yet"))?;
            let Some(proposed) = built.map_err(group_error)? else {
                return Ok(false);
            };
            // Stored first: if we crash, or another process sees the entries before we do, their keys are not lost.
            self.with_ring(|ring| {
                ring.remember(proposed.clone());
                Ok(())
            })?;
            let head = proposed.base;
            match send(transport, &proposed).await {
                Ok(_) => {
                    self.take_own(transport, &proposed).await?;
                    return Ok(true);
                }
                Err(error) if lost_race(&error) => {
                    self.forget(&proposed)?;
                    self.catch_up(transport).await?;
                    unmoved = if self.head() == head { unmoved + 1 } else { 0 };
                    if error.code() == ErrorCode::InvalidCommit && unmoved > 0 {
                        return Err(error);
                    }
                    // Who is too late can be shown what came before.
                    if unmoved >= MAX_UNMOVED {
                        self.events.warn(warning::withheld_winner());
                        return Err(error);
                    }
                    last = error;
                    self.pause(attempt.saturating_add(1)).await;
                }
                Err(error) => {
                    // Only a refusal says that the entries are not in the log.
                    if matches!(error, ClientError::Refused(_)) {
                        self.forget(&proposed)?;
                    }
                    return Err(error);
                }
            }
        }
        Err(last)
    }

    fn forget(&self, proposed: &Proposed) -> Result<(), ClientError> {
        self.with_ring(|ring| {
            ring.forget(proposed);
            Ok(())
        })
    }

    async fn take_own(&self, transport: &dyn Transport, proposed: &Proposed) -> Result<(), ClientError> {
        let followed = self.with_ring(|ring| Ok(ring.follow(&proposed.entries, &proposed.seals, now_ms())))?;
        if self.report_followed(&followed)? {
            self.catch_up(transport).await?;
        }
        Ok(())
    }
}

/// Whether the head has moved, or may have.
fn lost_race(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(_))
        && matches!(
            error.code(),
            ErrorCode::StaleEpoch | ErrorCode::Conflict | ErrorCode::InvalidCommit
        )
}

/// Sends a proposal.
pub(super) async fn send(transport: &dyn Transport, proposed: &Proposed) -> Result<GroupCommitted, ClientError> {
    let mut entries = Vec::with_capacity(proposed.entries.len());
    for entry in &proposed.entries {
        entries.push(serde_json::to_value(entry).map_err(ClientError::crypto)?);
    }
    let mut seals = Vec::with_capacity(proposed.seals.len());
    for seal in &proposed.seals {
        seals.push(SealRecord {
            generation: seal.generation,
            epoch: seal.epoch,
            to: key_hex(&seal.to),
            seal: serde_json::to_value(seal).map_err(ClientError::crypto)?,
        });
    }
    transport.request(&GroupCommit { entries, seals }).await
}
