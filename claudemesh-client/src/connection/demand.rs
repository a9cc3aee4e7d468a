//! Who needs the connection now. While somebody waits for it, tries follow each other quickly.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Calls that wait for the connection, and whether a message was queued since the last try.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    waiting: AtomicUsize,
    once: AtomicBool,
    raised: Notify,
}

/// A call that waits; dropping it ends the demand.
#[derive(Debug)]
pub(crate) struct Waiter<'a>(&'a Demand);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Demand {
    /// Somebody waits until the guard is dropped.
    pub(crate) fn wait(&self) -> Waiter<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.raised.notify_one();
        Waiter(self)
    }

    /// One try is wanted now; nobody waits for what comes of it.
    pub(crate) fn once(&self) {
        // Only the first: a program that queues a thousand messages wakes the connection task once.
        if !self.once.swap(true, Ordering::Relaxed) {
            self.raised.notify_one();
        }
    }

    /// Waits before the next try: `short` from now if there is demand, also if it comes up while waiting, else `long`.
    pub(crate) async fn pause(&self, short: Duration, long: Duration) {
        let began = Instant::now();
        loop {
            let pressing = self.waiting.load(Ordering::Relaxed) > 0 || self.once.load(Ordering::Relaxed);
            let wait = if pressing { short.min(long) } else { long };
            tokio::select! {
                () = sleep_until(began + wait) => break,
                () = self.raised.notified() => {}
            }
        }
        self.once.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::time::sleep;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(3_600);

    /// Starts a pause that has lasted for a while.
    async fn paused(demand: &Arc<Demand>) -> tokio::task::JoinHandle<Duration> {
        let demand = demand.clone();
        let pause = tokio::spawn(async move {
            let began = Instant::now();
            demand.pause(SHORT, LONG).await;
            began.elapsed()
        });
        sleep(10 * SHORT).await;
        assert!(!pause.is_finished());
        pause
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_during_a_long_pause_ends_it_at_once() {
        let demand = Arc::new(Demand::default());
        let pause = paused(&demand).await;
        let waiter = demand.wait();
        assert!(pause.await.unwrap() < 11 * SHORT);
        // It still waits: the next pause is short.
        demand.pause(SHORT, LONG).await;
        drop(waiter);
        let pause = paused(&demand).await;
        assert!(pause.await.unwrap() >= LONG, "nobody waits any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_queued_message_makes_one_try() {
        let demand = Arc::new(Demand::default());
        let pause = paused(&demand).await;
        demand.once();
        demand.once();
        assert!(pause.await.unwrap() < 11 * SHORT);
        let pause = paused(&demand).await;
        assert!(pause.await.unwrap() >= LONG);
    }
}
