//! The broker is killed in the middle of its work, again and again.

use std::time::{Duration, Instant};

use claudemesh_testkit::postgres;
use tokio::time::sleep;

use crate::kit::cast::all_open;
use crate::kit::figures;
use crate::kit::process::Setting;
use crate::kit::rows::Rows;
use crate::kit::trio::{Sent, Trio};
use crate::kit::{random, scale};

async fn killed_under_load(store: &str, database: Option<String>) {
    let directory = tempfile::tempdir().unwrap();
    let setting = Setting::new(directory.path(), database.as_deref());
    let mut broker = setting.start().await;
    let trio = Trio::at_work(&setting.url(), Duration::from_millis(4)).await;
    let kills = scale::kills();
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        // In the middle of work, not of a pause.
        trio.load.goes_on(50).await;
        sleep(Duration::from_millis(random(300))).await;
        let killed = Instant::now();
        broker.kill();
        broker = setting.start().await;
        all_open(&trio.clients()).await;
        trio.load.goes_on(1).await;
        slowest = slowest.max(killed.elapsed());
    }
    let Sent { messages, deliveries } = trio.must_have_everything().await;
    broker.kill();
    Rows::of(database.as_deref(), &setting.data())
        .await
        .must_hold(messages)
        .await;
    figures::record(
        "kills",
        &[
            ("store", store.to_owned()),
            ("kills", kills.to_string()),
            ("messages acknowledged", messages.to_string()),
            ("deliveries", deliveries.to_string()),
            ("lost, twice, out of order, orphans", "0".to_owned()),
            (
                "slowest kill to next acknowledgement",
                format!("{:.1} s", slowest.as_secs_f64()),
            ),
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defect_061_killed_under_load_on_sqlite() {
    killed_under_load("SQLite", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "set CLAUDEMESH_TEST_POSTGRES_URL to run on Postgres"]
async fn defect_061_killed_under_load_on_postgres() {
    killed_under_load("Postgres", Some(postgres::fresh().await.url)).await;
}
