//! What a session is doing, and who is on record for it.

use claudemesh_proto::model::{PeerStatus, StatusSource};

/// The status of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRecord {
    /// What it is doing.
    pub status: PeerStatus,
    /// Who said so.
    pub source: StatusSource,
    /// When it was last said, by the steady clock.
    pub updated_at_ms: i64,
}

impl Default for StatusRecord {
    fn default() -> Self {
        Self::new()
    }
}

impl StatusRecord {
    /// The status of a session that has just connected: idle, inferred.
    #[must_use]
    pub fn new() -> Self {
        Self {
            status: PeerStatus::Idle,
            source: StatusSource::Jsonl,
            // Nobody said so: it is never fresh.
            updated_at_ms: i64::MIN,
        }
    }

    /// Records `status`. A source of lower rank that only confirms a fresh record does not take its name off it; a
    /// different status always wins, whoever says it.
    pub fn write(&mut self, status: PeerStatus, source: StatusSource, now_ms: i64, fresh_window_ms: i64) {
        let age = now_ms.saturating_sub(self.updated_at_ms);
        let fresh = (0..=fresh_window_ms).contains(&age);
        if status != self.status || source >= self.source || !fresh {
            self.source = source;
        }
        self.status = status;
        self.updated_at_ms = now_ms;
    }

    /// Records what a hook reports, unless the session does not want to be disturbed: only its own `set_status` ends
    /// that. Returns whether it was recorded.
    pub fn hook(&mut self, status: PeerStatus, now_ms: i64, fresh_window_ms: i64) -> bool {
        if self.status == PeerStatus::Dnd && !mutant!(HookEndsDnd) {
            return false;
        }
        self.write(status, StatusSource::Hook, now_ms, fresh_window_ms);
        true
    }

    /// Ends a `working` that nobody has confirmed for longer than `ttl_ms`. Returns whether it did.
    ///
    /// A record from the future (the clock was set back) counts as made now, so that the session is not held busy for
    /// longer than the limit.
    pub fn expire(&mut self, now_ms: i64, ttl_ms: i64, fresh_window_ms: i64) -> bool {
        self.updated_at_ms = self.updated_at_ms.min(now_ms);
        if mutant!(WorkingForEver)
            || self.status != PeerStatus::Working
            || now_ms.saturating_sub(self.updated_at_ms) <= ttl_ms
        {
            return false;
        }
        self.write(PeerStatus::Idle, StatusSource::Jsonl, now_ms, fresh_window_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: i64 = 30_000;
    const TTL: i64 = 60_000;

    fn record(status: PeerStatus, source: StatusSource, updated_at_ms: i64) -> StatusRecord {
        StatusRecord {
            status,
            source,
            updated_at_ms,
        }
    }

    #[test]
    fn every_case_of_the_originals_vectors() {
        let text = include_str!("../../tests/vectors/status_engine.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 270);
        let now = 1_760_000_000_000;
        for case in cases {
            let status = |value: &serde_json::Value| serde_json::from_value::<PeerStatus>(value.clone()).unwrap();
            let source = |value: &serde_json::Value| serde_json::from_value::<StatusSource>(value.clone()).unwrap();
            let (prev, incoming, result) = (&case["prev"], &case["incoming"], &case["result"]);
            let age = prev["age_ms"].as_i64().unwrap();
            let mut record = record(status(&prev["status"]), source(&prev["source"]), now - age);
            record.write(status(&incoming["status"]), source(&incoming["source"]), now, FRESH);
            assert_eq!(record.status, status(&result["status"]), "{case}");
            assert_eq!(record.source, source(&result["source"]), "{case}");
            assert_eq!(record.updated_at_ms == now, result["bump"].as_bool().unwrap(), "{case}");
        }
    }

    #[test]
    fn a_hook_never_changes_dnd() {
        let mut dnd = record(PeerStatus::Dnd, StatusSource::Manual, 0);
        assert!(!dnd.hook(PeerStatus::Idle, 1_000_000, FRESH));
        assert_eq!(dnd, record(PeerStatus::Dnd, StatusSource::Manual, 0));
        dnd.write(PeerStatus::Idle, StatusSource::Manual, 5, FRESH);
        assert!(dnd.hook(PeerStatus::Working, 6, FRESH));
        assert_eq!(dnd, record(PeerStatus::Working, StatusSource::Hook, 6));
    }

    /// The original re-inferred the status from transcripts on the broker's own disk at each message, which reset a
    /// remote session's manual `working` at once (defect 92).
    #[test]
    fn defect_092_sub_e_21_working_holds_until_its_limit_and_no_longer() {
        for source in [StatusSource::Jsonl, StatusSource::Manual, StatusSource::Hook] {
            let mut working = record(PeerStatus::Working, source, 1_000);
            assert!(!working.expire(1_000 + TTL, TTL, FRESH));
            assert!(working.expire(1_001 + TTL, TTL, FRESH));
            assert_eq!(working, record(PeerStatus::Idle, StatusSource::Jsonl, 1_001 + TTL));
        }
        let mut dnd = record(PeerStatus::Dnd, StatusSource::Manual, 0);
        assert!(!dnd.expire(i64::MAX, TTL, FRESH));
    }

    #[test]
    fn clock_jumps_do_no_harm() {
        let mut future = record(PeerStatus::Working, StatusSource::Hook, i64::MAX);
        future.write(PeerStatus::Working, StatusSource::Jsonl, i64::MIN, FRESH);
        assert_eq!(
            future.source,
            StatusSource::Jsonl,
            "a record from the future is not fresh"
        );
        let mut future = record(PeerStatus::Working, StatusSource::Hook, 10 * TTL);
        assert!(!future.expire(0, TTL, FRESH));
        assert!(
            future.expire(TTL + 1, TTL, FRESH),
            "held for one limit after the clock was set back"
        );
        record(PeerStatus::Working, StatusSource::Hook, i64::MIN).expire(i64::MAX, TTL, FRESH);
    }
}
