//! Notices lost, repeated and reordered messages of each sender.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::label::Label;
use crate::PublicKey;

const MAX_LANES: usize = 4096;
const MAX_IDS: usize = 8192;
/// How far back a late message is told from a repeated one.
const WINDOW: u64 = 64;

/// What a sequence number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceReport {
    /// The next one, or the first of its lane.
    Ok,
    /// `missing` messages, from number `from` on, have not come (yet). The message itself is good.
    Gap {
        /// How many.
        missing: u64,
        /// Number of the first.
        from: u64,
    },
    /// Was reported missing before; good.
    Late,
    /// Seen already, or too old to tell: drop it.
    Replay,
}

#[derive(Clone, Copy, Debug)]
struct Lane {
    /// Number that comes next.
    next: u64,
    /// Bit n: number `next - 1 - n` was seen.
    seen: u64,
    used: u64,
}

/// Follows the numbers of each lane: sender session, label, priority. A sender counts each lane from 0 or 1; the first
/// number that is seen is taken as the start, since a receiver may come later than the sender. Memory is bounded: the lanes
/// unused for longest are forgotten.
#[derive(Clone, Debug, Default)]
pub struct SequenceTracker {
    lanes: BTreeMap<(PublicKey, String, String), Lane>,
    ids: HashSet<String>,
    id_order: VecDeque<String>,
    clock: u64,
}

impl SequenceTracker {
    /// A tracker that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges a message that has been opened: call it after [`open_group`](super::open_group), never before, or anybody can
    /// move the numbers.
    pub fn observe(
        &mut self,
        sender_session: &PublicKey,
        label: &Label,
        priority: &str,
        seq: u64,
        message_id: &str,
    ) -> SequenceReport {
        if self.ids.contains(message_id) {
            return SequenceReport::Replay;
        }
        let report = self.advance((*sender_session, label.as_str().to_owned(), priority.to_owned()), seq);
        if report != SequenceReport::Replay {
            self.remember(message_id);
        }
        report
    }

    fn advance(&mut self, key: (PublicKey, String, String), seq: u64) -> SequenceReport {
        self.clock = self.clock.saturating_add(1);
        let used = self.clock;
        let Some(lane) = self.lanes.get_mut(&key) else {
            self.make_room();
            self.lanes.insert(
                key,
                Lane {
                    next: seq.saturating_add(1),
                    seen: 1,
                    used,
                },
            );
            return SequenceReport::Ok;
        };
        lane.used = used;
        if seq >= lane.next {
            let missing = seq - lane.next;
            let from = lane.next;
            let shift = u32::try_from(missing.saturating_add(1)).unwrap_or(u32::MAX);
            lane.seen = lane.seen.checked_shl(shift).unwrap_or(0) | 1;
            lane.next = seq.saturating_add(1);
            return if missing == 0 {
                SequenceReport::Ok
            } else {
                SequenceReport::Gap { missing, from }
            };
        }
        let back = lane.next - 1 - seq;
        if back >= WINDOW || lane.seen & (1 << back) != 0 {
            return SequenceReport::Replay;
        }
        lane.seen |= 1 << back;
        SequenceReport::Late
    }

    fn make_room(&mut self) {
        if self.lanes.len() < MAX_LANES {
            return;
        }
        let oldest = self
            .lanes
            .iter()
            .min_by_key(|(_, lane)| lane.used)
            .map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            self.lanes.remove(&oldest);
        }
    }

    fn remember(&mut self, message_id: &str) {
        if self.id_order.len() >= MAX_IDS
            && let Some(oldest) = self.id_order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        self.ids.insert(message_id.to_owned());
        self.id_order.push_back(message_id.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; 32])
    }

    fn see(tracker: &mut SequenceTracker, seq: u64) -> SequenceReport {
        tracker.observe(&session(1), &Label::all(), "next", seq, &format!("id{seq}"))
    }

    #[test]
    fn reports_gaps_late_messages_and_replays() {
        let mut tracker = SequenceTracker::new();
        assert_eq!(see(&mut tracker, 1), SequenceReport::Ok);
        assert_eq!(see(&mut tracker, 4), SequenceReport::Gap { missing: 2, from: 2 });
        assert_eq!(see(&mut tracker, 2), SequenceReport::Late);
        assert_eq!(see(&mut tracker, 2), SequenceReport::Replay);
        assert_eq!(see(&mut tracker, 5), SequenceReport::Ok);
        let renamed = tracker.observe(&session(1), &Label::all(), "next", 5, "other id");
        assert_eq!(renamed, SequenceReport::Replay, "the same number under another id");
        let renumbered = tracker.observe(&session(1), &Label::all(), "next", 6, "id5");
        assert_eq!(renumbered, SequenceReport::Replay, "the same id under another number");
        let before_start = see(&mut tracker, 0);
        assert_eq!(before_start, SequenceReport::Late);
    }

    #[test]
    fn lanes_are_apart_and_numbers_may_be_extreme() {
        let mut tracker = SequenceTracker::new();
        assert_eq!(see(&mut tracker, 1), SequenceReport::Ok);
        assert_eq!(
            tracker.observe(&session(1), &Label::all(), "now", 9, "a"),
            SequenceReport::Ok
        );
        assert_eq!(
            tracker.observe(&session(2), &Label::all(), "next", 9, "b"),
            SequenceReport::Ok
        );
        assert_eq!(
            see(&mut tracker, u64::MAX),
            SequenceReport::Gap {
                missing: u64::MAX - 2,
                from: 2
            }
        );
        assert_eq!(see(&mut tracker, 3), SequenceReport::Replay);
    }

    #[test]
    fn memory_is_bounded() {
        let mut tracker = SequenceTracker::new();
        for number in 0..20_000_u64 {
            let label = Label::topic(&format!("t{}", number % 6000)).expect("a valid name");
            tracker.observe(&session(1), &label, "next", number, &number.to_string());
        }
        assert!(tracker.lanes.len() <= MAX_LANES);
        assert!(tracker.ids.len() <= MAX_IDS && tracker.id_order.len() <= MAX_IDS);
    }
}
