//! The broker is killed in the middle of its work, again and again.

use std::time::{Duration, Instant};

use claudemesh_client::proto::ops::AuditVerify;
use claudemesh_testkit::postgres;
use tokio::time::sleep;

use crate::kit::cast::{Cast, Received, all_open, cast};
use crate::kit::figures;
use crate::kit::load::{Load, sent};
use crate::kit::process::Setting;
use crate::kit::rows::Rows;
use crate::kit::{random, scale};

async fn killed_under_load(store: &str, database: Option<String>) {
    let directory = tempfile::tempdir().unwrap();
    let setting = Setting::new(directory.path(), database.as_deref());
    let mut broker = setting.start().await;
    let Cast { owner, others } = cast(&setting.url(), &["ben", "cleo"], |builder| {
        builder.outbox_capacity(100_000)
    })
    .await;
    let [ben, cleo] = others.as_slice() else { panic!() };
    let (to_ben, _ben) = Received::by(ben);
    let (to_cleo, _cleo) = Received::by(cleo);
    let (to_owner, _owner) = Received::by(&owner);

    let load = Load::new(Duration::from_millis(4));
    let senders = vec![
        load.send(&owner, "ben", "owner to ben"),
        load.send(cleo, "ben", "cleo to ben"),
        load.send(&owner, "*", "owner to all"),
        load.send(ben, "owner", "ben to owner"),
    ];
    let kills = scale::kills();
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        // In the middle of work, not of a pause.
        load.goes_on(50).await;
        sleep(Duration::from_millis(random(300))).await;
        let killed = Instant::now();
        broker.kill();
        broker = setting.start().await;
        all_open(&[&owner, ben, cleo]).await;
        load.goes_on(1).await;
        slowest = slowest.max(killed.elapsed());
    }
    load.stop();
    let sent = sent(senders).await;
    let [one, two, three, four] = sent.as_slice() else {
        panic!()
    };
    let for_ben = [one.as_slice(), two, three].concat();
    to_ben.wait_for(for_ben.len()).await;
    to_cleo.wait_for(three.len()).await;
    to_owner.wait_for(four.len()).await;
    to_ben.must_be(&for_ben, "ben");
    to_cleo.must_be(three, "cleo");
    to_owner.must_be(four, "owner");
    let verified = owner.request(AuditVerify {}).await.unwrap();
    assert!(verified.valid && verified.broken_at.is_none(), "{verified:?}");
    for client in [&owner, ben, cleo] {
        client.close().await;
    }
    broker.kill();
    let messages = sent.iter().map(Vec::len).sum();
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
            ("deliveries", (messages + three.len()).to_string()),
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
