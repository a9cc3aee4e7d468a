//! What was dropped and comes again: nothing of the same sender and class may overtake it.

use claudemesh_proto::model::{MessageId, Priority};
use std::collections::HashMap;
use tokio::time::Instant;

/// What has an order: the messages of one sender in one class.
pub(crate) type Stream = (String, Priority);

/// How long a message that came may wait here.
#[derive(Clone, Debug)]
pub(crate) struct Loan {
    /// What it must not be overtaken in.
    pub(crate) stream: Stream,
    /// Until when it may be handed to the program.
    pub(crate) until: Instant,
    /// Until when the broker may believe that it is here, and so send what follows it.
    pub(crate) believed: Instant,
}

struct Gap {
    id: MessageId,
    believed: Instant,
}

/// Messages that were dropped, in the order of their streams. The broker has at most 256 of a class at a client.
#[derive(Default)]
pub(super) struct Gaps(HashMap<Stream, Vec<Gap>>);

impl Gaps {
    /// Whether something before this message was dropped and was not sent again yet.
    pub(super) fn are_before(&mut self, id: &MessageId, loan: &Loan, now: Instant) -> bool {
        let Some(gaps) = self.0.get(&loan.stream) else {
            return false;
        };
        if gaps.iter().all(|gap| gap.believed <= now) {
            self.0.remove(&loan.stream);
            return false;
        }
        gaps.iter()
            .take_while(|gap| gap.id != *id)
            .any(|gap| gap.believed > now)
    }

    /// Notes a message that was dropped when it came.
    pub(super) fn dropped(&mut self, id: &MessageId, loan: Loan) {
        let Loan { stream, believed, .. } = loan;
        let gaps = self.0.entry(stream).or_default();
        match gaps.iter_mut().find(|gap| gap.id == *id) {
            Some(gap) => gap.believed = believed,
            None => gaps.push(Gap {
                id: id.clone(),
                believed,
            }),
        }
    }

    /// Notes messages of one stream that were here and were given up, in their order: they are before everything that was
    /// dropped when it came.
    pub(super) fn given_up(&mut self, stream: Stream, messages: impl IntoIterator<Item = (MessageId, Instant)>) {
        let messages = messages.into_iter().map(|(id, believed)| Gap { id, believed });
        self.0.entry(stream).or_default().splice(0..0, messages);
    }

    /// Notes that a message came again.
    pub(super) fn arrived(&mut self, id: &MessageId, loan: &Loan) {
        if let Some(gaps) = self.0.get_mut(&loan.stream) {
            gaps.retain(|gap| gap.id != *id);
            if gaps.is_empty() {
                self.0.remove(&loan.stream);
            }
        }
    }

    /// Everything comes again, in order.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
