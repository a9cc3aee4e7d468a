//! A client that does not read: it is let go, loses nothing, and nobody else notices.

use std::time::{Duration, Instant};

use claudemesh_client::MeshClient;
use claudemesh_client::proto::model::Priority;
use claudemesh_client::proto::ops::SetState;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::kit::cast::{Cast, Received, all_open, cast};
use crate::kit::figures;
use crate::kit::process::Setting;
use crate::kit::wire::Wire;
use crate::kit::{PATIENCE, scale, until};

/// From sending to having, one message after the other.
async fn latencies(from: &MeshClient, to: &MeshClient, name: &str, time: Duration) -> Vec<Duration> {
    let target = from.resolve(name).await.unwrap();
    let end = Instant::now() + time;
    let mut all = Vec::new();
    while Instant::now() < end || all.len() < 20 {
        let sent = Instant::now();
        let _on_its_way = from.queue_to(&target, "tick", Priority::Now).await.unwrap();
        let got = timeout(PATIENCE, to.recv())
            .await
            .expect("a message gets stuck")
            .unwrap();
        assert_eq!(got.text.as_deref(), Some("tick"));
        all.push(sent.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    all.sort();
    all
}

fn shown(sorted: &[Duration]) -> String {
    let at = |share: f64| {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation
        )]
        let place = ((sorted.len() - 1) as f64 * share) as usize;
        sorted[place].as_secs_f64() * 1_000.0
    };
    format!("{:.2} ms, {:.2} ms", at(0.5), at(0.99))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_let_go_loses_nothing_and_harms_nobody() {
    const MESSAGES: usize = 1_000;
    let directory = tempfile::tempdir().unwrap();
    let setting = Setting::new(directory.path(), None);
    let broker = setting.start().await;
    let Cast { owner, others } = cast(&setting.url(), &["ann", "ben", "slow"], |builder| builder).await;
    let [ann, ben, first] = others.as_slice() else { panic!() };
    first.close().await;
    let wire = Wire::to(setting.addr).await;
    let slow = MeshClient::builder(wire.through(first.identity()))
        .connect()
        .await
        .unwrap();
    let received = Received::by(&slow).0;
    let time = Duration::from_secs(scale::slow_seconds());
    let without = latencies(ann, ben, "ben", time).await;

    wire.block(true);
    let target = owner.resolve("slow").await.unwrap();
    let mut sent = Vec::new();
    let mut pending = Vec::new();
    for number in 0..MESSAGES {
        let text = format!("owner {number}");
        pending.push(owner.queue_to(&target, &text, Priority::Now).await.unwrap());
        sent.push(text);
    }
    for pending in pending {
        timeout(PATIENCE, pending).await.unwrap().unwrap();
    }
    // More than its queue and the network's take: every peer is told of each change.
    let value = json!("x".repeat(60_000));
    let flood = {
        let owner = owner.clone();
        tokio::spawn(async move {
            for number in 0..450 {
                let (key, value) = (format!("k{}", number % 20), value.clone());
                owner.request(SetState { key, value }).await.unwrap();
            }
        })
    };
    let is_let_go = || async {
        let (_, metrics) = broker.health("/metrics").await;
        metrics.contains("broker_connections_closed_total{reason=\"slow_reader\"} 1")
    };
    let with = latencies(ann, ben, "ben", time).await;
    until("the slow reader is let go", is_let_go).await;
    flood.await.unwrap();
    assert!(received.len() < MESSAGES);

    // The network works again: it comes back by itself.
    wire.cut();
    wire.block(false);
    all_open(&[&slow]).await;
    received.wait_for(MESSAGES).await;
    received.must_be(&sent, "slow");
    for client in [&owner, ann, ben] {
        assert!(client.state().is_open());
    }
    figures::record(
        "slow reader",
        &[
            ("other pairs without it, p50, p99", shown(&without)),
            ("with it, while it is flooded and let go", shown(&with)),
            ("its messages lost, twice, out of order", "0".to_owned()),
        ],
    );
}
