//! Accepts TCP connections and serves HTTP on them. Nobody has shown yet who they are here, so everything is bounded:
//! the number of connections, the time for a request's headers, and the time that a connection may stay without
//! becoming a WebSocket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::serve::Listener;
use claudemesh_proto::ErrorCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Broker;
use crate::gateway::Ends;
use crate::http::transfer::Transfers;
use crate::room::{Place, Room};

/// Longest life of a connection that serves plain requests. A client that wants more opens another one.
const LONGEST: Duration = Duration::from_secs(120);
/// Largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// What a connection occupies until it ends or becomes a WebSocket.
struct Admission {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

/// Serves connections until the broker stops, then until those that are under way have ended.
pub(crate) async fn serve(mut listener: TcpListener, router: Router, broker: Arc<Broker>) {
    let config = &broker.config;
    // Who finds no permit waits in the system's queue: an honest crowd is let in within milliseconds.
    let permits = Arc::new(Semaphore::new(config.max_unauthenticated));
    // Behind a proxy everybody has the proxy's address.
    let per_address = match config.trusted_proxies {
        0 => config.max_unauthenticated_per_ip,
        _ => 0,
    };
    let room = Arc::new(Room::new(usize::MAX, per_address));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let permit = permits.clone().acquire_owned().await.ok()?;
            Some((permit, Listener::accept(&mut listener).await))
        };
        let (permit, (stream, remote)) = tokio::select! {
            () = broker.stopping.cancelled() => break,
            Some(accepted) = accepted => accepted,
            else => break,
        };
        let Some(place) = room.enter(remote.ip()) else {
            broker.metrics.connection_rejected(&ErrorCode::Capacity);
            continue;
        };
        let admission = Admission {
            _permit: permit,
            _place: place,
        };
        let ends = Ends::of(&stream, remote);
        // Without it frames are late, not wrong.
        let _is_set = stream.set_nodelay(true);
        let patience = config.hello_timeout;
        connections.spawn(connection(
            stream,
            router.clone(),
            ends,
            patience,
            broker.stopping.clone(),
            admission,
        ));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits until the connection has had its time. A file on its way, which has limits of its own, is not cut off.
async fn grown_old(transfers: &Transfers) {
    tokio::time::sleep(LONGEST).await;
    while transfers.any() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Serves one connection until it ends or becomes a WebSocket.
async fn connection(
    stream: TcpStream,
    router: Router,
    ends: Ends,
    patience: Duration,
    stopping: CancellationToken,
    admission: Admission,
) {
    let router = TowerToHyperService::new(router);
    let transfers = Transfers::default();
    let counted = transfers.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(ends));
        request.extensions_mut().insert(counted.clone());
        let answer = router.call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => Some(ended),
        () = stopping.cancelled() => None,
        () = grown_old(&transfers) => None,
    };
    if ended.is_none() {
        served.as_mut().graceful_shutdown();
        // An answer that nobody reads is not waited for.
        let _ended = timeout(patience, served).await;
    }
    drop(admission);
}
