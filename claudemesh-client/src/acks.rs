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
    queue: Mutex<VecDeque<MessageAck>>,
    ready: Notify,
}

impl AckQueue {
    pub(crate) fn push(&self, ack: MessageAck) {
        lock(&self.queue).push_back(ack);
        self.ready.notify_one();
    }

    pub(crate) fn take_batch(&self) -> Vec<MessageAck> {
        let mut queue = lock(&self.queue);
        let count = queue.len().min(MAX_BATCH);
        queue.drain(..count).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.queue).is_empty()
    }

    fn put_back(&self, batch: Vec<MessageAck>) {
        let mut queue = lock(&self.queue);
        for ack in batch.into_iter().rev() {
            queue.push_front(ack);
        }
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
            let batch = Batch {
                acks: inner.acks.take_batch(),
                queue: &inner.acks,
            };
            if batch.acks.is_empty() {
                break;
            }
            if inner.protocol() < 2 {
                batch.done();
                continue;
            }
            let request = AckMessages {
                acks: batch.acks.clone(),
            };
            match inner.request(&request).await {
                Ok(_) => batch.done(),
                Err(error @ ClientError::NotConnected { .. }) => tracing::debug!(%error, "acknowledging again"),
                Err(error) if error.retryable() => {
                    drop(batch);
                    tokio::time::sleep(error.retry_after().unwrap_or(RETRY)).await;
                }
                Err(error) => {
                    // Repeating it would be refused again; the broker delivers these messages once more at worst.
                    inner.warn(format!("{} acknowledgements were refused: {error}", batch.acks.len()));
                    batch.done();
                }
            }
        }
    }
}

/// A batch on its way. Goes back into the queue unless it is [`Batch::done`], also when the task ends in between.
struct Batch<'a> {
    acks: Vec<MessageAck>,
    queue: &'a AckQueue,
}

impl Batch<'_> {
    fn done(mut self) {
        self.acks.clear();
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.queue.put_back(std::mem::take(&mut self.acks));
    }
}
