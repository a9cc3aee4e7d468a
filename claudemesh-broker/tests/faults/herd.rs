//! Everybody comes back at once after the broker was killed.

use std::time::{Duration, Instant};

use claudemesh_client::MeshClient;
use claudemesh_client::proto::model::Priority;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::kit::cast::{Cast, Received, cast};
use crate::kit::process::Setting;
use crate::kit::{PATIENCE, figures, scale};

/// `clients` in meshes of at most `size`, owners included.
async fn comes_back(clients: usize, size: usize) {
    let directory = tempfile::tempdir().unwrap();
    let setting = Setting::new(directory.path(), None)
        .with("ENROL_RATE_LIMIT_PER_MIN", 1_000_000)
        .with("MAX_CONNECTIONS_PER_MESH", 2_000);
    let broker = setting.start().await;
    let mut casts = Vec::new();
    let mut received = Vec::new();
    let meshes = clients / size;
    for _ in 0..meshes {
        let names: Vec<_> = (1..size).map(|number| format!("peer-{number}")).collect();
        let made = cast(&setting.url(), &names, |builder| builder).await;
        received.push(
            made.others
                .iter()
                .map(|other| Received::by(other).0)
                .collect::<Vec<_>>(),
        );
        casts.push(made);
    }
    broker.kill();
    // Accepted by nobody yet: the first thing that the next broker gets.
    let mut waiting = JoinSet::new();
    for Cast { owner, .. } in &casts {
        let owner = owner.clone();
        waiting.spawn(async move { owner.send_text("*", "owner 0", Priority::Now).await });
    }
    let broker = setting.start().await;
    let ready = Instant::now();
    let mut coming = JoinSet::new();
    let all = casts
        .iter()
        .flat_map(|Cast { owner, others }| std::iter::once(owner).chain(others));
    for client in all {
        let client: MeshClient = client.clone();
        coming.spawn(async move {
            // As a program that only listens: nobody asks it to hurry.
            let mut states = client.state_stream();
            while !client.state().is_open() {
                timeout(PATIENCE, futures_util::StreamExt::next(&mut states))
                    .await
                    .expect("a client does not come back");
            }
            ready.elapsed()
        });
    }
    let mut times = coming.join_all().await;
    times.sort();
    for sent in waiting.join_all().await {
        sent.unwrap();
    }
    for received in received.iter().flatten() {
        received.reaches(1).await;
    }
    sleep(Duration::from_millis(300)).await;
    for received in received.iter().flatten() {
        received.must_be(&["owner 0".to_owned()], "a peer");
    }
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    figures::record(
        "herd",
        &[
            ("clients", times.len().to_string()),
            ("meshes", meshes.to_string()),
            ("half are back after", seconds(times[times.len() / 2])),
            ("all are back after", seconds(times[times.len() - 1])),
            ("lost, twice", "0".to_owned()),
        ],
    );
    drop(broker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_meshes_come_back_at_once() {
    comes_back(scale::herd(), (scale::herd() / 20).max(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_mesh_comes_back_at_once() {
    // Joining is what takes long: every member that is connected tries to hand out the keys to each that comes.
    let clients = scale::herd().min(200);
    comes_back(clients, clients).await;
}
