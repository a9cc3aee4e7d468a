//! Senders that do not stop for anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use claudemesh_client::MeshClient;
use claudemesh_client::proto::model::Priority;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{PATIENCE, until};

/// Several senders that start, count and stop together.
#[derive(Clone)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    pause: Duration,
    most: usize,
}

impl Load {
    /// Each sender waits so long between two messages.
    pub(crate) fn new(pause: Duration) -> Self {
        Self {
            stop: Arc::default(),
            acknowledged: Arc::default(),
            pause,
            most: usize::MAX,
        }
    }

    /// Each sender stops by itself after so many.
    pub(crate) fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Messages that the broker has acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for so many further acknowledgements.
    pub(crate) async fn goes_on(&self, further: usize) -> Duration {
        let before = self.acknowledged();
        until("messages are acknowledged", || async {
            self.acknowledged() >= before + further
        })
        .await
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Sends to one target until told to stop; gives what was acknowledged, which in the end is everything.
    pub(crate) fn send(
        &self,
        client: &MeshClient,
        target: impl Into<String>,
        lane: impl Into<String>,
    ) -> JoinHandle<Vec<String>> {
        let (load, client, target, lane) = (self.clone(), client.clone(), target.into(), lane.into());
        tokio::spawn(async move {
            let mut texts = Vec::new();
            let mut waiting = Vec::new();
            let to = client.resolve(&target).await.unwrap();
            while !load.stop.load(Ordering::Relaxed) && texts.len() < load.most {
                let text = format!("{lane} {}", texts.len());
                match client.queue_to(&to, &text, Priority::Now).await {
                    Ok(pending) => {
                        let acknowledged = load.acknowledged.clone();
                        let shown = text.clone();
                        waiting.push(tokio::spawn(async move {
                            pending.await.unwrap_or_else(|error| panic!("{shown}: {error}"));
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }));
                        texts.push(text);
                    }
                    // Nothing was queued: the program tries again.
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
                sleep(load.pause).await;
            }
            for pending in waiting {
                timeout(PATIENCE, pending)
                    .await
                    .expect("a message is never acknowledged")
                    .unwrap();
            }
            texts
        })
    }
}

/// What all these senders sent.
pub(crate) async fn sent(senders: Vec<JoinHandle<Vec<String>>>) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for sender in senders {
        all.push(sender.await.unwrap());
    }
    all
}
