//! Waiting before the next try.

use claudemesh_crypto::random_bytes;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// The waits of those that somebody waits for do not grow beyond the one of this try.
const SHORT_ATTEMPTS: u32 = 4;

/// A random time up to the limit of this try: 250 ms at the first, doubled with each, at most 30 s. Random, so that the
/// clients of a restarted broker do not come back all at once.
pub(crate) fn delay(attempt: u32) -> Duration {
    spread(limit(attempt))
}

/// [`delay`] while somebody waits for the connection: at most two seconds.
pub(crate) fn short_delay(attempt: u32) -> Duration {
    delay(attempt.min(SHORT_ATTEMPTS))
}

/// The time that the broker asked for, and up to a quarter more.
pub(crate) fn asked(wait: Duration) -> Duration {
    wait.saturating_add(spread(wait / 4))
}

fn limit(attempt: u32) -> Duration {
    FIRST
        .saturating_mul(1 << attempt.saturating_sub(1).min(16))
        .min(LONGEST)
}

fn spread(limit: Duration) -> Duration {
    let random = f64::from(u32::from_le_bytes(random_bytes())) / f64::from(u32::MAX);
    limit.mul_f64(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_double_up_to_half_a_minute() {
        let seconds: Vec<f64> = (1..=9).map(|attempt| limit(attempt).as_secs_f64()).collect();
        assert_eq!(seconds, [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        for attempt in [1, 5, 100, u32::MAX] {
            assert!(delay(attempt) <= LONGEST);
            assert!(short_delay(attempt) <= Duration::from_secs(2));
        }
        assert!(asked(Duration::from_secs(4)) >= Duration::from_secs(4));
    }
}
