//! One socket, from its upgrade to its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use claudemesh_proto::{ErrorCode, ErrorFrame, Ordering};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, SplitStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::accept::Seat;
use super::handshake::shake_hands;
use super::pipeline::error_frame;
use super::writer;
use super::{Ends, Gateway};
use crate::context::Session;
use crate::hub;
use crate::outbound::CloseReason;

/// Most requests of one socket that are not answered yet. Reading pauses when there are more.
const MAX_IN_FLIGHT: usize = 256;
/// How long the closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Requests of one socket that run beside each other.
#[derive(Default)]
struct InFlight {
    pipelined: FuturesUnordered<BoxFuture<'static, ()>>,
    concurrent: JoinSet<()>,
}

impl InFlight {
    fn len(&self) -> usize {
        self.pipelined.len() + self.concurrent.len()
    }

    /// Waits until one of them is answered.
    async fn next(&mut self) {
        tokio::select! {
            Some(()) = self.pipelined.next(), if !self.pipelined.is_empty() => {}
            Some(_) = self.concurrent.join_next(), if !self.concurrent.is_empty() => {}
        }
    }
}

/// Serves a socket until it ends.
pub(super) async fn serve(gateway: Arc<Gateway>, mut socket: WebSocket, ends: Ends, seat: Seat) {
    let Some((session, frames)) = shake_hands(&gateway, &mut socket, ends).await else {
        return;
    };
    drop(seat);
    let config = &gateway.broker.config;
    let (sink, mut stream) = socket.split();
    let ended = CancellationToken::new();
    let writer = writer::write(sink, frames, session.protocol, config.ping_interval, ended.clone());
    let mut writer = tokio::spawn(gateway.broker.tasks.track_future(writer));

    let mut in_flight = InFlight::default();
    let end = read(&gateway, &session, &mut stream, &mut in_flight, &mut writer).await;
    // From here on nothing is sent to it any more: what is not acknowledged goes to the member's next session.
    if let Some(reason) = session.outbound.reason() {
        gateway.broker.metrics.connection_closed(reason);
    }
    hub::disconnect(&gateway.broker, &session).await;
    match end {
        End::ByBroker => {
            // What the client still sends is read away: unread bytes would turn the close into a reset.
            let farewell = async {
                let drained = async { while let Some(Ok(_)) = stream.next().await {} };
                tokio::join!(timeout(2 * CLOSE_TIMEOUT, &mut writer), timeout(CLOSE_TIMEOUT, drained))
            };
            let _done = farewell.await;
        }
        End::ByClient => {
            // Reading on is what sends the answer. It comes after the session has ended, so that a client that waits for
            // it and connects again finds what it left.
            let _answered = timeout(CLOSE_TIMEOUT, stream.next()).await;
        }
        End::Gone => {}
    }
    ended.cancel();
    // A message that was taken must reach its recipients, whether its sender waits for the answer or not.
    while in_flight.len() > 0 {
        in_flight.next().await;
    }
    writer.abort();
}

/// How a connection ends.
#[derive(Clone, Copy)]
enum End {
    /// The broker closes it.
    ByBroker,
    /// The client closed it and may wait for the answer.
    ByClient,
    /// There is nobody left to tell.
    Gone,
}

/// Reads requests and starts their handlers until the connection ends.
async fn read(
    gateway: &Gateway,
    session: &Arc<Session>,
    stream: &mut SplitStream<WebSocket>,
    in_flight: &mut InFlight,
    writer: &mut tokio::task::JoinHandle<()>,
) -> End {
    let silence = gateway.broker.config.pong_timeout;
    let mut heard = Instant::now();
    let mut deadline = std::pin::pin!(sleep_until(heard + silence));
    loop {
        let running = in_flight.len();
        let message = tokio::select! {
            biased;
            () = session.outbound.closing() => return End::ByBroker,
            _ = &mut *writer => return End::Gone,
            () = in_flight.next(), if running > 0 => continue,
            message = stream.next(), if running < MAX_IN_FLIGHT => message,
            () = &mut deadline => {
                if running >= MAX_IN_FLIGHT {
                    // Nobody was listening: that nothing was heard says nothing.
                    heard = Instant::now();
                }
                if heard.elapsed() < silence {
                    deadline.as_mut().reset(heard + silence);
                    continue;
                }
                session.outbound.close(CloseReason::Unresponsive);
                return End::ByBroker;
            }
        };
        heard = Instant::now();
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Binary(bytes))) => match Utf8Bytes::try_from(bytes) {
                Ok(text) => text,
                Err(_) => {
                    let error = ErrorFrame::new(ErrorCode::Malformed, "the frame is not UTF-8");
                    gateway.broker.metrics.message_rejected(&error.code);
                    session.outbound.send(error_frame(None, &error));
                    continue;
                }
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_))) => return End::ByClient,
            None => return End::Gone,
            Some(Err(error)) => {
                if !is_too_large(&error) {
                    return End::Gone;
                }
                session
                    .outbound
                    .send(error_frame(None, &too_large(gateway.broker.config.max_message_bytes)));
                session.outbound.close(CloseReason::TooLarge);
                return End::ByBroker;
            }
        };
        let Some(request) = gateway.accept(session, &text) else {
            continue;
        };
        drop(text);
        match request.ordering() {
            Ordering::Serial => {
                while in_flight.pipelined.next().await.is_some() {}
                request.run().await;
            }
            Ordering::Pipelined => {
                let mut future: BoxFuture<'static, ()> = Box::pin(request.run());
                // What decides the order happens in this first step, before the next frame is read.
                if !is_ready(&mut future).await {
                    in_flight.pipelined.push(future);
                }
            }
            Ordering::Concurrent => {
                in_flight.concurrent.spawn(request.run());
            }
        }
    }
}

/// Takes one step of a future.
async fn is_ready(future: &mut Pin<Box<dyn Future<Output = ()> + Send>>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

/// The answer to a frame that is larger than allowed.
pub(super) fn too_large(limit: usize) -> ErrorFrame {
    ErrorFrame::new(
        ErrorCode::TooLarge,
        format!("a frame has at most {limit} bytes; larger content belongs in a file"),
    )
}

/// Whether reading failed because of the frame's size. The WebSocket library's error type is not public.
pub(super) fn is_too_large(error: &axum::Error) -> bool {
    error.to_string().contains("too long")
}
