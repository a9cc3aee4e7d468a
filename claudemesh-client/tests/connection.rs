//! Connecting, refusals, reconnecting, and the original's protocol.
#![allow(clippy::unwrap_used)]

mod scripted;

use claudemesh_client::{ClientError, ConnectionState, MeshClient};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::model::{GroupName, PeerStatus};
use claudemesh_proto::ops::{GetState, JoinGroup, ListMembers, SetStatus, SetSummary};
use scripted::{Broker, LIMIT};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn defect_107_cli_35_a_session_keeps_its_key_and_settings_over_reconnects() {
    let broker = Broker::start().await;
    let client = broker.builder().start().unwrap();
    let mut first = broker.accept().await;
    let key = first.hello["sessionPubkey"].clone();
    assert_eq!(key, client.session_key().to_string());
    assert_eq!(first.hello["protocol"], 2);

    let settings = async {
        client
            .join_group(JoinGroup {
                name: GroupName::new("backend"),
                role: None,
            })
            .await
            .unwrap();
        client
            .set_summary(SetSummary {
                summary: "tests".to_owned(),
            })
            .await
            .unwrap();
        client
            .set_status(SetStatus {
                status: PeerStatus::Dnd,
            })
            .await
            .unwrap();
    };
    let serve = async {
        let request = first.expect("join_group").await;
        first
            .reply(
                &request,
                "group_joined",
                json!({ "name": "backend", "groups": [{ "name": "backend" }] }),
            )
            .await;
        let request = first.expect("set_summary").await;
        first
            .reply(&request, "summary_set", json!({ "summary": "tests" }))
            .await;
        let request = first.expect("set_status").await;
        first
            .reply(&request, "status_set", json!({ "status": "dnd", "source": "manual" }))
            .await;
    };
    tokio::join!(settings, serve);
    drop(first);

    let mut second = broker.accept().await;
    assert_eq!(second.hello["sessionPubkey"], key);
    assert_eq!(second.hello["groups"], json!([{ "name": "backend" }]));
    let request = second.expect("set_summary").await;
    assert_eq!(request["summary"], "tests");
    second
        .reply(&request, "summary_set", json!({ "summary": "tests" }))
        .await;
    let request = second.expect("set_status").await;
    assert_eq!(request["status"], "dnd");
    second
        .reply(&request, "status_set", json!({ "status": "dnd", "source": "manual" }))
        .await;
    assert!(client.state().is_open());
}

#[tokio::test]
async fn a_refusal_for_good_is_not_tried_again() {
    for code in ["unauthorized", "revoked", "archived", "bad_signature", "malformed"] {
        let broker = Broker::start().await;
        let (refused, ()) = tokio::join!(broker.builder().connect(), broker.refuse(code));
        assert_eq!(refused.unwrap_err().code(), ErrorCode::from(code));
        assert!(!broker.is_dialled(Duration::from_millis(400)).await, "{code}");
    }
}

#[tokio::test]
async fn other_refusals_are_tried_again() {
    let broker = Broker::start().await;
    let client = broker.builder().start().unwrap();
    broker.refuse("capacity").await;
    let _session = broker.accept().await;
    client.wait_open(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_broker_that_goes_away_is_waited_for_and_one_that_removes_us_is_not() {
    let broker = Broker::start().await;
    let client = broker.builder().start().unwrap();
    let mut session = broker.accept().await;
    session
        .send(json!({ "type": "going_away", "reason": "shutting_down", "reconnectAfterMs": 10 }))
        .await;
    drop(session);
    let mut session = broker.accept().await;
    session.send(json!({ "type": "going_away", "reason": "revoked" })).await;
    drop(session);
    let error = loop {
        if let ConnectionState::Closed { error } = client.state() {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(error.unwrap().code(), ErrorCode::Revoked);
    assert!(client.recv().await.is_none());
    let sent = client.get_state(GetState { key: "k".to_owned() }).await;
    assert_eq!(sent.unwrap_err().code(), ErrorCode::Revoked);
}

#[tokio::test]
async fn an_unreachable_broker_is_told_with_the_reason() {
    let broker = Broker::start().await;
    let identity = broker.identity();
    drop(broker);
    let failed = MeshClient::builder(identity)
        .connect_timeout(Duration::from_millis(300))
        .connect()
        .await;
    let error = failed.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotConnected);
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(error.exit_code(), 4);
}

#[tokio::test]
async fn an_original_broker_gets_the_original_hello_and_its_silence_is_understood() {
    let broker = Broker::start().await;
    let (client, mut session) = tokio::join!(broker.builder().connect(), broker.accept_v1());
    let client = client.unwrap();
    assert_eq!(client.protocol(), 1);
    assert!(session.hello.get("protocol").is_none());

    // It never answers `set_status`.
    let set = client
        .set_status(SetStatus {
            status: PeerStatus::Working,
        })
        .await
        .unwrap();
    assert_eq!(set.status, PeerStatus::Working);
    assert_eq!(session.expect("set_status").await["status"], "working");

    // What it does not serve is told at once instead of after a time-out.
    let members = client.list_members(ListMembers {}).await;
    assert!(matches!(members, Err(ClientError::Unsupported { .. })));
}

#[tokio::test]
async fn the_original_hello_can_be_forbidden() {
    let broker = Broker::start().await;
    let connecting = broker.builder().protocol_v1_fallback(false).connect();
    let serving = async {
        let mut socket = broker.socket().await;
        assert_eq!(socket.frame().await.unwrap()["type"], "hello_challenge");
        socket
            .send(json!({ "type": "error", "code": "no_hello", "message": "must send hello first" }))
            .await;
        assert!(socket.frame().await.is_none(), "no hello without a challenge");
    };
    let (client, ()) = tokio::join!(connecting, serving);
    assert!(matches!(client, Err(ClientError::Unsupported { .. })));
}

#[tokio::test]
async fn dropping_the_last_clone_ends_the_connection() {
    let broker = Broker::start().await;
    let (client, mut session) = tokio::join!(broker.builder().connect(), broker.accept());
    let client = client.unwrap();
    let other = client.clone();
    drop(client);
    assert!(other.state().is_open());
    drop(other);
    while session.next().await.is_some() {}
    assert!(!broker.is_dialled(Duration::from_millis(400)).await);
}
