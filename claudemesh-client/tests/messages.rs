//! Sending and receiving: the outbox, the inbox, acknowledgements, receipts, `ping_mesh`.
#![allow(clippy::unwrap_used)]

mod scripted;

use claudemesh_client::{ClientError, ClientEvent, MeshClient, Resolved};
use claudemesh_crypto::{SecretKey, open_direct};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::model::{DeliveryStage, Priority};
use claudemesh_proto::ops::SendEnvelope;
use claudemesh_proto::tools::PingMesh;
use scripted::{Broker, LIMIT, Session};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

fn envelope(id: &str) -> SendEnvelope {
    SendEnvelope {
        target_spec: "a".repeat(64),
        priority: Priority::Now,
        nonce: "bm9uY2U=".into(),
        ciphertext: "aGk=".into(),
        id: Some(id.to_owned()),
        meta: None,
        sealed: None,
        session_hint: None,
        ttl_ms: None,
        subtype: None,
    }
}

async fn connected(broker: &Broker) -> (MeshClient, Session) {
    let (client, session) = tokio::join!(broker.builder().connect(), broker.accept());
    (client.unwrap(), session)
}

#[tokio::test]
async fn defect_107_unacknowledged_messages_are_sent_again_after_a_reconnect() {
    let broker = Broker::start().await;
    let (client, mut session) = connected(&broker).await;
    let sends: Vec<_> = ["m1", "m2", "m3"]
        .into_iter()
        .map(|id| client.enqueue(envelope(id)).unwrap())
        .collect();
    for id in ["m1", "m2", "m3"] {
        assert_eq!(session.expect("send").await["id"], id, "all are on their way at once");
    }
    session.accept_message(&json!({ "id": "m1" })).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(session);
    // Without a connection messages wait.
    let late = client.enqueue(envelope("m4")).unwrap();
    let mut session = broker.accept().await;
    for id in ["m2", "m3", "m4"] {
        let send = session.expect("send").await;
        assert_eq!(send["id"], id);
        session.accept_message(&send).await;
    }
    for send in sends.into_iter().chain([late]) {
        assert!(timeout(LIMIT, send).await.unwrap().unwrap().queued);
    }
}

#[tokio::test]
async fn defect_106_a_full_outbox_and_a_message_that_never_left_are_errors() {
    let broker = Broker::start().await;
    let client = broker
        .builder()
        .outbox_capacity(2)
        .request_timeout(Duration::from_millis(100))
        .start()
        .unwrap();
    let error = client.send_sealed(envelope("m0")).await.unwrap_err();
    assert!(
        matches!(error, ClientError::NotConnected { sent: false, .. }),
        "{error}"
    );
    let _first = client.enqueue(envelope("m1")).unwrap();
    let _second = client.enqueue(envelope("m2")).unwrap();
    assert_eq!(
        client.enqueue(envelope("m3")).unwrap_err(),
        ClientError::QueueFull { capacity: 2 }
    );
    let mut session = broker.accept().await;
    assert_eq!(session.expect("send").await["id"], "m1", "m0 was taken back");
}

#[tokio::test]
async fn refusals_reach_the_message_and_a_rate_limit_is_waited_out() {
    let broker = Broker::start().await;
    let (client, mut session) = connected(&broker).await;
    let refused = client.enqueue(envelope("m1")).unwrap();
    let limited = client.enqueue(envelope("m2")).unwrap();
    let first = session.expect("send").await;
    let second = session.expect("send").await;
    session
        .send(json!({ "type": "error", "code": "no_such_peer", "message": "nobody", "id": first["id"] }))
        .await;
    let error = json!({ "code": "rate_limited", "message": "slow down", "retryable": true, "retryAfterMs": 50 });
    session.reply(&second, "error", error).await;
    assert_eq!(refused.await.unwrap_err().code(), ErrorCode::NoSuchPeer);
    let again = session.expect("send").await;
    assert_eq!(again["id"], "m2");
    session.accept_message(&again).await;
    limited.await.unwrap();
}

#[tokio::test]
async fn text_is_sealed_to_the_member_that_the_name_belongs_to() {
    let broker = Broker::start().await;
    let (client, mut session) = connected(&broker).await;
    let ben = SecretKey::generate();
    let serve = async {
        for _ in 0..2 {
            let request = session.next().await.unwrap();
            if request["type"] == "list_peers" {
                session.reply(&request, "peers_list", json!({ "peers": [] })).await;
            } else {
                session
                    .reply(&request, "members_list", json!({ "members": [member("Ben", &ben)] }))
                    .await;
            }
        }
        let send = session.expect("send").await;
        assert_eq!(send["targetSpec"], ben.public().to_string());
        let sender = client.session_key();
        let text = |name: &str| send[name].as_str().unwrap();
        let opened = open_direct(&[&ben], &sender, text("nonce"), text("ciphertext")).unwrap();
        assert_eq!(opened.as_slice(), b"hello");
        session.accept_message(&send).await;
    };
    let (sent, ()) = tokio::join!(client.send_text("ben", "hello", Priority::Now), serve);
    assert_eq!(sent.unwrap().to, "Ben");
}

