//! One publisher and 100 subscribers of a stream, beside a server that does nothing but pass frames on.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message as Sent, WebSocketUpgrade};
use axum::routing::any;
use axum::serve::ListenerExt as _;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::sync::{Semaphore, broadcast};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::broker::{Broker, DataDir, StoreKind};
use crate::load::connect_all;
use crate::report::{grouped, ratio, time};
use crate::scenarios::Bench;
use crate::wire::{Socket, dial, number};
use crate::world::World;

/// Subscribers.
const SUBSCRIBERS: usize = 100;
/// Events that are under way to the last subscriber.
const WINDOW: usize = 16;
/// Longest wait for events that are under way.
const LAST: Duration = Duration::from_secs(10);

/// What all subscribers got.
struct Counted {
    /// Events, at all subscribers together.
    events: f64,
    /// How long they came.
    took: Duration,
    /// Nanoseconds of all of them together.
    waited: f64,
}

impl Counted {
    fn per_second(&self) -> f64 {
        self.events / self.took.as_secs_f64()
    }
}

impl Bench {
    /// Events to 100 subscribers.
    pub(crate) async fn publish(&mut self) -> anyhow::Result<()> {
        let each = Duration::from_secs_f64(self.seconds);
        let alone = alone(each).await?;

        let data = DataDir::new("publish")?;
        let broker = Broker::start(&data, &StoreKind::Sqlite).await?;
        let world = World::create(&broker, "Bench", SUBSCRIBERS + 1).await?;
        let mut sockets: Vec<Socket> = connect_all(broker.address, &world.members)
            .await?
            .into_iter()
            .map(|wire| wire.socket)
            .collect();
        let mut publisher = sockets.pop().context("no publisher")?;
        ask(&mut publisher, r#"{"type":"create_stream","name":"load","_reqId":"1"}"#).await?;
        for socket in &mut sockets {
            ask(socket, r#"{"type":"subscribe","stream":"load","_reqId":"1"}"#).await?;
        }
        let before = broker.cpu();
        let through = events(publisher, sockets, each, |at| {
            json!({ "type": "publish", "stream": "load", "data": { "at": at, "text": "x".repeat(200) } }).to_string()
        })
        .await?;
        let cpu = (broker.cpu() - before).as_secs_f64() * 1e6 / through.events;
        broker.stop().await?;

        for (name, counted) in [("a bare server", &alone), ("the broker", &through)] {
            self.report.fact(
                format!("1 → {SUBSCRIBERS} events through {name}"),
                format!(
                    "{} deliveries/s, mean {}",
                    grouped(counted.per_second()),
                    time((counted.waited / counted.events) as u64)
                ),
            );
        }
        self.report.fact(
            "events, broker to bare server",
            format!(
                "{}, {cpu:.1} µs of broker CPU for each delivery",
                ratio(through.per_second(), alone.per_second())
            ),
        );
        Ok(())
    }
}

/// Sends a request and waits for its answer.
async fn ask(socket: &mut Socket, request: &str) -> anyhow::Result<()> {
    socket.send(Message::text(request)).await?;
    loop {
        let frame = socket.next().await.context("the broker closed the connection")??;
        let Message::Text(text) = frame else { continue };
        if text.contains(r#""type":"error""#) {
            bail!("the broker refuses: {text}");
        }
        if text.contains(r#""_reqId":"1""#) {
            return Ok(());
        }
    }
}

/// Publishes for so long and counts what arrives. Each event tells when it was sent, in nanoseconds from the start.
async fn events(
    publisher: Socket,
    subscribers: Vec<Socket>,
    each: Duration,
    frame: impl Fn(u64) -> String,
) -> anyhow::Result<Counted> {
    let started = Instant::now();
    let (got, waited) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(0_f64)));
    // The last subscriber's events give way to new ones: the others are served before it.
    let window = Rc::new(Semaphore::new(WINDOW));
    let last = subscribers.len() - 1;
    let mut readers = Vec::new();
    for (place, mut socket) in subscribers.into_iter().enumerate() {
        let (got, waited, window) = (got.clone(), waited.clone(), window.clone());
        readers.push(tokio::task::spawn_local(async move {
            while let Some(Ok(frame)) = socket.next().await {
                let Message::Text(text) = frame else { continue };
                let at = number(&text, r#""at":"#);
                if at == 0 {
                    continue;
                }
                got.set(got.get() + 1);
                waited.set(waited.get() + started.elapsed().as_nanos() as f64 - at as f64);
                if place == last {
                    window.add_permits(1);
                }
            }
        }));
    }
    let (mut sink, mut answers) = publisher.split();
    let drain =
        tokio::task::spawn_local(async move { while answers.next().await.is_some_and(|frame| frame.is_ok()) {} });
    let mut sent = 0_u64;
    while started.elapsed() < each {
        let permit = tokio::time::timeout(LAST, window.acquire()).await;
        permit.context("an event did not arrive")??.forget();
        send(&mut sink, &frame(u64::try_from(started.elapsed().as_nanos())?)).await?;
        sent += 1;
    }
    let wanted = sent * readers.len() as u64;
    let all = async {
        while got.get() < wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let arrived = tokio::time::timeout(LAST, all).await;
    let took = started.elapsed();
    for task in readers.into_iter().chain([drain]) {
        task.abort();
    }
    arrived.with_context(|| format!("{} of {wanted} events arrived", got.get()))?;
    Ok(Counted {
        events: wanted as f64,
        took,
        waited: waited.get(),
    })
}

async fn send(sink: &mut SplitSink<Socket, Message>, frame: &str) -> anyhow::Result<()> {
    Ok(sink.send(Message::text(frame)).await?)
}

/// The same with a server that passes each text of one socket on to all others, in a thread of its own.
async fn alone(each: Duration) -> anyhow::Result<Counted> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let (all, _) = broadcast::channel::<Utf8Bytes>(1024);
            let router = Router::new()
                .route("/in", any(take))
                .route("/out", any(give))
                .with_state(all);
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let listener = listener.tap_io(|stream| {
                // Without it events are late, not wrong.
                let _set = stream.set_nodelay(true);
            });
            axum::serve(listener, router).await
        })
    });
    let mut subscribers = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let mut socket = dial(address, "/out").await?;
        socket.next().await.context("the server ended")??;
        subscribers.push(socket);
    }
    let publisher = dial(address, "/in").await?;
    events(publisher, subscribers, each, |at| {
        json!({ "data": { "at": at, "text": "x".repeat(200) } }).to_string()
    })
    .await
}

async fn take(State(all): State<broadcast::Sender<Utf8Bytes>>, upgrade: WebSocketUpgrade) -> axum::response::Response {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(Sent::Text(text))) = socket.next().await {
            if all.send(Utf8Bytes::from(text.as_str())).is_err() {
                return;
            }
        }
    })
}

async fn give(State(all): State<broadcast::Sender<Utf8Bytes>>, upgrade: WebSocketUpgrade) -> axum::response::Response {
    upgrade.on_upgrade(|mut socket| async move {
        let mut events = all.subscribe();
        if socket.send(Sent::Text("ready".into())).await.is_err() {
            return;
        }
        while let Ok(text) = events.recv().await {
            if socket.send(Sent::Text(text.as_str().into())).await.is_err() {
                return;
            }
        }
    })
}
