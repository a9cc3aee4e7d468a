//! What this disk and this loopback can do at best, measured in the same run: figures of the broker are told as ratios.

use std::fs::OpenOptions;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::extract::ws::{Message as Sent, WebSocketUpgrade};
use axum::routing::any;
use axum::serve::ListenerExt as _;
use futures_util::{SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use tokio_tungstenite::tungstenite::Message;

use crate::load::histogram;
use crate::wire::dial;

/// Blocks of the file that is synced.
const BLOCKS: u32 = 1024;

/// The references.
#[derive(Clone, Debug)]
pub(crate) struct References {
    /// `fdatasync` after 4 KiB were written.
    pub(crate) sync: Histogram<u64>,
    /// Round trip of a text of this size over a bare WebSocket.
    pub(crate) echo: Histogram<u64>,
    /// Rows that SQLite inserts per second with one row in each transaction.
    pub(crate) single_rows: f64,
    /// The same with 64 rows in each transaction.
    pub(crate) batch_rows: f64,
}

impl References {
    /// `fdatasync` per second, one after the other.
    pub(crate) fn syncs_per_second(&self) -> f64 {
        1e9 / self.sync.mean().max(1.0)
    }

    /// What a message has to cost at least, one way: half a round trip to the broker, half to the recipient, and being on
    /// disk; the target allows two syncs.
    pub(crate) fn one_way(&self) -> Duration {
        Duration::from_nanos(self.echo.value_at_quantile(0.5) + 2 * self.sync.value_at_quantile(0.5))
    }
}

/// Measures all of them, for so long each.
pub(crate) async fn measure(directory: &Path, message_bytes: usize, each: Duration) -> anyhow::Result<References> {
    Ok(References {
        sync: sync(&directory.join("sync"), each)?,
        echo: echo(message_bytes, each).await?,
        single_rows: rows(&directory.join("single.db"), 1, each)?,
        batch_rows: rows(&directory.join("batch.db"), 64, each)?,
    })
}

fn sync(path: &Path, time: Duration) -> anyhow::Result<Histogram<u64>> {
    // In a file that has its size, as a database's log has: growing costs the file system more.
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    let block = [7_u8; 4096];
    for _ in 0..BLOCKS {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let mut count = 0;
    let mut took = histogram();
    let end = Instant::now() + time;
    while Instant::now() < end {
        if count % BLOCKS == 0 {
            file.rewind()?;
        }
        count += 1;
        file.write_all(&block)?;
        let started = Instant::now();
        file.sync_data()?;
        took.saturating_record(u64::try_from(started.elapsed().as_nanos())?);
    }
    std::fs::remove_file(path)?;
    Ok(took)
}

/// The server has a thread of its own, as the broker has a process of its own.
async fn echo(bytes: usize, time: Duration) -> anyhow::Result<Histogram<u64>> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let router = Router::new().route("/", any(upgrade));
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let listener = listener.tap_io(|stream| {
                // Without it the echo is late, not wrong.
                let _set = stream.set_nodelay(true);
            });
            axum::serve(listener, router).await
        })
    });
    let mut socket = dial(address, "/").await?;
    let text = "x".repeat(bytes);
    let mut took = histogram();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let started = Instant::now();
        socket.send(Message::text(text.clone())).await?;
        socket.next().await.context("the echo ended")??;
        took.saturating_record(u64::try_from(started.elapsed().as_nanos())?);
    }
    Ok(took)
}

async fn upgrade(upgrade: WebSocketUpgrade) -> axum::response::Response {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(Sent::Text(text))) = socket.next().await {
            if socket.send(Sent::Text(text)).await.is_err() {
                return;
            }
        }
    })
}

fn rows(path: &Path, in_each: u32, time: Duration) -> anyhow::Result<f64> {
    let mut connection = rusqlite::Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute(
        "CREATE TABLE row (seq INTEGER PRIMARY KEY, id TEXT, body TEXT, at INTEGER)",
        [],
    )?;
    let body = "x".repeat(256);
    let (started, end) = (Instant::now(), Instant::now() + time);
    let mut count = 0_u32;
    while Instant::now() < end {
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare("INSERT INTO row (id, body, at) VALUES (?1, ?2, ?3)")?;
            for _ in 0..in_each {
                count += 1;
                insert.execute(rusqlite::params![format!("{count:016x}"), body, count])?;
            }
        }
        transaction.commit()?;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}
