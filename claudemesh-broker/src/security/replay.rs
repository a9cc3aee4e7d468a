//! Proofs that were used already. A proof is good once, however short its life.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use claudemesh_crypto::{HELLO_SKEW_MS, REQUEST_SKEW_MS};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Most proofs that are remembered: about 60 MB. More in two minutes are not a load but an attack by a member.
const MAX_PROOFS: usize = 1_000_000;
/// Proofs that end within the same span are forgotten together.
const SPAN_MS: i64 = 10_000;

/// Why a proof is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// It was used before.
    #[error("this proof was used before; sign a fresh one")]
    Replayed,
    /// No more proofs can be remembered right now, and one that is not remembered must not be taken.
    #[error("too many proofs in a short time; try again in a minute")]
    Full,
}

/// Remembers proofs until they would be refused for their age. Bounded: it refuses rather than forgets.
#[derive(Debug)]
pub struct ReplayGuard {
    most: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    spans: BTreeMap<i64, HashSet<[u8; 32]>>,
    count: usize,
}

impl Default for ReplayGuard {
    fn default() -> Self {
        Self::new(MAX_PROOFS)
    }
}

impl ReplayGuard {
    /// A guard that remembers at most `most` proofs.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            used: Mutex::default(),
        }
    }

    /// Takes the proof of a `hello` of version 1, which has no nonce: its signed text.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn take_hello(&self, text: &str, timestamp_ms: i64, now_ms: i64) -> Result<(), ReplayError> {
        self.take(
            proof(&["hello", text]),
            timestamp_ms.saturating_add(HELLO_SKEW_MS),
            now_ms,
        )
    }

    /// Takes the proof of an HTTP request: the nonce that this key chose. The time of signing is part of what is
    /// remembered, because it decides when the proof is too old to be used again.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn take_request(&self, key: &str, nonce: &str, timestamp_ms: i64, now_ms: i64) -> Result<(), ReplayError> {
        let ends = timestamp_ms.saturating_add(REQUEST_SKEW_MS);
        self.take(proof(&["request", key, nonce, &timestamp_ms.to_string()]), ends, now_ms)
    }

    /// Takes a proof that is refused anyway after `ends_ms`. The same proof always has the same end.
    fn take(&self, proof: [u8; 32], ends_ms: i64, now_ms: i64) -> Result<(), ReplayError> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let current = now_ms.div_euclid(SPAN_MS);
        while let Some(oldest) = used.spans.first_entry() {
            if *oldest.key() >= current {
                break;
            }
            let forgotten = oldest.remove().len();
            used.count -= forgotten;
        }
        let span = ends_ms.div_euclid(SPAN_MS);
        if used.spans.get(&span).is_some_and(|proofs| proofs.contains(&proof)) {
            return Err(ReplayError::Replayed);
        }
        if used.count >= self.most {
            return Err(ReplayError::Full);
        }
        used.spans.entry(span).or_default().insert(proof);
        used.count += 1;
        Ok(())
    }
}

fn proof(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_once_while_it_lives() {
        let guard = ReplayGuard::default();
        guard.take_hello("text", 1_000_000, 1_000_000).unwrap();
        for now in [1_000_000, 1_030_000, 1_000_000 + HELLO_SKEW_MS] {
            assert_eq!(guard.take_hello("text", 1_000_000, now), Err(ReplayError::Replayed));
        }
        guard.take_hello("other", 1_000_000, 1_000_001).unwrap();
        guard.take_request("key", "nonce", 1_000_000, 1_000_001).unwrap();
        assert_eq!(
            guard.take_request("key", "nonce", 1_000_000, 1_000_002),
            Err(ReplayError::Replayed)
        );
        guard.take_request("keyn", "once", 1_000_000, 1_000_001).unwrap();
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let guard = ReplayGuard::new(2);
        guard.take_hello("a", 0, 0).unwrap();
        guard.take_hello("b", 0, 0).unwrap();
        assert_eq!(
            guard.take_hello("c", 0, 0),
            Err(ReplayError::Full),
            "it refuses rather than forgets"
        );
        guard.take_hello("c", 100_000, 100_000).unwrap();
        assert_eq!(guard.used.lock().unwrap().count, 1);
    }

    #[test]
    fn a_proof_from_the_future_is_remembered_until_its_own_end() {
        let guard = ReplayGuard::default();
        guard.take_hello("a", 160_000, 100_000).unwrap();
        assert_eq!(guard.take_hello("a", 160_000, 219_999), Err(ReplayError::Replayed));
    }
}
