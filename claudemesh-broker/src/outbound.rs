//! Frames on their way to one client: a bounded queue that never blocks the sender.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use claudemesh_proto::frame::ServerFrame;
use claudemesh_proto::ops::StreamLagged;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Most frames that wait for one client.
const MAX_FRAMES: usize = 4096;
/// Most bytes that wait for one client.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Most frames and bytes that wait when an event of a stream is added: the rest is for what must not be left out.
const MAX_EVENT_FRAMES: usize = MAX_FRAMES / 2;
const MAX_EVENT_BYTES: usize = MAX_BYTES / 4;

/// Why the broker ends a connection. The text form is the close reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client does not read what it is sent.
    SlowReader,
    /// The member was removed from the mesh.
    Revoked,
    /// The mesh was archived.
    Archived,
    /// The broker stops.
    ShuttingDown,
    /// The client sent a frame that is larger than allowed.
    TooLarge,
    /// The client does not answer pings.
    Unresponsive,
    /// The holder of the session's key has connected anew.
    Replaced,
}

impl CloseReason {
    /// Reason text of the close frame, and of `going_away`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlowReader => "slow_reader",
            Self::Revoked => "revoked",
            Self::Archived => "archived",
            Self::ShuttingDown => "shutting_down",
            Self::TooLarge => "too_large",
            Self::Unresponsive => "timeout",
            Self::Replaced => "replaced",
        }
    }

    /// Close code of the WebSocket.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::ShuttingDown => 1001,
            Self::TooLarge => 1009,
            Self::SlowReader | Self::Revoked | Self::Archived | Self::Unresponsive | Self::Replaced => 1008,
        }
    }
}

/// Sending half. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbound(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    frames: mpsc::Sender<Utf8Bytes>,
    bytes: AtomicUsize,
    closing: CancellationToken,
    reason: std::sync::OnceLock<CloseReason>,
    /// Why it is closed once one more frame is queued.
    after_next: std::sync::OnceLock<CloseReason>,
    /// How many events were left out, by stream, and not told yet.
    missed: Mutex<BTreeMap<String, u64>>,
}

/// Receiving half, owned by the connection's writer.
#[derive(Debug)]
pub struct OutboundFrames {
    frames: mpsc::Receiver<Utf8Bytes>,
    shared: Arc<Shared>,
}

/// A queue for one client.
#[must_use]
pub fn channel() -> (Outbound, OutboundFrames) {
    let (sender, receiver) = mpsc::channel(MAX_FRAMES);
    let shared = Arc::new(Shared {
        frames: sender,
        bytes: AtomicUsize::new(0),
        closing: CancellationToken::new(),
        reason: std::sync::OnceLock::new(),
        after_next: std::sync::OnceLock::new(),
        missed: Mutex::default(),
    });
    (
        Outbound(shared.clone()),
        OutboundFrames {
            frames: receiver,
            shared,
        },
    )
}

impl Outbound {
    /// Queues a frame. A client that reads too slowly to keep the queue within its bounds is disconnected; its messages
    /// stay in the store.
    pub fn send(&self, frame: Utf8Bytes) {
        let length = frame.len();
        let waiting = self.0.bytes.fetch_add(length, Ordering::Relaxed);
        // One frame always fits, however large: otherwise it could never be delivered.
        if (waiting > 0 && waiting + length > MAX_BYTES) || self.0.frames.try_send(frame).is_err() {
            self.0.bytes.fetch_sub(length, Ordering::Relaxed);
            self.close(CloseReason::SlowReader);
        }
        if let Some(reason) = self.0.after_next.get() {
            self.close(*reason);
        }
    }

    /// Queues an event of a stream. A client that reads too slowly does not get it; before the stream's next event, or when
    /// it has read all, it is told how many it missed, unless it knows no such frame (`is_told`). Tells whether it is
    /// queued.
    pub fn send_event(&self, stream: &str, frame: Utf8Bytes, is_told: bool) -> bool {
        let waiting = self.0.bytes.load(Ordering::Relaxed);
        let frames = MAX_FRAMES - self.0.frames.capacity();
        let has_room = frames < MAX_EVENT_FRAMES && (waiting == 0 || waiting + frame.len() <= MAX_EVENT_BYTES);
        if !has_room {
            if is_told {
                *self.0.missed().entry(stream.to_owned()).or_default() += 1;
            }
            return false;
        }
        let missed = self.0.missed().remove(stream);
        if let Some(notice) = missed.and_then(|missed| lagged(stream, missed)) {
            self.send(notice);
        }
        self.send(frame);
        true
    }

    /// [`Outbound::close`] after the next frame: the answer to the request that ends the connection.
    pub fn close_after_next(&self, reason: CloseReason) {
        let _first = self.0.after_next.set(reason);
    }

    /// Ends the connection after what is queued, as far as the client still reads. The first reason counts.
    pub fn close(&self, reason: CloseReason) {
        let _first = self.0.reason.set(reason);
        self.0.closing.cancel();
    }

    /// Resolves when the connection is to be closed.
    pub async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    /// Why the broker ends the connection, if it does.
    #[must_use]
    pub fn reason(&self) -> Option<CloseReason> {
        self.0.reason.get().copied()
    }

    /// Whether the connection is ending.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.0.closing.is_cancelled()
    }
}

impl Shared {
    fn missed(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The frame that tells of missed events.
fn lagged(stream: &str, missed: u64) -> Option<Utf8Bytes> {
    let frame = StreamLagged {
        stream: stream.to_owned(),
        missed,
    };
    let text = ServerFrame::StreamLagged(Box::new(frame)).to_json().ok()?;
    Some(Utf8Bytes::from(text))
}

impl OutboundFrames {
    /// The next frame; `None` when the connection is to be closed and the queue is empty.
    pub async fn next(&mut self) -> Option<Utf8Bytes> {
        if self.frames.is_empty() {
            let missed = self.shared.missed().pop_first();
            if let Some(notice) = missed.and_then(|(stream, missed)| lagged(&stream, missed)) {
                return Some(notice);
            }
        }
        let frame = tokio::select! {
            biased;
            frame = self.frames.recv() => frame,
            () = self.shared.closing.cancelled() => self.frames.try_recv().ok(),
        }?;
        self.shared.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        Some(frame)
    }

    /// A further frame that is already queued.
    pub fn try_next(&mut self) -> Option<Utf8Bytes> {
        let frame = self.frames.try_recv().ok()?;
        self.shared.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        Some(frame)
    }

    /// Resolves when the connection is to be closed.
    pub async fn closing(&self) -> CloseReason {
        self.shared.closing.cancelled().await;
        self.reason().unwrap_or(CloseReason::ShuttingDown)
    }

    /// Why the connection is to be closed, if it is.
    #[must_use]
    pub fn reason(&self) -> Option<CloseReason> {
        self.shared.reason.get().copied()
    }
}
