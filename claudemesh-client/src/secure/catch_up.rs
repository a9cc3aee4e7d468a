//! Following the group log.

use super::channel::SecureChannel;
use super::event::SecureEvent;
use super::group_error::{fork, group_error};
use super::ring::{Followed, Ring};
use super::{heads, warning};
use crate::clock::now_ms;
use crate::{ClientError, Transport};
use claudemesh_crypto::PublicKey;
use claudemesh_crypto::group::{
    EpochKeys, GroupError, GroupKeys as _, HeadRelation, KeyOutcome, LogEntry, ResetKind, Seal,
};
use claudemesh_proto::frame::GroupEpoch;
use claudemesh_proto::ops::{GroupLog, GroupLogResult, LogRecord, SealRecord};

/// Entries per page.
const PAGE: u32 = 200;
/// Pages of one catch-up: a broker that always has more is stopped.
const MAX_PAGES: usize = 1000;

/// What is still to do after some entries were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Done,
    Fetch,
}

impl SecureChannel {
    /// Fetches and checks what is new in the group log. Calls wait for each other.
    ///
    /// # Errors
    /// Those of the requests; [`ClientError::Crypto`] for a log that is forked or not the owner's.
    pub async fn catch_up(&self, transport: &dyn Transport) -> Result<(), ClientError> {
        let _fetching = self.fetching.lock().await;
        let have = self.with_keys(|keys| keys.head());
        let (mut generation, mut from) = have.map_or((1, 0), |head| (head.generation, head.index.saturating_add(1)));
        for _ in 0..MAX_PAGES {
            let request = GroupLog {
                generation: Some(generation),
                from_index: from,
                limit: Some(PAGE),
            };
            let page = transport.request(&request).await?;
            let Some(head) = page.head.clone() else {
                if have.is_some() {
                    self.events.warn(warning::log_lost());
                }
                return Ok(());
            };
            let (more, last) = (page.more, page.entries.last().map(|record| record.index));
            self.take_page(&page)?;
            match last {
                Some(last) if more => from = last.saturating_add(1),
                _ if generation < head.generation => {
                    // An old generation may have been pruned: the current one starts with a reset by the owner.
                    let known = self.with_keys(|_| ()).is_some();
                    generation = if known {
                        generation.saturating_add(1)
                    } else {
                        head.generation
                    };
                    from = 0;
                }
                _ => return self.compare_with_broker(&head),
            }
        }
        Err(ClientError::Protocol {
            message: "group_log_result: the log does not end".to_owned(),
        })
    }

    /// The broker pushed new entries.
    ///
    /// # Errors
    /// As [`SecureChannel::catch_up`].
    pub async fn on_group_epoch(&self, frame: &GroupEpoch, transport: &dyn Transport) -> Result<(), ClientError> {
        let (entries, seals) = read_records(&frame.entries, &frame.seals);
        let next = if self.with_keys(|_| ()).is_some() {
            let followed = self.with_ring(|ring| Ok(ring.follow(&entries, &seals, now_ms())))?;
            self.report(&followed)?
        } else {
            Next::Fetch
        };
        if next == Next::Fetch || self.is_ahead(frame) {
            self.catch_up(transport).await?;
        } else {
            self.compare_with_broker(&frame.head)?;
        }
        self.settle(transport).await
    }

    fn is_ahead(&self, frame: &GroupEpoch) -> bool {
        let theirs = heads::from_wire(&frame.head);
        theirs.is_some_and(|theirs| {
            self.with_keys(|keys| keys.state().compare(&theirs) == HeadRelation::Ahead) == Some(true)
        })
    }

    fn take_page(&self, page: &GroupLogResult) -> Result<(), ClientError> {
        let (entries, seals) = read_records(&page.entries, &page.seals);
        let followed = self.with_ring(|ring| {
            if ring.keys.is_none() && !entries.is_empty() {
                self.start(ring, &entries, &seals)?;
            }
            Ok(ring.follow(&entries, &seals, now_ms()))
        })?;
        match self.report(&followed)? {
            Next::Done => Ok(()),
            Next::Fetch => Err(group_error(GroupError::Stale)),
        }
    }

