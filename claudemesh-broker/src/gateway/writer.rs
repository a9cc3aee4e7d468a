//! The outgoing half of a socket.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use claudemesh_proto::PROTOCOL_VERSION;
use claudemesh_proto::frame::{GoingAway, ServerFrame};
use futures_util::stream::SplitSink;
use futures_util::{Sink, SinkExt as _};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::outbound::{CloseReason, OutboundFrames};

/// Most frames, and about how many bytes, that are written before they are flushed.
const BATCH_FRAMES: usize = 256;
const BATCH_BYTES: usize = 256 * 1024;
/// How long a client that is being disconnected gets to read what is queued.
const GRACE: Duration = Duration::from_secs(3);

/// Writes what is queued until the connection ends. `ended` says that the client is gone.
pub(super) async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut frames: OutboundFrames,
    protocol: u32,
    ping_interval: Duration,
    ended: CancellationToken,
) {
    let mut pings = interval(ping_interval);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.tick().await;
    loop {
        let batch = tokio::select! {
            biased;
            () = ended.cancelled() => return,
            frame = frames.next() => match frame {
                Some(frame) => batch(frame, &mut frames),
                None => break,
            },
            _ = pings.tick() => vec![Message::Ping(axum::body::Bytes::new())],
        };
        // A client that does not read blocks the write: when it is to be closed, it has had its time.
        let overdue = async {
            frames.closing().await;
            sleep(GRACE).await;
        };
        tokio::select! {
            written = write_batch(&mut sink, batch) => if written.is_err() { return },
            () = ended.cancelled() => return,
            () = overdue => return,
        }
    }
    let reason = frames.reason().unwrap_or(CloseReason::ShuttingDown);
    // If it cannot be told, it finds out by itself.
    let _told = timeout(GRACE, say_goodbye(&mut sink, reason, protocol)).await;
}

fn batch(first: Utf8Bytes, frames: &mut OutboundFrames) -> Vec<Message> {
    let mut bytes = first.len();
    let mut batch = vec![Message::Text(first)];
    while batch.len() < BATCH_FRAMES && bytes < BATCH_BYTES {
        let Some(frame) = frames.try_next() else { break };
        bytes += frame.len();
        batch.push(Message::Text(frame));
    }
    batch
}

async fn write_batch<S: Sink<Message> + Unpin>(sink: &mut S, batch: Vec<Message>) -> Result<(), S::Error> {
    for message in batch {
        sink.feed(message).await?;
    }
    sink.flush().await
}

async fn say_goodbye(
    sink: &mut SplitSink<WebSocket, Message>,
    reason: CloseReason,
    protocol: u32,
) -> Result<(), axum::Error> {
    let mut batch = Vec::new();
    if protocol >= PROTOCOL_VERSION
        && let Some(frame) = going_away(reason)
    {
        batch.push(Message::Text(Utf8Bytes::from(frame)));
    }
    batch.push(close_message(reason.code(), reason.as_str()));
    write_batch(sink, batch).await
}

/// The frame that announces the close, for the reasons that a client should act on.
fn going_away(reason: CloseReason) -> Option<String> {
    let reconnect_after_ms = match reason {
        // All clients of this broker are told at once: they should not come back at once, but within seconds.
        CloseReason::ShuttingDown => {
            Some(500 + u64::from(u16::from_le_bytes(claudemesh_crypto::random_bytes())) % 2_500)
        }
        CloseReason::SlowReader => Some(1_000),
        CloseReason::Revoked | CloseReason::Archived | CloseReason::Replaced => None,
        CloseReason::TooLarge | CloseReason::Unresponsive => return None,
    };
    let frame = GoingAway {
        reason: reason.as_str().to_owned(),
        reconnect_after_ms,
    };
    ServerFrame::GoingAway(Box::new(frame)).to_json().ok()
}

/// A close frame.
pub(super) fn close_message(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame {
        code,
        reason: Utf8Bytes::from(reason),
    }))
}
