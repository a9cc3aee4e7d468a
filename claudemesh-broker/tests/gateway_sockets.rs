//! Connections over real sockets: `hello` and its refusals, the pipeline, order, and the end of a connection.
#![allow(missing_docs)]

mod gateway_kit;

use std::time::Duration;

use claudemesh_crypto::SecretKey;
use futures_util::SinkExt as _;
use gateway_kit::{Closed, Lab, Person, Socket, http, now_ms};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

fn closed(code: u16, reason: &str) -> Closed {
    Closed {
        code,
        reason: reason.to_owned(),
    }
}

/// A `hello` that must be refused with this code.
async fn refused(lab: &Lab, hello: Value, code: &str) -> Value {
    let mut socket = lab.socket().await;
    refused_on(&mut socket, hello, code).await
}

async fn refused_on(socket: &mut Socket, mut hello: Value, code: &str) -> Value {
    hello["_reqId"] = json!("r1");
    socket.send(&hello).await;
    let (error, end) = socket.refused().await;
    assert_eq!(error["code"], code, "{error}");
    assert!(error.get("_reqId").is_none() && error.get("id").is_none(), "{error}");
    assert_eq!(end, closed(1008, code));
    error
}

#[tokio::test]
async fn defect_109_a_hello_of_version_1_is_acknowledged_first() {
    let lab = Lab::start().await;
    // Mail that waits would be pushed at once.
    let bob = lab.join("bob", "member").await;
    let mut sender = lab.connect_v2(&bob).await;
    for _ in 0..3 {
        let send = json!({ "type": "send", "targetSpec": lab.owner.pubkey(), "priority": "now", "nonce": "", "ciphertext": "AAAA" });
        assert_eq!(sender.ask(send).await["type"], "ack");
    }
    sender.0.close(None).await.unwrap();
    let mut second = lab.connect_v2(&lab.owner).await;
    assert_eq!(second.next().await["type"], "push", "after the acknowledgement");
    drop(second);
    let mut socket = lab.socket().await;
    socket.send(&lab.hello_v1(&lab.owner)).await;
    let ack = socket.next().await;
    assert_eq!(ack["type"], "hello_ack");
    assert_eq!(ack["memberDisplayName"], "olivia");
    assert!(ack.get("protocol").is_none() && ack.get("_reqId").is_none(), "{ack}");
    let peers = socket.ask(json!({ "type": "list_peers" })).await;
    assert_eq!(peers["peers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_hello_of_version_2_proves_both_keys() {
    let lab = Lab::start().await;
    let mut socket = lab.socket().await;
    let first = socket.challenge().await;
    let nonce = socket.challenge().await;
    assert_ne!(first, nonce);
    let hello = lab.hello_v2(&lab.owner, &nonce, "ws://localhost:1234/");
    socket.send(&hello).await;
    let ack = socket.next().await;
    assert_eq!(
        (&ack["type"], &ack["protocol"]),
        (&json!("hello_ack"), &json!(2)),
        "{ack}"
    );
}

#[tokio::test]
async fn refusals_of_version_1_are_the_originals() {
    let lab = Lab::start().await;
    let hello = || lab.hello_v1(&lab.owner);
    let with = |field: &str, value: Value| {
        let mut hello = hello();
        hello[field] = value;
        hello
    };
    for timestamp in [
        json!(now_ms() - 61_000),
        json!(now_ms() + 61_500),
        json!("now"),
        Value::Null,
        json!(1e300),
    ] {
        let error = refused(&lab, with("timestamp", timestamp), "timestamp_skew").await;
        assert_eq!(error["message"], "hello rejected: timestamp_skew");
    }
    for (field, value) in [
        ("pubkey", json!("ab")),
        ("signature", json!("zz")),
        ("signature", json!("g".repeat(128))),
    ] {
        let error = refused(&lab, with(field, value), "malformed").await;
        assert_eq!(error["message"], "hello rejected: malformed");
    }
    refused(&lab, with("meshId", json!(7)), "malformed").await;
    // The clock is judged before the shape, the shape before the signature.
    let mut both = with("pubkey", json!("ab"));
    both["timestamp"] = json!(1);
    refused(&lab, both, "timestamp_skew").await;

    let error = refused(&lab, with("memberId", json!("another")), "bad_signature").await;
    assert_eq!(error["message"], "hello rejected: bad_signature");

    let stranger = Person {
        key: SecretKey::generate(),
        id: lab.owner.id.clone(),
    };
    let error = refused(&lab, lab.hello_v1(&stranger), "unauthorized").await;
    assert_eq!(error["message"], "pubkey not found in mesh");
    let mut elsewhere = Lab {
        mesh: "nowhere".to_owned(),
        ..lab
    };
    refused(&elsewhere, elsewhere.hello_v1(&elsewhere.owner), "unauthorized").await;
    elsewhere.mesh.clear();
    refused(&elsewhere, elsewhere.hello_v1(&elsewhere.owner), "malformed").await;
}

#[tokio::test]
async fn a_hello_of_version_1_is_good_once() {
    let lab = Lab::start().await;
    let hello = lab.hello_v1(&lab.owner);
    let mut socket = lab.socket().await;
    socket.send(&hello).await;
    assert_eq!(socket.next().await["type"], "hello_ack");
    refused(&lab, hello.clone(), "replayed").await;
    // Writing the signature in other letters makes no new proof.
    let mut louder = hello;
    louder["signature"] = json!(louder["signature"].as_str().unwrap().to_uppercase());
    refused(&lab, louder, "replayed").await;
}

#[tokio::test]
async fn refusals_of_version_2() {
    let lab = Lab::start().await;
    let origin = lab.origin();

    let mut socket = lab.socket().await;
    socket.challenge().await;
    let other = lab.socket().await.challenge().await;
    refused_on(&mut socket, lab.hello_v2(&lab.owner, &other, &origin), "replayed").await;

    let mut socket = lab.socket().await;
    let old = socket.challenge().await;
    socket.challenge().await;
    refused_on(&mut socket, lab.hello_v2(&lab.owner, &old, &origin), "replayed").await;

    refused(&lab, lab.hello_v2(&lab.owner, "never given", &origin), "replayed").await;

    for foreign in ["wss://other.example", "ws://10.9.8.7:7900", "not an origin"] {
        let mut socket = lab.socket().await;
        let nonce = socket.challenge().await;
        refused_on(&mut socket, lab.hello_v2(&lab.owner, &nonce, foreign), "wrong_origin").await;
    }

    for (field, value, code) in [
        ("sessionSignature", Value::Null, "malformed"),
        ("sessionPubkey", Value::Null, "malformed"),
        ("nonce", Value::Null, "malformed"),
        ("origin", Value::Null, "malformed"),
        ("sessionSignature", json!("ab".repeat(64)), "bad_signature"),
        ("sessionPubkey", json!(lab.owner.pubkey()), "bad_signature"),
        ("signature", json!("ab".repeat(64)), "bad_signature"),
        ("timestamp", json!(now_ms() - 70_000), "timestamp_skew"),
        // A proof of version 2 is none of version 1.
        ("protocol", json!(1), "bad_signature"),
    ] {
        let mut socket = lab.socket().await;
        let nonce = socket.challenge().await;
        let mut hello = lab.hello_v2(&lab.owner, &nonce, &origin);
        if value.is_null() {
            hello.as_object_mut().unwrap().remove(field);
        } else {
            hello[field] = value;
        }
        refused_on(&mut socket, hello, code).await;
    }
}

#[tokio::test]
async fn with_a_public_address_only_proofs_for_it_are_taken() {
    let lab = Lab::start_with(|config| config.public_origins = vec!["https://mesh.example.org".parse().unwrap()]).await;
    let mut socket = lab.socket().await;
    let nonce = socket.challenge().await;
    refused_on(
        &mut socket,
        lab.hello_v2(&lab.owner, &nonce, &lab.origin()),
        "wrong_origin",
    )
    .await;
    let mut socket = lab.socket().await;
    let nonce = socket.challenge().await;
    socket
        .send(&lab.hello_v2(&lab.owner, &nonce, "wss://mesh.example.org:443"))
        .await;
    assert_eq!(socket.next().await["type"], "hello_ack");
}

#[tokio::test]
async fn a_full_mesh_refuses_and_takes_again_when_somebody_leaves() {
    let lab = Lab::start_with(|config| config.max_connections_per_mesh = 1).await;
    let mut first = lab.connect_v1(&lab.owner).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    let error = refused(&lab, lab.hello_v1(&lab.owner), "capacity").await;
    assert_eq!(error["message"], "mesh at connection capacity");
    first.0.close(None).await.unwrap();
    while first.try_next().await.is_ok() {}
    for attempt in 0.. {
        let mut socket = lab.socket().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        socket.send(&lab.hello_v1(&lab.owner)).await;
        if socket.next().await["type"] == "hello_ack" {
            break;
        }
        assert!(attempt < 500, "the place is never free");
    }
}

#[tokio::test]
async fn frames_before_hello_are_refused_and_the_connection_stays() {
    let lab = Lab::start().await;
    let mut socket = lab.socket().await;
    socket.send(&json!({ "type": "list_peers", "_reqId": "r" })).await;
    let error = socket.next().await;
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!("no_hello"), &json!("must send hello first"))
    );
    assert!(error.get("_reqId").is_none());
    socket.send_text("{").await;
    assert_eq!(socket.next().await["code"], "malformed");
    socket.send(&lab.hello_v1(&lab.owner)).await;
    assert_eq!(socket.next().await["type"], "hello_ack");
}

