//! Frames of a member: nesting, size, numbers, encodings.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::watch;

#[tokio::test]
async fn deep_wide_and_huge_values_are_answered() {
    let lab = watch::lab().await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    let before = watch::resident_mib();
    let million = format!("[{}1]", "1,".repeat(999_999));
    let wide: String = (0..100_000).map(|index| format!("\"k{index}\":1,")).collect();
    let bodies = [
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
    ];
    for (index, body) in bodies.iter().enumerate() {
        let started = Instant::now();
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
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{shown}: {:?}",
            started.elapsed()
        );
    }
    // Whatever was sent a hundred times takes no more room than once.
    for _ in 0..30 {
        socket
            .send_text(&format!(r#"{{"type":"nothing","value":{million}}}"#))
            .await;
        assert_eq!(socket.next_of("error").await["code"], "unknown_type");
    }
    if let (Some(before), Some(after)) = (before, watch::resident_mib()) {
        assert!(after < before + 250, "{before} MiB before, {after} MiB after");
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
