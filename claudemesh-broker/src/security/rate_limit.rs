//! Token buckets: per member and class of operations, and per key for endpoints.
//!
//! Levels are whole numbers, so that a token is there exactly when it is due, however often one asks before.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};

use claudemesh_proto::RateClass;
use claudemesh_proto::model::MemberId;

use crate::config::RateLimits;

/// One token, in the unit of levels: what a rate of one per minute adds in a minute of milliseconds.
const TOKEN: u64 = 60_000;
/// Buckets that nobody used for this long are forgotten; all of them are full by then.
const IDLE_MS: i64 = 600_000;
/// Locks: members rarely wait for each other.
const SHARDS: usize = 16;
/// Most keys of endpoints in one shard; the oldest make room. Bounds what a flood of addresses can take.
const MAX_KEYS: usize = 8_192;

/// How fast tokens come, and how many there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    per_minute: u64,
    capacity: u64,
}

impl Limit {
    /// `rate` tokens a minute, at most `burst` at once.
    #[must_use]
    pub fn per_minute(rate: u32, burst: u32) -> Self {
        Self {
            per_minute: u64::from(rate),
            capacity: u64::from(burst),
        }
    }

    /// `rate` tokens a second, at most `burst` at once.
    #[must_use]
    pub fn per_second(rate: u32, burst: u32) -> Self {
        Self {
            per_minute: u64::from(rate) * 60,
            capacity: u64::from(burst),
        }
    }

    /// The same rate with another burst.
    #[must_use]
    pub fn with_burst(self, burst: u32) -> Self {
        Self {
            capacity: u64::from(burst),
            ..self
        }
    }
}

/// No token is there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// When the next one comes, in milliseconds.
    pub retry_after_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: u64,
    at_ms: i64,
}

impl Bucket {
    fn full(limit: Limit, now_ms: i64) -> Self {
        Self {
            level: limit.capacity * TOKEN,
            at_ms: now_ms,
        }
    }

    fn take(&mut self, limit: Limit, now_ms: i64) -> Result<(), Limited> {
        // A clock that was set back adds nothing, and takes nothing away.
        let elapsed = u64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(0);
        let gained = elapsed.saturating_mul(limit.per_minute);
        self.level = self.level.saturating_add(gained).min(limit.capacity * TOKEN);
        self.at_ms = now_ms;
        match self.level.checked_sub(TOKEN) {
            Some(rest) => {
                self.level = rest;
                Ok(())
            }
            None => {
                let missing = TOKEN - self.level;
                Err(Limited {
                    retry_after_ms: missing.div_ceil(limit.per_minute.max(1)),
                })
            }
        }
    }
}

