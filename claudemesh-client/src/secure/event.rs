//! What people should know and no call returns.

use claudemesh_crypto::PublicKey;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Oldest events are dropped beyond this number.
const CAPACITY: usize = 256;

/// News of the group keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecureEvent {
    /// A sentence to show to the person.
    Warning(String),
    /// A member came into the group.
    Admitted(PublicKey),
    /// A member left the group.
    Removed(PublicKey),
    /// This device was removed from the group: it cannot read what is sent to groups from now on.
    RemovedSelf,
    /// A member asks for the group keys, and a person has to decide: `admit` it after comparing safety numbers.
    AdmissionAsked {
        /// The member.
        member: PublicKey,
        /// Digits to compare with it aloud.
        safety_number: String,
    },
    /// This device has the newest group key, and did not have it before.
    Ready,
}

#[derive(Debug, Default)]
pub(super) struct Events {
    queue: Mutex<VecDeque<SecureEvent>>,
    arrived: Notify,
}

impl Events {
    pub(super) fn push(&self, event: SecureEvent) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= CAPACITY {
            queue.pop_front();
        }
        queue.push_back(event);
        drop(queue);
        self.arrived.notify_one();
    }

    pub(super) fn warn(&self, text: String) {
        self.push(SecureEvent::Warning(text));
    }

    pub(super) fn take(&self) -> Vec<SecureEvent> {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
            .collect()
    }

    pub(super) async fn next(&self) -> SecureEvent {
        loop {
            let event = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            if let Some(event) = event {
                return event;
            }
            self.arrived.notified().await;
        }
    }
}