#[tokio::test]
async fn patience_before_hello_is_limited() {
    let lab = Lab::start_with(|config| config.hello_timeout = Duration::from_millis(200)).await;
    let mut silent = lab.socket().await;
    let (error, end) = silent.refused().await;
    assert_eq!(error["code"], "hello_timeout");
    assert_eq!(end, closed(1008, "hello_timeout"));

    let mut chatty = lab.socket().await;
    for _ in 0..16 {
        let _sent = chatty.0.send(Message::text(r#"{"type":"x"}"#)).await;
    }
    let end = loop {
        if let Err(end) = chatty.try_next().await {
            break end;
        }
    };
    assert_eq!(end, closed(1008, "no_hello"));

    let mut large = lab.socket().await;
    large.send_text(&" ".repeat(70_000)).await;
    let (error, end) = large.refused().await;
    assert_eq!((error["code"].as_str().unwrap(), end.code), ("too_large", 1009));
}

#[tokio::test]
async fn sockets_without_hello_are_limited_in_number() {
    let lab = Lab::start_with(|config| config.max_unauthenticated = 2).await;
    let (_one, two) = (lab.socket().await, lab.socket().await);
    let third = tokio_tungstenite::connect_async(format!("ws://{}/ws", lab.addr())).await;
    assert!(third.unwrap_err().to_string().contains("503"));
    drop(two);
    for attempt in 0.. {
        if tokio_tungstenite::connect_async(format!("ws://{}/ws", lab.addr()))
            .await
            .is_ok()
        {
            break;
        }
        assert!(attempt < 500, "the place is never free");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_second_hello_is_refused_and_the_session_stays() {
    let lab = Lab::start().await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    for kind in ["hello", "hello_challenge"] {
        let error = socket.ask(json!({ "type": kind })).await;
        assert_eq!(error["code"], "already_connected");
    }
    let peers = socket.ask(json!({ "type": "list_peers" })).await;
    assert_eq!(peers["peers"].as_array().unwrap().len(), 1, "there is no ghost");
}

#[tokio::test]
async fn every_bad_frame_is_answered_and_the_connection_lives_on() {
    let lab = Lab::start().await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    for text in [
        "",
        "null",
        "[1]",
        "{\"type\":",
        "{}",
        r#"{"type":"list_peers","_reqId":5}"#,
    ] {
        socket.send_text(text).await;
        let error = socket.next().await;
        assert_eq!(error["code"], "malformed", "{text}");
    }
    socket.0.send(Message::binary(vec![0xff, 0xfe])).await.unwrap();
    assert_eq!(socket.next().await["code"], "malformed");
    let deep = format!(r#"{{"type":"set_state","key":"k","value":{}}}"#, "[".repeat(50_000));
    socket.send_text(&deep).await;
    assert_eq!(socket.next().await["code"], "malformed");

    let error = socket.ask(json!({ "type": "get_stat", "key": "k" })).await;
    assert_eq!(
        (&error["code"], &error["suggestions"]),
        (&json!("unknown_type"), &json!(["get_state"]))
    );

    let error = socket.ask(json!({ "type": "audit_query", "limit": 5000 })).await;
    assert_eq!(
        (&error["code"], &error["field"]),
        (&json!("invalid_request"), &json!("/limit"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("5000") && message.contains("500 at /limit"),
        "{message}"
    );

    // An original client knows the answer to a send by its id only.
    socket
        .send(&json!({ "type": "send", "id": "m1", "targetSpec": "", "ciphertext": "" }))
        .await;
    let error = socket.next().await;
    assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("m1")));

    socket
        .0
        .send(Message::binary(br#"{"type":"list_peers","_reqId":"b"}"#.to_vec()))
        .await
        .unwrap();
    assert_eq!(socket.next_of("peers_list").await["_reqId"], "b");
}

#[tokio::test]
async fn a_frame_above_the_limit_ends_the_connection_with_1009() {
    let lab = Lab::start_with(|config| config.max_message_bytes = 10_000).await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    let fits = format!(r#"{{"type":"list_peers","_reqId":"r","pad":"{}"}}"#, "x".repeat(9_900));
    socket.send_text(&fits).await;
    socket.next().await;
    let _sent = socket.0.send(Message::text("x".repeat(10_001))).await;
    let (error, end) = socket.refused().await;
    assert_eq!(error["code"], "too_large");
    assert_eq!(end, closed(1009, "too_large"));
}

#[tokio::test]
async fn defect_108_sub_e_26_requests_sent_at_once_are_answered_once_and_take_effect_in_order() {
    const ROUNDS: usize = 200;
    let lab = Lab::start().await;
    let bob = lab.join("bob", "member").await;
    let mut sender = lab.connect_v2(&lab.owner).await;
    let mut receiver = lab.connect_v2(&bob).await;
    for round in 0..ROUNDS {
        sender
            .send(&json!({
                "type": "send", "id": format!("message-{round:026}"), "_reqId": format!("s{round}"),
                "targetSpec": bob.pubkey(), "priority": "now", "nonce": "", "ciphertext": "AAAA",
            }))
            .await;
        if round % 20 == 0 {
            let (set, get) = (format!("w{round}"), format!("g{round}"));
            sender
                .send(&json!({ "type": "set_state", "key": "k", "value": round, "_reqId": set }))
                .await;
            // What was written is read, without waiting for the answer.
            sender
                .send(&json!({ "type": "get_state", "key": "k", "_reqId": get }))
                .await;
        }
    }
    let mut seen = std::collections::HashMap::new();
    while seen.len() < ROUNDS + 2 * ROUNDS / 20 {
        let frame = sender.next().await;
        let Some(id) = frame["_reqId"].as_str() else { continue };
        assert_ne!(frame["type"], "error", "{frame}");
        if let Some(round) = id.strip_prefix('g') {
            assert_eq!(frame["value"].to_string(), round);
        }
        assert!(seen.insert(id.to_owned(), ()).is_none(), "{id} is answered twice");
    }
    for round in 0..ROUNDS {
        let push = receiver.next_message().await;
        assert_eq!(push["messageId"], format!("message-{round:026}"), "first in, first out");
    }
    // Nothing else is on its way.
    let last = sender.ask(json!({ "type": "list_peers" })).await;
    assert_eq!(last["type"], "peers_list");
}

#[tokio::test]
async fn what_does_not_ask_for_an_answer_gets_none() {
    let lab = Lab::start().await;
    let mut socket = lab.connect_v1(&lab.owner).await;
    socket.send(&json!({ "type": "set_summary", "summary": "quiet" })).await;
    socket.send(&json!({ "type": "list_peers" })).await;
    let frame = socket.next().await;
    assert_eq!(frame["type"], "peers_list");
    assert_eq!(frame["peers"][0]["summary"], "quiet");
}

#[tokio::test]
async fn a_message_that_was_taken_arrives_although_its_sender_is_gone() {
    let lab = Lab::start().await;
    let bob = lab.join("bob", "member").await;
    let mut receiver = lab.connect_v2(&bob).await;
    let mut sender = lab.connect_v2(&lab.owner).await;
    sender
        .send(&json!({ "type": "send", "targetSpec": bob.pubkey(), "priority": "now", "nonce": "", "ciphertext": "AAAA" }))
        .await;
    sender.0.close(None).await.unwrap();
    drop(sender);
    assert_eq!(receiver.next_message().await["ciphertext"], "AAAA");
}

#[tokio::test]
async fn defect_012_013_sub_e_28_limits_and_rights_are_kept() {
    let lab = Lab::start_with(|config| {
        config.rate_limits.heavy = claudemesh_broker::security::rate_limit::Limit::per_second(1, 1);
    })
    .await;
    let bob = lab.join("bob", "member").await;
    let mut socket = lab.connect_v2(&bob).await;
    assert_eq!(socket.ask(json!({ "type": "audit_verify" })).await["valid"], true);
    let error = socket.ask(json!({ "type": "audit_verify" })).await;
    assert_eq!(
        (&error["code"], &error["retryable"]),
        (&json!("rate_limited"), &json!(true))
    );
    assert!(
        (1..=1_000).contains(&error["retryAfterMs"].as_u64().unwrap()),
        "{error}"
    );

    let path = lab.path(&format!("/member/{}", bob.id));
    let restrict = json!({ "permissions": { "canSend": false, "canWriteState": false } });
    let (status, answer) = lab.call("PATCH", &path, Some(&lab.owner.key), Some(restrict)).await;
    assert_eq!(status, 200, "{answer}");
    let error = socket.ask(json!({ "type": "set_state", "key": "k", "value": 1 })).await;
    assert_eq!(error["code"], "forbidden");
    let send = json!({ "type": "send", "id": "m", "targetSpec": "*", "nonce": "", "ciphertext": "AAAA" });
    assert_eq!(socket.ask(send).await["code"], "forbidden");
    assert_eq!(
        socket.ask(json!({ "type": "get_state", "key": "k" })).await["exists"],
        false
    );
}

#[tokio::test]
async fn defect_025_sub_e_29_a_removed_member_is_told_and_cannot_come_back() {
    let lab = Lab::start().await;
    let bob = lab.join("bob", "member").await;
    let mut socket = lab.connect_v2(&bob).await;
    let (status, _) = lab
        .call(
            "DELETE",
            &lab.path(&format!("/member/{}", bob.id)),
            Some(&lab.owner.key),
            None,
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!(socket.next_of("going_away").await["reason"], "revoked");
    assert_eq!(socket.try_next().await.unwrap_err(), closed(1008, "revoked"));
    let mut again = lab.socket().await;
    let nonce = again.challenge().await;
    refused_on(&mut again, lab.hello_v2(&bob, &nonce, &lab.origin()), "revoked").await;
    refused(&lab, lab.hello_v1(&bob), "unauthorized").await;
}

#[tokio::test]
async fn defect_025_sub_e_29_an_archived_mesh_ends_its_sessions_and_takes_no_others() {
    let lab = Lab::start().await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    let (status, _) = lab.call("DELETE", &lab.path(""), Some(&lab.owner.key), None).await;
    assert_eq!(status, 200);
    assert_eq!(socket.next_of("going_away").await["reason"], "archived");
    assert_eq!(socket.try_next().await.unwrap_err(), closed(1008, "archived"));
    let mut again = lab.socket().await;
    let nonce = again.challenge().await;
    refused_on(&mut again, lab.hello_v2(&lab.owner, &nonce, &lab.origin()), "archived").await;
}

#[tokio::test]
async fn defect_063_064_a_client_that_does_not_answer_pings_is_disconnected() {
    let lab = Lab::start_with(|config| {
        config.ping_interval = Duration::from_millis(50);
        config.pong_timeout = Duration::from_millis(300);
    })
    .await;
    let mut alive = lab.connect_v1(&lab.owner).await;
    let mut dead = lab.connect_v2(&lab.owner).await;
    // Who reads answers pings, however long it says nothing.
    let waited = tokio::time::timeout(Duration::from_millis(900), async {
        loop {
            alive.next().await;
        }
    });
    waited.await.unwrap_err();
    let end = loop {
        if let Err(end) = dead.try_next().await {
            break end;
        }
    };
    assert_eq!(end, closed(1008, "timeout"));
    let peers = alive.ask(json!({ "type": "list_peers" })).await;
    assert_eq!(peers["peers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn defect_098_a_stopping_broker_says_goodbye_and_frees_everything() {
    let lab = Lab::start().await;
    let addr = lab.addr();
    let mut current = lab.connect_v2(&lab.owner).await;
    let mut original = lab.connect_v1(&lab.owner).await;
    let mut waiting = lab.socket().await;
    // What the sessions have said of themselves is there after the stop.
    let set = current
        .ask(json!({ "type": "set_summary", "summary": "before the stop" }))
        .await;
    assert_eq!(set["type"], "summary_set", "{set}");
    let mut hello = lab.hello_v1(&lab.owner);
    let Lab {
        running,
        directory,
        mesh,
        owner,
        ..
    } = lab;
    let reading = async {
        let away = current.next_of("going_away").await;
        assert_eq!(away["reason"], "shutting_down");
        assert!(away["reconnectAfterMs"].as_u64().unwrap() >= 500);
        assert_eq!(current.try_next().await.unwrap_err(), closed(1001, "shutting_down"));
        let end = loop {
            match original.try_next().await {
                Ok(frame) => assert_ne!(frame["type"], "going_away", "version 1 has no such frame"),
                Err(end) => break end,
            }
        };
        assert_eq!(end, closed(1001, "shutting_down"));
        assert_eq!(waiting.try_next().await.unwrap_err(), closed(1001, "shutting_down"));
    };
    tokio::join!(running.shutdown(), reading);
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
    // The port and the store are free for the next one.
    let mut config = claudemesh_broker::config::Config::local(directory.path());
    config.port = addr.port();
    let next = claudemesh_broker::Broker::start(config).await.unwrap();
    assert_eq!(http(next.addr, "GET", "/health", "", b"").await.status, 200);
    let mut back = Socket::open(next.addr).await;
    let timestamp = now_ms();
    hello["timestamp"] = json!(timestamp);
    hello["signature"] = json!(claudemesh_crypto::sign_hello_v1(&owner.key, &mesh, &owner.id, timestamp).to_string());
    back.send(&hello).await;
    let ack = back.next().await;
    assert_eq!(
        (&ack["restored"], &ack["lastSummary"]),
        (&json!(true), &json!("before the stop")),
        "{ack}"
    );
    let mut taken = claudemesh_broker::config::Config::local(tempfile::tempdir().unwrap().path());
    taken.port = addr.port();
    let error = claudemesh_broker::Broker::start(taken).await.unwrap_err();
    assert!(error.to_string().contains("BROKER_PORT"), "{error}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected_and_loses_nothing() {
    let lab = Lab::start().await;
    let bob = lab.join("bob", "member").await;
    let mut sender = lab.connect_v2(&lab.owner).await;
    let stuck = lab.connect_v2(&bob).await;
    // More than its queue and the sockets' buffers hold.
    let value = "x".repeat(60_000);
    for round in 0..600 {
        let answer = sender
            .ask(json!({ "type": "set_state", "key": format!("k{}", round % 50), "value": value }))
            .await;
        if answer["code"] == "rate_limited" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let peers = sender.ask(json!({ "type": "list_peers" })).await;
        if peers["peers"].as_array().is_some_and(|peers| peers.len() == 1) {
            drop(stuck);
            let mut again = lab.connect_v2(&bob).await;
            assert_eq!(
                again.ask(json!({ "type": "get_state", "key": "k0" })).await["exists"],
                true
            );
            return;
        }
    }
    panic!("the broker keeps queueing for a client that does not read");
}

/// In the original one query that failed at a pong or at the end of a connection ended the process.
#[tokio::test]
async fn defect_003_a_failed_query_at_the_end_of_a_session_harms_nobody() {
    use sqlx::Connection as _;
    let lab = Lab::start_with(|config| {
        config.ping_interval = Duration::from_millis(50);
        config.pong_timeout = Duration::from_secs(5);
    })
    .await;
    let bob = lab.join("bob", "member").await;
    let mut owner = lab.connect_v2(&lab.owner).await;
    let mut current = lab.connect_v2(&bob).await;
    let original = lab.connect_v1(&bob).await;
    assert_eq!(
        current
            .ask(json!({ "type": "set_summary", "summary": "to be saved" }))
            .await["type"],
        "summary_set"
    );
    sqlx::any::install_default_drivers();
    let file = format!("sqlite:{}", lab.directory.path().join("claudemesh.db").display());
    let mut behind = sqlx::AnyConnection::connect(&file).await.unwrap();
    sqlx::query("ALTER TABLE peer_state RENAME TO peer_state_gone")
        .execute(&mut behind)
        .await
        .unwrap();
    // One says goodbye, the other is cut. Pings go on meanwhile.
    current.0.close(None).await.unwrap();
    drop(original);
    let mut left = 2;
    while left > 1 {
        let peers = owner.ask(json!({ "type": "list_peers" })).await;
        left = peers["peers"].as_array().unwrap().len();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(
        owner.ask(json!({ "type": "set_state", "key": "k", "value": 1 })).await["type"],
        "state_set"
    );
    let health = http(lab.addr(), "GET", "/health", "", b"").await;
    assert!(health.status == 200 || health.status == 503, "{}", health.body);
    sqlx::query("ALTER TABLE peer_state_gone RENAME TO peer_state")
        .execute(&mut behind)
        .await
        .unwrap();
    behind.close().await.unwrap();
    // Bob can come back: at once, or when the broker has seen that the store works again.
    for attempt in 0.. {
        let mut socket = lab.socket().await;
        let nonce = socket.challenge().await;
        socket.send(&lab.hello_v2(&bob, &nonce, &lab.origin())).await;
        let answer = socket.next().await;
        if answer["type"] == "hello_ack" {
            break;
        }
        assert_eq!(answer["code"], "unavailable", "{answer}");
        assert!(attempt < 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
