//! The edge for clients that stay connected: one WebSocket per session.
//!
//! * `accept`: the upgrade, and how many sockets may wait for their `hello`
//! * `handshake`: `hello` and its proofs
//! * `connection`: one authenticated socket; `writer`: its outgoing half
//! * `pipeline`: what every request goes through; `dispatch`: from its type to its handler; `validate`: schemas

mod accept;
mod connection;
mod dispatch;
mod handshake;
mod pipeline;
mod validate;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;

pub use accept::upgrade;
pub(crate) use validate::{Schema, read};

use tokio::net::TcpStream;

use crate::Broker;
use crate::room::Room;
use crate::security::broker_key::BrokerKey;
use accept::WaitingRoom;
use dispatch::Dispatcher;

/// What all connections share.
#[derive(Debug)]
pub struct Gateway {
    /// The broker.
    pub broker: Arc<Broker>,
    /// Where the broker listens.
    pub listening: SocketAddr,
    /// What the broker keeps secrets under.
    pub key: BrokerKey,
    dispatcher: Dispatcher,
    hello: Schema,
    waiting: WaitingRoom,
}

impl Gateway {
    /// Compiles every schema.
    #[must_use]
    pub fn new(broker: Arc<Broker>, listening: SocketAddr, key: BrokerKey) -> Self {
        let room = Room::new(
            broker.config.max_unauthenticated,
            broker.config.max_unauthenticated_per_ip,
        );
        let waiting = WaitingRoom::new(room, broker.metrics.clone());
        Self {
            dispatcher: Dispatcher::new(),
            hello: Schema::of::<claudemesh_proto::hello::Hello>(),
            waiting,
            broker,
            listening,
            key,
        }
    }
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client's address, or that of the proxy before the broker.
    pub remote: SocketAddr,
    /// The address at which it arrived.
    pub local: SocketAddr,
}

impl Ends {
    /// Those of a connection that was accepted from `remote`.
    pub(crate) fn of(stream: &TcpStream, remote: SocketAddr) -> Self {
        // Without an own address (the socket is gone already) no origin matches, which is right.
        let local = stream
            .local_addr()
            .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        Self { remote, local }
    }
}
