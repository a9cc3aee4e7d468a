//! The writing half of a connection: requests, messages of the outbox, pings.

use super::socket::{Socket, describe};
use crate::inner::Inner;
use claudemesh_proto::Operation as _;
use claudemesh_proto::frame::Frame;
use claudemesh_proto::ops::AckMessages;
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

/// Time between two pings.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Frames that are written before the socket is flushed.
const BATCH: usize = 64;

type Sink = SplitSink<Socket, Message>;

/// Writes until the connection fails or the client is closed; gives the reason of a failure.
pub(super) async fn run(inner: Arc<Inner>, mut sink: Sink, mut frames: mpsc::Receiver<String>) -> Option<String> {
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let written = tokio::select! {
            () = inner.shutdown.cancelled() => {
                let _ = say_goodbye(&inner, &mut sink, &mut frames).await;
                return None;
            }
            frame = frames.recv() => match frame {
                Some(frame) => write_frames(&mut sink, frame, &mut frames).await,
                None => return None,
            },
            () = inner.outbox.ready.notified() => write_outbox(&inner, &mut sink).await,
            _ = pings.tick() => sink.send(Message::Ping(Bytes::new())).await,
        };
        if let Err(error) = written {
            return Some(describe(&error));
        }
    }
}

/// Writes a frame and those that wait behind it, then flushes once.
async fn write_frames(sink: &mut Sink, first: String, frames: &mut mpsc::Receiver<String>) -> Result<(), Error> {
    sink.feed(Message::text(first)).await?;
    for _ in 1..BATCH {
        let Ok(frame) = frames.try_recv() else { break };
        sink.feed(Message::text(frame)).await?;
    }
    sink.flush().await
}

async fn write_outbox(inner: &Inner, sink: &mut Sink) -> Result<(), Error> {
    loop {
        let frames = inner.outbox.take_frames(BATCH);
        if frames.is_empty() {
            return Ok(());
        }
        for frame in frames {
            sink.feed(Message::text(frame)).await?;
        }
        sink.flush().await?;
    }
}

/// The last requests and acknowledgements, then the close frame. Nothing waits for an answer.
async fn say_goodbye(inner: &Inner, sink: &mut Sink, frames: &mut mpsc::Receiver<String>) -> Result<(), Error> {
    while let Ok(frame) = frames.try_recv() {
        sink.feed(Message::text(frame)).await?;
    }
    while inner.protocol() >= 2 && !inner.acks.is_empty() {
        let request = AckMessages {
            acks: inner.acks.take_batch(),
        };
        if let Ok(text) = Frame::new(AckMessages::META.wire_type, &request).to_json() {
            sink.feed(Message::text(text)).await?;
        }
    }
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    sink.send(Message::Close(Some(close))).await
}
