//! What the tests share.

pub(crate) mod cast;
pub(crate) mod disk;
pub(crate) mod figures;
pub(crate) mod load;
pub(crate) mod process;
pub(crate) mod rows;
pub(crate) mod scale;
pub(crate) mod trio;
pub(crate) mod wire;

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// The longest that anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until something holds, and gives the time that it took.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) -> Duration {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "still not so: {what}");
        sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}

/// A number below `most`.
pub(crate) fn random(most: u64) -> u64 {
    u64::from_le_bytes(claudemesh_crypto::random_bytes()) % most
}
