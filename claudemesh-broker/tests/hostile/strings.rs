//! Texts that break statements, documents and screens, in every field that takes text.

use serde_json::{Value, json};

use crate::watch;

pub(crate) const TEXTS: &[&str] = &[
    "it's",
    "x')) OR true OR (target_spec IN ('",
    "'; DROP TABLE message; --",
    "\"quoted\"",
    "back\\slash\\",
    "nul\u{0}inside",
    "\u{0}",
    "line\nfeed\r\n",
    "\u{202e}drawkcab\u{2066}",
    "\u{feff}bom",
    "emoji 👩‍👩‍👧 \u{10ffff}",
    "%s %d ${HOME} $(id) `id`",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "\u{1b}[2J\u{7}",
    "* OR 1=1",
];

/// Group names reach the queries of every later send and drain.
#[tokio::test]
async fn defect_001_002_sub_e_03_group_names_are_only_names() {
    let lab = watch::lab().await;
    let bob = lab.join("bob", "member").await;
    let mut bystander = lab.connect_v1(&bob).await;
    let mut attacker = lab.connect_v1(&lab.owner).await;
    // Somebody's private mail waits.
    let carol = lab.join("carol", "member").await;
    let ack = bystander
        .ask(json!({ "type": "send", "targetSpec": carol.pubkey(), "nonce": "", "ciphertext": "Y2Fyb2w=" }))
        .await;
    assert_eq!(ack["recipients"], 1, "{ack}");
    for text in TEXTS {
        for role in [json!(text), json!(null)] {
            let answer = attacker
                .ask(json!({ "type": "join_group", "name": text, "role": role }))
                .await;
            watch::is_typed(&answer, text);
            if answer["type"] == "group_joined" {
                let back = json!(text.trim_start_matches('@'));
                assert!(answer["name"] == back || answer["name"].is_string(), "{answer}");
            }
        }
        let spec = format!("@{text}");
        let ack = bystander
            .ask(json!({ "type": "send", "targetSpec": spec, "nonce": "", "ciphertext": "AAAA" }))
            .await;
        watch::is_typed(&ack, &spec);
        let answer = attacker.ask(json!({ "type": "leave_group", "name": text })).await;
        watch::is_typed(&answer, text);
    }
    // The shapes that ended the original's process.
    for frame in [
        json!({ "type": "join_group" }),
        json!({ "type": "join_group", "name": null }),
        json!({ "type": "join_group", "name": { "name": "x" } }),
    ] {
        assert_eq!(attacker.ask(frame).await["code"], "invalid_request");
    }
    // And in hello, which saves them for the next connection.
    for text in TEXTS {
        let mut hello = lab.hello_v1(&lab.owner);
        hello["groups"] = json!([{ "name": text, "role": text }, { "name": "fine" }]);
        let mut socket = lab.socket().await;
        socket.send(&hello).await;
        let answer = socket.next().await;
        watch::is_typed(&answer, text);
        drop(socket);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    // Carol's mail was taken by nobody else.
    let pulled = attacker.ask(json!({ "type": "pull_messages" })).await;
    assert!(!pulled.to_string().contains("Y2Fyb2w="), "{pulled}");
    let mut carol = lab.connect_v1(&carol).await;
    let push = carol.next_message().await;
    assert_eq!(push["ciphertext"], "Y2Fyb2w=");
    watch::still_serves(&lab).await;
}

/// What is taken is given back as it was; what is not is refused. Nothing in between.
#[tokio::test]
async fn every_text_field_takes_any_text_or_refuses_it() {
    let lab = watch::lab().await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    for text in TEXTS {
        let requests = [
            json!({ "type": "set_summary", "summary": text }),
            json!({ "type": "set_profile", "title": text, "bio": text, "avatar": text, "capabilities": [text] }),
            json!({ "type": "set_state", "key": text, "value": { "text": text } }),
            json!({ "type": "get_state", "key": text }),
            json!({ "type": "delete_state", "key": text }),
            json!({ "type": "message_status", "messageId": text }),
            json!({ "type": "remove_member", "memberId": text }),
            json!({ "type": "audit_query", "eventType": text }),
            json!({ "type": "ack_messages", "acks": [{ "messageId": text, "stage": "read", "adapter": text }] }),
            json!({ "type": "send", "targetSpec": text, "nonce": text, "ciphertext": text, "id": text, "subtype": text }),
            json!({ "type": "send", "targetSpec": lab.owner.pubkey(), "nonce": text, "ciphertext": text, "subtype": text }),
            json!({ "type": "group_commit", "entries": [text], "seals": [] }),
            json!({ "type": "key_request", "request": { text.to_owned(): text } }),
            json!({ "type": text, "x": text }),
        ];
        for request in requests {
            let shown = request.to_string();
            let answer = socket.ask(request).await;
            watch::is_typed(&answer, &shown);
            assert_ne!(answer["code"], "unavailable", "{shown} → {answer}");
            if text.contains('\0') && !shown.starts_with("{\"type\":\"nul") {
                assert_eq!(answer["type"], "error", "{shown} → {answer}");
            }
        }
        let id = text.to_string();
        if id.len() <= 128 {
            let frame = json!({ "type": "get_grants", "_reqId": id });
            socket.send(&frame).await;
            let answer = loop {
                let frame = socket.next().await;
                if frame["type"] == "grants" {
                    break frame;
                }
            };
            assert_eq!(answer["_reqId"], *text);
        }
        let value = json!({ "text": text, "list": [text] });
        let set = socket
            .ask(json!({ "type": "set_state", "key": "kept", "value": value }))
            .await;
        if set["type"] == "state_set" {
            let got = socket.ask(json!({ "type": "get_state", "key": "kept" })).await;
            assert_eq!(got["value"], value, "a value is given back as it came");
        }
    }
    watch::still_serves(&lab).await;
}

/// Every text of hello. A peer's name is shown to all others.
#[tokio::test]
async fn every_text_of_hello() {
    let lab = watch::lab().await;
    for text in TEXTS {
        for field in [
            "displayName",
            "sessionId",
            "cwd",
            "hostname",
            "peerType",
            "channel",
            "model",
            "meshId",
            "memberId",
            "pubkey",
            "signature",
            "sessionPubkey",
            "protocol",
            "caps",
            "head",
            "groups",
            "visible",
            "observer",
            "pid",
            "timestamp",
        ] {
            let mut hello = lab.hello_v1(&lab.owner);
            hello[field] = json!(text);
            let mut socket = lab.socket().await;
            socket.send(&hello).await;
            let answer = socket.next().await;
            watch::is_typed(&answer, &format!("hello {field} {text:?}"));
        }
    }
    // Too long for a name, whatever is done with it: nobody is shown megabytes.
    for field in [
        "displayName",
        "sessionId",
        "cwd",
        "hostname",
        "peerType",
        "channel",
        "model",
    ] {
        let mut hello = lab.hello_v1(&lab.owner);
        hello[field] = json!("x".repeat(500_000));
        let mut socket = lab.socket().await;
        socket.send(&hello).await;
        let answer = socket.next().await;
        watch::is_typed(&answer, field);
        if answer["type"] == "hello_ack" {
            let peers = socket.ask(json!({ "type": "list_peers" })).await;
            assert!(peers.to_string().len() < 20_000, "{field} is shown whole");
        }
    }
    watch::still_serves(&lab).await;
}

/// What describes the session may be missing; what proves it may not.
#[tokio::test]
async fn defect_041_a_hello_needs_no_directory() {
    let lab = watch::lab().await;
    let mut hello = lab.hello_v1(&lab.owner);
    for field in ["cwd", "pid", "sessionId"] {
        hello.as_object_mut().unwrap().remove(field);
    }
    let mut socket = lab.socket().await;
    socket.send(&hello).await;
    assert_eq!(socket.next().await["type"], "hello_ack");
    for field in ["meshId", "memberId", "pubkey", "signature", "timestamp"] {
        let mut hello = lab.hello_v1(&lab.owner);
        hello.as_object_mut().unwrap().remove(field);
        let mut socket = lab.socket().await;
        socket.send(&hello).await;
        let (error, _) = socket.refused().await;
        watch::is_typed(&error, field);
    }
    watch::nothing_panicked();
}

/// Ids in paths are texts, too.
#[tokio::test]
async fn every_text_of_a_path() {
    let lab = watch::lab().await;
    for text in [
        "%00",
        "a%00b",
        "%27%29--",
        "%ff%fe",
        "..%2f..",
        "%E2%80%AE",
        "%0d%0ax: y",
        "x%2f",
        "%",
        "%zz",
    ] {
        for (method, path) in [
            ("GET", format!("/mesh/{text}/members")),
            ("DELETE", format!("/mesh/{text}")),
            ("PATCH", lab.path(&format!("/member/{text}"))),
            ("DELETE", lab.path(&format!("/invites/{text}"))),
            ("GET", format!("/api/public/invite-code/{text}")),
            ("POST", format!("/invites/{text}/claim")),
            ("GET", format!("/i/{text}")),
        ] {
            let body = (method == "PATCH" || method == "POST").then(|| json!({}));
            let (status, answer) = lab.call(method, &path, Some(&lab.owner.key), body).await;
            assert!(status < 500, "{method} {path} → {status} {answer}");
        }
    }
    watch::still_serves(&lab).await;
}

/// Strings stay strings (the original gave `"123"` back as a number), and null is a value.
#[tokio::test]
async fn defect_052_sub_e_24_state_keeps_every_json_value() {
    let lab = watch::lab().await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    let values: Vec<Value> = vec![
        json!("123"),
        json!("true"),
        json!("{\"a\":1}"),
        json!(null),
        json!(0),
        json!(-0.5),
        json!(9_007_199_254_740_993_i64),
        json!(u64::MAX),
        json!({ "b": 1, "a": [null, "x"] }),
        json!([]),
        json!(""),
    ];
    for value in values {
        let set = socket
            .ask(json!({ "type": "set_state", "key": "k", "value": value }))
            .await;
        assert_eq!(set["type"], "state_set", "{set}");
        let got = socket.ask(json!({ "type": "get_state", "key": "k" })).await;
        assert_eq!((&got["value"], &got["exists"]), (&value, &json!(true)));
    }
    assert_eq!(
        socket.ask(json!({ "type": "set_state", "key": "k" })).await["code"],
        "invalid_request"
    );
    let deleted = socket.ask(json!({ "type": "delete_state", "key": "k" })).await;
    assert_eq!(deleted["existed"], true);
    assert_eq!(
        socket.ask(json!({ "type": "get_state", "key": "k" })).await["exists"],
        false
    );
}
