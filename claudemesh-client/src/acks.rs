//! Acknowledgements of received messages: collected, and sent in batches in the background until the broker has them.

use crate::ClientError;
use crate::inner::Inner;
use crate::pending::lock;
use claudemesh_proto::limits::MAX_BATCH;
use claudemesh_proto::ops::{AckMessages, MessageAck};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// Wait between tries while the broker asks for patience without saying how much.
const RETRY: Duration = Duration::from_millis(500);

/// Acknowledgements that the broker does not have yet, the oldest first.
#[derive(Default)]
pub(crate) struct AckQueue {
    queue: Mutex<Queue>,
    ready: Notify,
    settled: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<MessageAck>,
    /// How many are on their way.
    under_way: usize,
}

impl AckQueue {
    pub(crate) fn push(&self, ack: MessageAck) {
        lock(&self.queue).waiting.push_back(ack);
        self.ready.notify_one();
    }

    pub(crate) fn take_batch(&self) -> Vec<MessageAck> {
        let mut queue = lock(&self.queue);
        let count = queue.waiting.len().min(MAX_BATCH);
        queue.under_way += count;
        queue.waiting.drain(..count).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.queue).waiting.is_empty()
    }

    /// Waits until the broker has every acknowledgement.
    pub(crate) async fn drained(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.is_settled() {
                return;
            }
            settled.await;
        }
    }

    fn is_settled(&self) -> bool {
        let queue = lock(&self.queue);
        queue.waiting.is_empty() && queue.under_way == 0
    }

    /// `count` were on their way; `back` of them go again.
    fn settle(&self, count: usize, back: Vec<MessageAck>) {
        let mut queue = lock(&self.queue);
        queue.under_way = queue.under_way.saturating_sub(count);
        for ack in back.into_iter().rev() {
            queue.waiting.push_front(ack);
        }
        drop(queue);
        self.settled.notify_waiters();
    }
}

/// Sends acknowledgements until the client is closed. Those that come while a batch is on its way are the next batch.
pub(crate) async fn run(inner: Arc<Inner>) {
    tokio::select! {
        () = inner.shutdown.cancelled() => {}
        () = send_all(&inner) => {}
    }
}

async fn send_all(inner: &Arc<Inner>) {
    loop {
        inner.acks.ready.notified().await;
        loop {
            if inner.wait_open().await.is_err() {
                return;
            }
            let batch = Batch::take(&inner.acks);
            if batch.acks.is_empty() {
                break;
            }
            if inner.protocol() < 2 {
                batch.done(inner);
                continue;
            }
            let request = AckMessages {
                acks: batch.acks.clone(),
            };
            match inner.request(&request).await {
                Ok(_) => batch.done(inner),
                Err(error @ ClientError::NotConnected { .. }) => tracing::debug!(%error, "acknowledging again"),
                Err(error) if error.retryable() => {
                    drop(batch);
                    tokio::time::sleep(error.retry_after().unwrap_or(RETRY)).await;
                }
                Err(error) => {
                    // Repeating it would be refused again; the broker delivers these messages once more at worst.
                    inner.warn(format!("{} acknowledgements were refused: {error}", batch.acks.len()));
                    batch.done(inner);
                }
            }
        }
    }
}

/// A batch on its way. Goes back into the queue unless it is [`Batch::done`], also when the task ends in between.
struct Batch<'a> {
    acks: Vec<MessageAck>,
    count: usize,
    queue: &'a AckQueue,
}

impl<'a> Batch<'a> {
    fn take(queue: &'a AckQueue) -> Self {
        let acks = queue.take_batch();
        Self {
            count: acks.len(),
            acks,
            queue,
        }
    }

    fn done(mut self, inner: &Inner) {
        inner.settled(&self.acks);
        self.acks.clear();
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.queue.settle(self.count, std::mem::take(&mut self.acks));
    }
}