    fn start(&self, ring: &mut Ring, entries: &[LogEntry], seals: &[Seal]) -> Result<(), ClientError> {
        let owner = self
            .owner(ring)
            .ok_or_else(|| ClientError::crypto("the owner of this mesh is not known"))?;
        if entries.first().is_some_and(|first| first.author != owner) {
            return Err(owner_mismatch());
        }
        let now = u64::try_from(now_ms()).unwrap_or(0);
        let keys =
            EpochKeys::from_log(self.mesh_id(), &owner, entries, seals, self.device(), now).map_err(group_error)?;
        ring.set_keys(keys, now_ms());
        Ok(())
    }

    /// The owner that the log is checked against: from the identity, else what was pinned at the first connection.
    pub(super) fn owner(&self, ring: &Ring) -> Option<PublicKey> {
        let own = self.identity.owner.as_ref().map(claudemesh_crypto::SecretKey::public);
        self.identity.owner_pubkey.or(own).or(ring.owner)
    }

    /// Tells people what happened; says whether entries are missing.
    pub(super) fn report_followed(&self, followed: &Followed) -> Result<bool, ClientError> {
        self.report(followed).map(|next| next == Next::Fetch)
    }

    fn report(&self, followed: &Followed) -> Result<Next, ClientError> {
        for applied in &followed.applied {
            for device in &applied.admitted {
                self.events.push(SecureEvent::Admitted(self.member_of(device)));
            }
            for device in &applied.removed {
                self.events.push(SecureEvent::Removed(self.member_of(device)));
            }
            if applied.removed_me {
                self.events.push(SecureEvent::RemovedSelf);
            }
            if applied.reset == Some(ResetKind::Cut) {
                self.events.warn(warning::cut());
            }
            if let KeyOutcome::Bad { author, error } = &applied.key {
                self.events.warn(warning::bad_seal(author, &error.to_string()));
            }
        }
        match &followed.stopped {
            None => Ok(Next::Done),
            Some(GroupError::Gap { .. }) => Ok(Next::Fetch),
            // Said when it happened; what follows is not for us.
            Some(GroupError::Removed) => Ok(Next::Done),
            Some(GroupError::Fork) => {
                self.events.warn(warning::fork());
                Err(fork())
            }
            Some(error) => {
                self.events.warn(warning::bad_log(&error.to_string()));
                Err(group_error(error.clone()))
            }
        }
    }

    fn member_of(&self, device: &PublicKey) -> PublicKey {
        self.with_keys(|keys| keys.roster().device(device).map(|row| row.entry.member))
            .flatten()
            .unwrap_or(*device)
    }

    /// The broker's own head must be on our chain.
    fn compare_with_broker(&self, head: &claudemesh_proto::model::EpochHead) -> Result<(), ClientError> {
        let relation = heads::from_wire(head).and_then(|theirs| self.with_keys(|keys| keys.state().compare(&theirs)));
        if relation == Some(HeadRelation::Fork) {
            self.events.warn(warning::fork());
            return Err(fork());
        }
        Ok(())
    }
}

/// The mesh has another owner than the invite said.
pub(super) fn owner_mismatch() -> ClientError {
    ClientError::crypto(
        "the broker names another owner of this mesh than your invite link does; do not use this broker until the owner has \
         explained it",
    )
}

/// What is readable among the records; what is not shows as a gap.
fn read_records(entries: &[LogRecord], seals: &[SealRecord]) -> (Vec<LogEntry>, Vec<Seal>) {
    let entries = entries
        .iter()
        .filter_map(|record| serde_json::from_value(record.entry.clone()).ok())
        .collect();
    (entries, read_seals(seals))
}

/// The readable ones among some seals.
pub(super) fn read_seals(seals: &[SealRecord]) -> Vec<Seal> {
    seals
        .iter()
        .filter_map(|record| serde_json::from_value(record.seal.clone()).ok())
        .collect()
}
