//! The store goes away under load and comes back: the broker says so, stays, and works on by itself.

use std::time::{Duration, Instant};

use claudemesh_client::flows::create_mesh;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::ops::SetState;
use claudemesh_client::{ClientError, MeshClient};
use claudemesh_testkit::postgres_server::Server;
use serde_json::json;
use tokio::time::sleep;

use crate::kit::disk::{ReadOnly, SmallDisk};
use crate::kit::process::{Process, Setting};
use crate::kit::rows::Rows;
use crate::kit::trio::{Sent, Trio};
use crate::kit::{figures, scale, until};

/// A store that can be taken away.
trait Fragile {
    /// What happens to it.
    fn kind(&self) -> String;
    /// Whether nothing at all can be written while it is away.
    fn is_gone(&self) -> bool {
        true
    }
    /// From now on it fails.
    fn take_away(&mut self, broker: &Process);
    /// From now on it works.
    fn bring_back(&mut self, broker: &Process);
}

/// The error of a request that needs the store.
async fn refused(client: &MeshClient) -> ClientError {
    let started = Instant::now();
    loop {
        // Room for something small may be left for a while.
        let request = SetState {
            key: "k".to_owned(),
            value: json!("x".repeat(10_000)),
        };
        match client.request(request).await {
            Err(error) => return error,
            Ok(_) => assert!(started.elapsed() < Duration::from_secs(60), "the store does not fail"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn must_be_retryable(error: &ClientError) {
    assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
    assert!(error.retryable(), "{error}");
    assert!(error.message().contains("try again"), "{error}");
}

async fn survives(setting: Setting, mut store: impl Fragile) {
    let mut broker = setting.start().await;
    let trio = Trio::at_work(&setting.url(), Duration::from_millis(10)).await;
    trio.load.goes_on(100).await;

    store.take_away(&broker);
    let away = Instant::now();
    must_be_retryable(&refused(&trio.owner).await);
    until("/health says not ready", || async {
        let (status, text) = broker.health("/health").await;
        status == 503 && text.contains("\"down\"")
    })
    .await;
    let (live, _) = broker.health("/health/live").await;
    assert_eq!(live, 200, "the process lives");
    if store.is_gone() {
        let created = create_mesh(&setting.url(), "Another", Some("zoe")).await;
        must_be_retryable(&created.unwrap_err());
        let newcomer = MeshClient::builder(trio.ben.identity().clone())
            .observer(true)
            .connect_timeout(Duration::from_secs(3));
        let error = newcomer.connect().await.unwrap_err().to_string();
        assert!(error.contains("cannot reach its store"), "{error}");
    }
    while away.elapsed() < Duration::from_secs(scale::outage_seconds()) {
        assert!(broker.is_running());
        assert_eq!(broker.health("/health/live").await.0, 200);
        if store.is_gone() {
            assert_eq!(broker.health("/health").await.0, 503);
        }
        sleep(Duration::from_millis(500)).await;
    }
    for client in trio.clients() {
        assert!(client.state().is_open(), "who was connected stays so");
    }
    let outage = away.elapsed();

    store.bring_back(&broker);
    let back = Instant::now();
    trio.load.goes_on(1).await;
    let first = back.elapsed();
    until("/health says ready", || async {
        broker.health("/health").await.0 == 200
    })
    .await;
    let ready = back.elapsed();
    trio.load.goes_on(100).await;
    trio.owner
        .request(SetState {
            key: "k".to_owned(),
            value: json!(1),
        })
        .await
        .unwrap();
    let Sent { messages, .. } = trio.must_have_everything().await;
    assert!(broker.is_running(), "it was never restarted");
    broker.kill();
    Rows::of(setting.database.as_deref(), &setting.data())
        .await
        .must_hold(messages)
        .await;
    figures::record(
        "outage",
        &[
            ("store", store.kind()),
            ("away", format!("{:.0} s", outage.as_secs_f64())),
            ("messages acknowledged", messages.to_string()),
            ("lost, twice, out of order, orphans", "0".to_owned()),
            (
                "first acknowledgement after its return",
                format!("{:.1} s", first.as_secs_f64()),
            ),
            ("ready after its return", format!("{:.1} s", ready.as_secs_f64())),
        ],
    );
}

struct Full(SmallDisk, std::path::PathBuf);

impl Fragile for Full {
    fn kind(&self) -> String {
        format!("SQLite, disk full ({})", self.0.kind())
    }

    /// What has been written before may be written over.
    fn is_gone(&self) -> bool {
        false
    }

    fn take_away(&mut self, broker: &Process) {
        self.0.fill(broker.id(), &self.1);
    }

    fn bring_back(&mut self, broker: &Process) {
        self.0.free(broker.id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_nothing_for_good() {
    let disk = SmallDisk::new();
    // Its log is on the same disk.
    let setting = Setting::new(disk.path(), None);
    let data = setting.data();
    survives(setting, Full(disk, data)).await;
}

struct Writable {
    data: std::path::PathBuf,
    read_only: Option<ReadOnly>,
    how: &'static str,
}

impl Fragile for Writable {
    fn kind(&self) -> String {
        format!("SQLite, disk read-only ({})", self.how)
    }

    fn take_away(&mut self, broker: &Process) {
        let read_only = ReadOnly::begin(broker.id(), &self.data);
        self.how = read_only.kind();
        self.read_only = Some(read_only);
    }

    fn bring_back(&mut self, broker: &Process) {
        if let Some(read_only) = self.read_only.take() {
            read_only.end(broker.id());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_read_only_for_a_while_stops_nothing_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let setting = Setting::new(directory.path(), None);
    let data = setting.data();
    let store = Writable {
        data,
        read_only: None,
        how: "",
    };
    survives(setting, store).await;
}

struct Stopped(Server, &'static str);

impl Fragile for Stopped {
    fn kind(&self) -> String {
        format!("Postgres, stopped ({})", self.1)
    }

    fn take_away(&mut self, _: &Process) {
        self.0.cluster().stop(self.1).unwrap();
    }

    fn bring_back(&mut self, _: &Process) {
        self.0.cluster().launch().unwrap();
    }
}

/// A server that ends in order, and one that crashes: then nobody knows of the last commit whether it was made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the programs of Postgres; `cargo xtask test` runs it where they are"]
async fn postgres_that_is_stopped_and_started_stops_nothing_for_good() {
    for mode in ["fast", "immediate"] {
        let server = Server::start().unwrap().expect("initdb and pg_ctl are needed");
        let directory = tempfile::tempdir().unwrap();
        let setting = Setting::new(directory.path(), Some(&server.cluster().url()));
        survives(setting, Stopped(server, mode)).await;
    }
}
