//! Frames of a member: nesting, size, numbers, encodings.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;

use crate::sockets::{frame, raw, to_the_end};
use crate::watch;

fn million() -> String {
    format!("[{}1]", "1,".repeat(999_999))
}

/// Members of a `set_state` that are deep, wide or huge.
fn bodies() -> Vec<String> {
    let million = million();
    let wide: String = (0..100_000).map(|index| format!("\"k{index}\":1,")).collect();
    vec![
        format!(r#""key":"k","value":{}"#, "[".repeat(100_000)),
        format!(r#""key":"k","value":{}{}"#, "[".repeat(100), "]".repeat(100)),
        format!(r#""key":"k","value":{}{}"#, "{\"a\":".repeat(127), "1"),
        format!(r#""key":"k","value":{million}"#),
        format!(r#""key":{million},"value":1"#),
        format!(r#"{wide}"key":"k","value":1"#),
        r#""key":"k","value":1e999999"#.to_owned(),
        r#""key":"k","value":123456789012345678901234567890123456789012345678901234567890"#.to_owned(),
        format!(r#""key":"k","value":{}"#, "9".repeat(100_000)),
        format!(r#""key":"k","value":0.{}"#, "1".repeat(100_000)),
        r#""key":"k","value":-0"#.to_owned(),
        r#""key":"k","value":1,"key":"k","type":"get_grants""#.to_owned(),
        format!(r#""key":"k","value":"{}""#, "\\u0000".repeat(10_000)),
        r#""key":"k","value":"\ud800""#.to_owned(),
    ]
}

/// The same as frames.
pub(crate) fn large() -> Vec<String> {
    let frame = |body| format!(r#"{{"type":"set_state","_reqId":"large",{body}}}"#);
    bodies().into_iter().map(frame).collect()
}

#[tokio::test]
async fn deep_wide_and_huge_values_are_answered() {
    let lab = watch::lab().await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    let before = watch::resident_mib();
    let bodies = bodies();
    for (index, body) in bodies.iter().enumerate() {
        socket
            .send_text(&format!(r#"{{"type":"set_state","_reqId":"r{index}",{body}}}"#))
            .await;
        // What is no JSON has no id to answer with.
        let answer = loop {
            let frame = socket.next().await;
            if frame["_reqId"] == format!("r{index}") || (frame["type"] == "error" && frame.get("_reqId").is_none()) {
                break frame;
            }
        };
        let shown: String = body.chars().take(60).collect();
        watch::is_typed(&answer, &shown);
    }
    // Whatever was sent a hundred times takes no more room than once.
    for _ in 0..30 {
        socket
            .send_text(&format!(r#"{{"type":"nothing","value":{}}}"#, million()))
            .await;
        assert_eq!(socket.next_of("error").await["code"], "unknown_type");
    }
    if let Some(before) = before {
        watch::falls_below("self", before + 250, || watch::still_serves(&lab)).await;
    }
    watch::still_serves(&lab).await;
}

#[tokio::test]
async fn sub_e_33_large_frames_have_a_limit_that_is_kept() {
    let lab = watch::lab().await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    let limit = lab.running.broker.config.max_message_bytes;
    let _sent = futures_util::SinkExt::send(&mut socket.0, Message::text("x".repeat(limit + 1))).await;
    let (error, end) = socket.refused().await;
    assert_eq!((error["code"].as_str().unwrap(), end.code), ("too_large", 1009));
    // Bodies of HTTP requests have one, too.
    let large = vec![b' '; limit + 1];
    for path in [
        "/cli/mesh/create",
        "/join",
        "/hook/set-status",
        "/invites/AAAAAAAA/claim",
    ] {
        let header = crate::gateway_kit::authorization(&lab.owner.key, "POST", path, &large);
        let answer = crate::gateway_kit::http(lab.addr(), "POST", path, &header, &large).await;
        assert_eq!(answer.status, 413, "{path}: {}", answer.body);
    }
    watch::still_serves(&lab).await;
}

#[tokio::test]
async fn request_ids_of_any_shape() {
    let lab = watch::lab().await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    for id in [
        json!(1),
        json!({}),
        json!([]),
        json!(true),
        json!("x".repeat(129)),
        json!("é".repeat(65)),
    ] {
        socket.send(&json!({ "type": "get_grants", "_reqId": id })).await;
        let error = socket.next_of("error").await;
        assert_eq!(
            (&error["code"], &error["field"]),
            (&json!("malformed"), &json!("/_reqId"))
        );
    }
    // One id, many requests at once: as many answers.
    for _ in 0..50 {
        socket.send(&json!({ "type": "get_grants", "_reqId": "same" })).await;
    }
    for _ in 0..50 {
        assert_eq!(socket.next_of("grants").await["_reqId"], "same");
    }
    let end = socket.ask(json!({ "type": "get_grants" })).await;
    assert_eq!(end["type"], "grants");
    watch::nothing_panicked();
}

/// A member that sends its frame a byte at a time, for ever: it answers no ping meanwhile, and is gone in the end.
#[tokio::test]
async fn a_members_frame_that_drips_ends_its_connection_only() {
    let lab = watch::lab_with(|config| {
        config.ping_interval = Duration::from_millis(200);
        config.pong_timeout = Duration::from_millis(1_000);
    })
    .await;
    let bob = lab.join("bob", "member").await;
    let mut owner = lab.connect_v2(&lab.owner).await;
    let (mut dripping, _) = raw(lab.addr(), "").await;
    dripping
        .write_all(&frame(0x81, lab.hello_v1(&bob).to_string().as_bytes()))
        .await
        .unwrap();
    let (mut reading, mut writing) = dripping.into_split();
    let writer = tokio::spawn(async move {
        for byte in frame(0x81, &[b' '; 100_000]) {
            if writing.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    // The owner answers pings, as it reads.
    let told = tokio::select! {
        told = to_the_end(&mut reading) => told,
        _ = async { loop { owner.ask(json!({ "type": "get_grants" })).await; tokio::time::sleep(Duration::from_millis(50)).await; } } => String::new(),
    };
    assert!(told.contains("hello_ack"), "{told}");
    let peers = owner.ask(json!({ "type": "list_peers" })).await;
    assert_eq!(peers["peers"].as_array().unwrap().len(), 1, "{peers}");
    drop(reading);
    writer.abort();
    watch::still_serves(&lab).await;
}
