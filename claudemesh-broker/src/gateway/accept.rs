//! The upgrade from HTTP, and the room in which sockets wait until they have said `hello`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use claudemesh_proto::{ErrorCode, ErrorFrame};

use super::{Ends, Gateway, connection};
use crate::http::client_address;
use crate::http::error::Failure;
use crate::metrics::Metrics;
use crate::room::{Place, Room};

/// Bytes that are read at once. The library's default is 128 KiB for each connection, filled with zeros before each read.
const READ_BUFFER: usize = 4 * 1024;
/// Bytes that are collected before they are written; the memory is kept.
const WRITE_BUFFER: usize = 4 * 1024;

/// `GET /ws`: becomes a WebSocket.
pub async fn upgrade(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(seat) = gateway
        .waiting
        .enter(client_address(&gateway.broker.config, ends, &headers))
    else {
        gateway.broker.metrics.connection_rejected(&ErrorCode::Capacity);
        let error = ErrorFrame::new(ErrorCode::Capacity, "too many sockets have not said hello yet").retry_after(1_000);
        return Failure::from(error).into_response();
    };
    let most = gateway.broker.config.max_message_bytes;
    let tasks = gateway.broker.tasks.clone();
    upgrade
        .max_message_size(most)
        .max_frame_size(most)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .on_upgrade(move |socket| tasks.track_future(connection::serve(gateway, socket, ends, seat)))
}

/// Sockets without `hello`, limited and counted.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    room: Arc<Room>,
    metrics: Arc<Metrics>,
}

/// A place in the waiting room; dropping it leaves.
#[derive(Debug)]
pub(super) struct Seat {
    _place: Place,
    metrics: Arc<Metrics>,
}

impl WaitingRoom {
    pub(super) fn new(room: Room, metrics: Arc<Metrics>) -> Self {
        Self {
            room: Arc::new(room),
            metrics,
        }
    }

    /// Takes a place; `None` if there is none for this address.
    fn enter(&self, address: IpAddr) -> Option<Seat> {
        let place = self.room.enter(address)?;
        self.metrics.socket_opened();
        Some(Seat {
            _place: place,
            metrics: self.metrics.clone(),
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.metrics.socket_decided();
    }
}
