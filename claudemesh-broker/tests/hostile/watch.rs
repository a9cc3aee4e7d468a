//! What every test here watches: panics of the broker, and its memory.

use std::sync::{Mutex, Once};
use std::time::Duration;

use claudemesh_broker::config::Config;
use claudemesh_broker::security::rate_limit::Limit;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::gateway_kit::{Lab, Socket};

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes every panic that is not one of the tests' own assertions.
pub(crate) fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            if !place.contains("tests/") {
                PANICS.lock().unwrap().push(panic.to_string());
            }
            before(panic);
        }));
    });
}

/// Fails if the broker has panicked since the tests began.
pub(crate) fn nothing_panicked() {
    let panics = PANICS.lock().unwrap();
    assert!(panics.is_empty(), "the broker panicked: {panics:#?}");
}

/// A broker whose rate limits do not answer in place of what is tested.
pub(crate) async fn lab() -> Lab {
    lab_with(|_| {}).await
}

pub(crate) async fn lab_with(change: impl FnOnce(&mut Config)) -> Lab {
    start();
    let database = database().await;
    Lab::start_with(|config| {
        let all = Limit::per_second(1_000_000, 1_000_000);
        (config.rate_limits.read, config.rate_limits.write) = (all, all);
        (config.rate_limits.message, config.rate_limits.heavy) = (all, all);
        (config.enrol_rate, config.hook_rate) = (all, all);
        config.database_url = database.as_deref().map(claudemesh_broker::config::DatabaseUrl::from);
        change(config);
    })
    .await
}

/// A fresh database, if the whole suite is to run on Postgres: `CLAUDEMESH_HOSTILE_ON_POSTGRES` names a server.
async fn database() -> Option<String> {
    let server = std::env::var("CLAUDEMESH_HOSTILE_ON_POSTGRES").ok()?;
    Some(claudemesh_testkit::postgres::fresh_on(&server).await.url)
}

/// The broker works for others, and has not panicked.
pub(crate) async fn still_serves(lab: &Lab) {
    let mut socket = lab.connect_v2(&lab.owner).await;
    let peers = socket.ask(serde_json::json!({ "type": "list_peers" })).await;
    assert_eq!(peers["type"], "peers_list");
    nothing_panicked();
}

/// A reply or an error with a code from the closed set; never `internal`.
pub(crate) fn is_typed(frame: &Value, sent: &str) {
    let shown: String = sent.chars().take(400).collect();
    assert!(frame["type"].is_string(), "{shown} → {frame}");
    if frame["type"] == "error" {
        let code = frame["code"].as_str().unwrap_or_default();
        let known = claudemesh_proto::ErrorCode::ALL
            .iter()
            .any(|known| known.as_str() == code);
        assert!(known && code != "internal", "{shown} → {frame}");
        assert!(!frame["message"].as_str().unwrap().is_empty(), "{shown} → {frame}");
        assert!(frame.to_string().len() < 2_000, "{shown} → a large error");
    }
}

/// Sends a text whose `_reqId` is `id` and gives its only answer: a second one, or one without the id, fails the next call
/// because everything read is checked.
pub(crate) async fn one_answer(socket: &mut Socket, id: &str, text: &str) -> Value {
    socket.send_text(text).await;
    let answer = answer_to(socket, id, text).await;
    // A request that is answered last shows that there was no second answer.
    let fence = format!("fence-{id}");
    socket
        .send_text(&format!(r#"{{"type":"get_grants","_reqId":"{fence}"}}"#))
        .await;
    let next = answer_to(socket, &fence, text).await;
    assert_eq!(next["type"], "grants", "{next}");
    answer
}

/// The next frame with this id. Unasked frames are passed over; an answer to another request fails.
async fn answer_to(socket: &mut Socket, id: &str, sent: &str) -> Value {
    loop {
        let frame = socket.next().await;
        match frame.get("_reqId") {
            Some(have) if have == id => return frame,
            Some(_) => panic!("another answer to {sent}: {frame}"),
            None => assert_ne!(frame["type"], "error", "{sent} → {frame}"),
        }
    }
}

/// Memory of this process in MiB; `None` where the system does not tell.
pub(crate) fn resident_mib() -> Option<usize> {
    resident_mib_of("self")
}

/// The same of another process.
pub(crate) fn resident_mib_of(process: &str) -> Option<usize> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

/// Waits until a process (`self` or a number) has less memory than that, while `work` keeps its allocator at work: what is free
/// is given back a little later, and other tests of this process use some, too.
pub(crate) async fn falls_below<F: Future<Output = ()>>(process: &str, most: usize, mut work: impl FnMut() -> F) {
    let patience = Instant::now() + Duration::from_secs(60);
    while let Some(resident) = resident_mib_of(process)
        && resident >= most
    {
        assert!(Instant::now() < patience, "{resident} MiB are not less than {most}");
        work().await;
        sleep(Duration::from_millis(50)).await;
    }
}