/// Buckets of all members and keys.
#[derive(Debug)]
pub struct RateLimiter {
    limits: RateLimits,
    hasher: RandomState,
    members: Vec<Mutex<HashMap<MemberId, [Bucket; RateClass::ALL.len()]>>>,
    keys: Vec<Mutex<HashMap<(&'static str, String), Bucket>>>,
}

impl RateLimiter {
    /// A limiter without history.
    #[must_use]
    pub fn new(limits: RateLimits) -> Self {
        Self {
            limits,
            hasher: RandomState::new(),
            members: (0..SHARDS).map(|_| Mutex::default()).collect(),
            keys: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Takes a token of this member's bucket for operations of this class.
    ///
    /// # Errors
    /// [`Limited`] when there is none.
    pub fn check(&self, member: &MemberId, class: RateClass, now_ms: i64) -> Result<(), Limited> {
        let mut buckets = lock(&self.members[self.shard(member.as_str())]);
        let limit = self.limits.of(class);
        let slot = slot(class);
        if let Some(buckets) = buckets.get_mut(member.as_str()) {
            return buckets[slot].take(limit, now_ms);
        }
        let mut fresh = RateClass::ALL.map(|class| Bucket::full(self.limits.of(class), now_ms));
        let taken = fresh[slot].take(limit, now_ms);
        buckets.insert(member.clone(), fresh);
        taken
    }

    /// Takes a token of the bucket of `key` for `purpose`.
    ///
    /// # Errors
    /// [`Limited`] when there is none.
    pub fn check_key(&self, purpose: &'static str, key: &str, limit: Limit, now_ms: i64) -> Result<(), Limited> {
        let mut buckets = lock(&self.keys[self.shard(key)]);
        if buckets.len() >= MAX_KEYS {
            buckets.retain(|_, bucket| now_ms.saturating_sub(bucket.at_ms) < 60_000);
            if buckets.len() >= MAX_KEYS {
                buckets.clear();
            }
        }
        buckets
            .entry((purpose, key.to_owned()))
            .or_insert_with(|| Bucket::full(limit, now_ms))
            .take(limit, now_ms)
    }

    /// Forgets buckets that have not been used for ten minutes.
    pub fn sweep(&self, now_ms: i64) {
        let is_idle = |at_ms: i64| now_ms.saturating_sub(at_ms) > IDLE_MS;
        for shard in &self.members {
            lock(shard).retain(|_, buckets| !buckets.iter().all(|bucket| is_idle(bucket.at_ms)));
        }
        for shard in &self.keys {
            lock(shard).retain(|_, bucket| !is_idle(bucket.at_ms));
        }
    }

    fn shard(&self, key: impl Hash) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0)
    }
}

fn slot(class: RateClass) -> usize {
    match class {
        RateClass::Read => 0,
        RateClass::Write => 1,
        RateClass::Message => 2,
        RateClass::Heavy => 3,
    }
}

/// Buckets are whole after every statement: a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_follows_the_originals_vector() {
        let limiter = RateLimiter::new(RateLimits::default());
        let limit = Limit::per_minute(60, 5);
        let sequence = [
            (1_000_000, true),
            (1_000_000, true),
            (1_000_000, true),
            (1_000_000, true),
            (1_000_000, true),
            (1_000_000, false),
            (1_001_000, true),
            (1_001_000, false),
            (1_001_500, false),
            (1_002_000, true),
            (4_602_000, true),
            (4_602_000, true),
            (4_602_000, true),
            (4_602_000, true),
            (4_602_000, true),
            (4_602_000, false),
        ];
        for (step, (at, allowed)) in sequence.into_iter().enumerate() {
            assert_eq!(
                limiter.check_key("test", "k", limit, at).is_ok(),
                allowed,
                "step {step}"
            );
        }
        assert_eq!(
            limiter.check_key("test", "k", limit, 4_602_250),
            Err(Limited { retry_after_ms: 750 })
        );
    }

    #[test]
    fn members_classes_and_purposes_do_not_share() {
        let limits = RateLimits {
            heavy: Limit::per_second(1, 1),
            ..RateLimits::default()
        };
        let limiter = RateLimiter::new(limits);
        let (a, b) = (MemberId::from("a"), MemberId::from("b"));
        assert!(limiter.check(&a, RateClass::Heavy, 0).is_ok());
        assert_eq!(
            limiter.check(&a, RateClass::Heavy, 0),
            Err(Limited { retry_after_ms: 1_000 })
        );
        assert!(limiter.check(&a, RateClass::Read, 0).is_ok());
        assert!(limiter.check(&b, RateClass::Heavy, 0).is_ok());
        let one = Limit::per_minute(1, 1);
        assert!(limiter.check_key("x", "k", one, 0).is_ok());
        assert!(limiter.check_key("y", "k", one, 0).is_ok());
        assert!(limiter.check_key("x", "k", one, 0).is_err());
    }

    #[test]
    fn waiting_as_long_as_told_is_enough_and_never_too_long() {
        let limit = Limit::per_minute(7, 1);
        let mut bucket = Bucket::full(limit, 0);
        let mut now = 0;
        for _ in 0..100 {
            assert!(bucket.take(limit, now).is_ok());
            let Limited { retry_after_ms } = bucket.take(limit, now).unwrap_err();
            assert!(
                bucket
                    .take(limit, now + i64::try_from(retry_after_ms).unwrap() - 1)
                    .is_err()
            );
            now += i64::try_from(retry_after_ms).unwrap();
        }
    }

    #[test]
    fn a_clock_that_jumps_does_no_harm() {
        let limit = Limit::per_second(1, 2);
        let mut bucket = Bucket::full(limit, i64::MAX);
        assert!(bucket.take(limit, i64::MIN).is_ok());
        assert!(bucket.take(limit, i64::MAX).is_ok());
    }

    #[test]
    fn idle_buckets_are_forgotten() {
        let limiter = RateLimiter::new(RateLimits::default());
        limiter.check(&MemberId::from("a"), RateClass::Read, 0).unwrap();
        limiter.sweep(IDLE_MS);
        assert_eq!(limiter.members.iter().map(|shard| lock(shard).len()).sum::<usize>(), 1);
        limiter.sweep(IDLE_MS + 1);
        assert_eq!(limiter.members.iter().map(|shard| lock(shard).len()).sum::<usize>(), 0);
    }
}