fn member(name: &str, key: &SecretKey) -> Value {
    json!({
        "id": "m2", "pubkey": key.public().to_string(), "displayName": name, "permission": "member", "online": false,
        "joinedAt": "2026-01-01T00:00:00.000Z",
    })
}

#[tokio::test]
async fn messages_are_opened_acknowledged_and_given_once() {
    let broker = Broker::start().await;
    let (client, mut session) = connected(&broker).await;
    let mut events = client.events();
    let ben = SecretKey::generate();
    session.push("m1", &ben, "one").await;
    let message = timeout(LIMIT, client.recv()).await.unwrap().unwrap();
    session.acknowledged("m1", "delivered").await;
    assert_eq!(
        (message.text.as_deref(), message.from.as_str(), message.mesh.as_str()),
        (Some("one"), "ben", "crew")
    );
    message.ack_surfaced("terminal");
    message.ack_read();
    session.acknowledged("m1", "read").await;
    assert!(session.acks.contains(&("m1".to_owned(), "surfaced".to_owned())));

    // A repetition is acknowledged again, because the first one may be lost, and not shown again.
    session.acks.clear();
    session.push("m1", &ben, "one").await;
    session.acknowledged("m1", "delivered").await;
    session.push("m2", &ben, "two").await;
    let message = timeout(LIMIT, client.recv()).await.unwrap().unwrap();
    assert_eq!(message.text.as_deref(), Some("two"));

    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Some(ClientEvent::Message(message)) = timeout(LIMIT, events.next()).await.unwrap() {
            seen.push(message.message_id.to_string());
        }
    }
    assert_eq!(seen, ["m1", "m2"]);
}

#[tokio::test]
async fn what_the_program_has_not_taken_is_not_acknowledged() {
    let broker = Broker::start().await;
    let (client, session) = tokio::join!(broker.builder().inbox_capacity(2).connect(), broker.accept());
    let (client, mut session) = (client.unwrap(), session);
    let ben = SecretKey::generate();
    for id in ["m1", "m2", "m3"] {
        session.push(id, &ben, id).await;
    }
    for id in ["m1", "m2"] {
        assert_eq!(
            timeout(LIMIT, client.recv()).await.unwrap().unwrap().text.as_deref(),
            Some(id)
        );
        session.acknowledged(id, "delivered").await;
    }
    // There was no room for the third one: it comes again when the broker's lease runs out.
    assert!(client.try_recv().is_none());
    session.push("m3", &ben, "m3").await;
    assert_eq!(
        timeout(LIMIT, client.recv()).await.unwrap().unwrap().text.as_deref(),
        Some("m3")
    );
    session.acknowledged("m3", "delivered").await;
}

#[tokio::test]
async fn acknowledgements_survive_a_lost_connection() {
    let broker = Broker::start().await;
    let (client, session) = connected(&broker).await;
    drop(session);
    client.acknowledge(&"m9".into(), claudemesh_proto::model::ClientStage::Read, None);
    let mut session = broker.accept().await;
    session.acknowledged("m9", "read").await;
}

#[tokio::test]
async fn closing_waits_for_acknowledgements_of_both_sides() {
    let broker = Broker::start().await;
    let (client, mut session) = connected(&broker).await;
    let sent = client.enqueue(envelope("m1")).unwrap();
    client.acknowledge(&"m9".into(), claudemesh_proto::model::ClientStage::Read, None);
    let serve = async {
        let send = session.expect("send").await;
        session.accept_message(&send).await;
        while session.next().await.is_some() {}
        session.acks
    };
    let ((), acks) = tokio::join!(client.close(), serve);
    assert!(sent.await.is_ok());
    assert!(acks.contains(&("m9".to_owned(), "read".to_owned())));
    assert!(client.state().is_closed());
    assert!(matches!(client.enqueue(envelope("m2")), Err(ClientError::Closed)));
}

