//! Waiting before the next try.

use claudemesh_crypto::random_bytes;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// The waits of those that somebody waits for do not grow beyond the one of this try.
const SHORT_ATTEMPTS: u32 = 4;
/// So many more tries have that limit: a broker that restarts is soon there again, and finds everybody within seconds.
const SHORT_AGAIN: u32 = 4;

/// A random time up to the limit of this try: 250 ms at the first, doubled with each up to 2 s at the fourth, the same for
/// four more, then doubled up to 30 s. Random, so that the clients of a restarted broker do not come back all at once.
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
    let growing = match attempt.saturating_sub(SHORT_ATTEMPTS) {
        0 => attempt,
        more => SHORT_ATTEMPTS + more.saturating_sub(SHORT_AGAIN),
    };
    FIRST
        .saturating_mul(1 << growing.saturating_sub(1).min(16))
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
    fn limits_grow_up_to_half_a_minute() {
        let seconds: Vec<f64> = (1..=13).map(|attempt| limit(attempt).as_secs_f64()).collect();
        assert_eq!(
            seconds,
            [0.25, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
        );
        for attempt in [1, 5, 100, u32::MAX] {
            assert!(delay(attempt) <= LONGEST);
            assert!(short_delay(attempt) <= Duration::from_secs(2));
        }
        assert!(asked(Duration::from_secs(4)) >= Duration::from_secs(4));
    }
}
