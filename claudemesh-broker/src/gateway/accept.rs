//! The upgrade from HTTP, and the room in which sockets wait until they have said `hello`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use claudemesh_proto::{ErrorCode, ErrorFrame};

use super::{Ends, Gateway, connection};
use crate::http::client_address;
use crate::http::error::Failure;
use crate::metrics::Metrics;

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
        .on_upgrade(move |socket| tasks.track_future(connection::serve(gateway, socket, ends, seat)))
}

/// Counts sockets without `hello`, in all and per address.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    most: usize,
    most_per_address: usize,
    metrics: Arc<Metrics>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place in the room; dropping it leaves.
#[derive(Debug)]
pub(super) struct Seat {
    room: Arc<WaitingRoom>,
    address: IpAddr,
}

impl WaitingRoom {
    /// A room for `most` sockets, of which `most_per_address` (0: all) may come from one address.
    pub(super) fn new(most: usize, most_per_address: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            most,
            most_per_address,
            metrics,
            waiting: Mutex::default(),
        }
    }

    /// Takes a place; `None` if there is none for this address.
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let address = address.to_canonical();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let own = waiting.by_address.get(&address).copied().unwrap_or_default();
        let is_limited = self.most_per_address > 0 && !address.is_loopback();
        if waiting.total >= self.most || (is_limited && own >= self.most_per_address) {
            return None;
        }
        waiting.total += 1;
        waiting.by_address.insert(address, own + 1);
        self.metrics.socket_opened();
        Some(Seat {
            room: self.clone(),
            address,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut waiting = self.room.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.total -= 1;
        if let Some(own) = waiting.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                waiting.by_address.remove(&self.address);
            }
        }
        self.room.metrics.socket_decided();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_per_address() {
        let room = Arc::new(WaitingRoom::new(3, 1, Arc::default()));
        let far: IpAddr = "192.0.2.1".parse().unwrap();
        let near: IpAddr = "127.0.0.1".parse().unwrap();
        let first = room.enter(far).unwrap();
        assert!(
            room.enter("::ffff:192.0.2.1".parse().unwrap()).is_none(),
            "one address, however it is written"
        );
        let _second = room.enter(near).unwrap();
        let _third = room.enter(near).unwrap();
        assert!(room.enter("192.0.2.2".parse().unwrap()).is_none());
        drop(first);
        assert!(room.enter("192.0.2.2".parse().unwrap()).is_some());
        assert_eq!(
            room.waiting.lock().unwrap().by_address.len(),
            1,
            "nothing is kept of who left"
        );
    }
}