#[tokio::test]
async fn receipts_are_told_from_the_beginning_to_the_end() {
    let broker = Broker::start().await;
    let (client, mut session) = connected(&broker).await;
    let ben = SecretKey::generate().public();
    let to = Resolved::Direct {
        key: ben,
        session: None,
        name: "ben".to_owned(),
    };
    let serve = async {
        let send = session.expect("send").await;
        session.accept_message(&send).await;
        let receipt = |stage: &str| {
            json!({
                "type": "receipt", "messageId": send["id"], "recipient": ben.to_string(), "name": "ben", "stage": stage,
                "at": "2026-01-01T00:00:00.000Z",
            })
        };
        session.send(receipt("delivered")).await;
        let request = session.expect("message_status").await;
        let line = json!({ "name": "ben", "pubkey": ben.to_string(), "status": "delivered", "stage": "delivered" });
        let status = json!({
            "messageId": send["id"], "targetSpec": ben.to_string(), "delivered": true, "deliveredAt": null,
            "recipients": [line],
        });
        session.reply(&request, "message_status_result", status).await;
        session.send(receipt("surfaced")).await;
        session.send(receipt("read")).await;
        session
    };
    let follow = async {
        let sent = client.send_to(&to, "hi", Priority::Now).await.unwrap();
        let mut receipts = client.receipts(&sent);
        let mut stages = Vec::new();
        while let Some(receipt) = timeout(LIMIT, receipts.next()).await.unwrap() {
            stages.push(receipt.stage);
        }
        stages
    };
    let (stages, _session) = tokio::join!(follow, serve);
    use DeliveryStage::{Accepted, Delivered, Read, Surfaced};
    assert_eq!(stages, [Accepted, Delivered, Surfaced, Read]);
}

#[tokio::test]
async fn ping_mesh_goes_through_encryption_and_back() {
    let broker = Broker::start().await;
    let (client, mut session) = connected(&broker).await;
    let key = client.session_key().to_string();
    let serve = async {
        let request = session.expect("list_peers").await;
        let own = json!({
            "pubkey": key, "displayName": "ana", "status": "working", "connectedAt": "2026-01-01T00:00:00.000Z", "protocol": 2,
        });
        session.reply(&request, "peers_list", json!({ "peers": [own] })).await;
        let send = session.expect("send").await;
        assert_eq!((&send["targetSpec"], &send["subtype"]), (&json!(key), &json!("ping")));
        session.accept_message(&send).await;
        let mut push = json!({
            "type": "push", "messageId": send["id"], "meshId": "mesh1", "senderPubkey": key,
            "senderMember": broker.member.public().to_string(), "senderName": "ana", "subtype": "ping",
            "createdAt": "2026-01-01T00:00:00.000Z", "target": { "kind": "direct", "spec": key },
        });
        for name in ["nonce", "ciphertext", "priority", "meta"] {
            push[name] = send[name].clone();
        }
        session.send(push).await;
        // The one that is held.
        let send = session.expect("send").await;
        session.accept_message(&send).await;
        let request = session.expect("message_status").await;
        let error = json!({ "code": "not_found", "message": "message not found" });
        session.reply(&request, "error", error).await;
        session
    };
    let ping = client.ping_mesh(PingMesh {
        priorities: vec![Priority::Now, Priority::Next],
    });
    let (result, _session) = tokio::join!(ping, serve);
    let result = result.unwrap();
    assert_eq!(result.peers, 0);
    let [now, next] = result.legs.as_slice() else {
        panic!("two legs")
    };
    assert!(now.round_trip_ms.unwrap() >= now.accepted_ms.unwrap());
    assert!(now.note.is_none());
    assert!(next.round_trip_ms.is_none());
    assert!(next.note.as_deref().unwrap().contains("this session is `working`"));
    assert!(client.try_recv().is_none(), "test messages are not shown");
}

#[tokio::test]
async fn a_group_message_without_its_key_is_not_acknowledged() {
    let broker = Broker::start().await;
    let (client, mut session) = connected(&broker).await;
    let ben = SecretKey::generate();
    let key = ben.public().to_string();
    session
        .send(json!({
            "type": "push", "messageId": "g1", "meshId": "mesh1", "senderPubkey": key, "senderMember": key,
            "senderName": "ben", "priority": "now", "nonce": "bm9uY2U=", "ciphertext": "aGk=",
            "createdAt": "2026-01-01T00:00:00.000Z", "target": { "kind": "broadcast", "spec": "@all" },
            "sealed": {
                "scheme": "epoch/1", "generation": 0, "epoch": 7, "label": "all", "keyId": "0011223344556677",
                "device": key, "session": key, "seq": 1,
            },
        }))
        .await;
    session.push("m1", &ben, "one").await;
    // The client asks for the missing key meanwhile, so the broker has to listen.
    let (message, ()) = tokio::join!(
        async { timeout(LIMIT, client.recv()).await.unwrap().unwrap() },
        session.acknowledged("m1", "delivered")
    );
    assert_eq!(message.text.as_deref(), Some("one"));
    assert!(
        !session.acks.iter().any(|(id, _)| id == "g1"),
        "the sender's receipt tells the truth"
    );
    assert!(client.try_recv().is_none());
}
