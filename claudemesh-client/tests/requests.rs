//! Requests: replies and errors reach their own request, over reconnects too.
#![allow(clippy::unwrap_used)]

mod scripted;

use claudemesh_client::ClientError;
use claudemesh_proto::ErrorCode;
use claudemesh_proto::ops::{GetState, ListState, SetState};
use scripted::Broker;
use serde_json::{Value, json};
use std::time::Duration;

fn get(key: &str) -> GetState {
    GetState { key: key.to_owned() }
}

fn value_of(request: &Value) -> Value {
    let key = &request["key"];
    json!({ "key": key, "value": key, "updatedBy": "ana", "updatedAt": "", "version": 1, "exists": true })
}

/// The original made ids of the time in milliseconds: calls of one moment shared one.
#[tokio::test]
async fn defect_110_requests_of_one_moment_have_ids_of_their_own() {
    const CALLS: usize = 100;
    let broker = Broker::start().await;
    let (client, mut session) = tokio::join!(broker.builder().connect(), broker.accept());
    let client = client.unwrap();
    let calls: Vec<_> = (0..CALLS)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.get_state(get(&number.to_string())).await })
        })
        .collect();
    let mut requests = Vec::new();
    while requests.len() < CALLS {
        requests.push(session.expect("get_state").await);
    }
    let ids: std::collections::HashSet<_> = requests.iter().map(|request| request["_reqId"].to_string()).collect();
    assert_eq!(ids.len(), CALLS);
    for request in requests.iter().rev() {
        session.reply(request, "state_result", value_of(request)).await;
    }
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap().value, number.to_string());
    }
}

#[tokio::test]
async fn defect_103_104_cli_21_cli_22_replies_and_errors_are_matched_by_request_id_only() {
    let broker = Broker::start().await;
    let (client, mut session) = tokio::join!(broker.builder().connect(), broker.accept());
    let client = client.unwrap();
    let serve = async {
        let requests = [
            session.expect("get_state").await,
            session.expect("get_state").await,
            session.expect("get_state").await,
        ];
        let ids: Vec<&str> = requests
            .iter()
            .map(|request| request["_reqId"].as_str().unwrap())
            .collect();
        assert!(
            ids.iter()
                .all(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        );
        session
            .reply(&requests[2], "state_result", value_of(&requests[2]))
            .await;
        session
            .reply(
                &requests[0],
                "error",
                json!({ "code": "not_found", "message": "no such key" }),
            )
            .await;
        // Without a request id it belongs to nobody.
        session
            .send(json!({ "type": "state_result", "key": "x", "value": 0, "updatedBy": "", "updatedAt": "" }))
            .await;
        session
            .send(json!({ "type": "error", "code": "internal", "message": "stray" }))
            .await;
        session
            .reply(&requests[1], "state_result", value_of(&requests[1]))
            .await;
    };
    let (a, b, c, ()) = tokio::join!(
        client.get_state(get("a")),
        client.get_state(get("b")),
        client.get_state(get("c")),
        serve
    );
    assert_eq!(a.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(b.unwrap().value, "b");
    assert_eq!(c.unwrap().value, "c");
}

#[tokio::test]
async fn a_dropped_request_is_forgotten_and_a_late_reply_harmless() {
    let broker = Broker::start().await;
    let (client, mut session) = tokio::join!(broker.builder().connect(), broker.accept());
    let client = client.unwrap();
    let dropped = tokio::time::timeout(Duration::from_millis(100), client.get_state(get("a"))).await;
    assert!(dropped.is_err());
    let late = session.expect("get_state").await;
    session.reply(&late, "state_result", value_of(&late)).await;
    let serve = async {
        let request = session.expect("get_state").await;
        session.reply(&request, "state_result", value_of(&request)).await;
    };
    let (b, ()) = tokio::join!(client.get_state(get("b")), serve);
    assert_eq!(b.unwrap().value, "b");
}

#[tokio::test]
async fn reads_are_asked_again_and_writes_are_not() {
    let broker = Broker::start().await;
    let (client, mut session) = tokio::join!(broker.builder().connect(), broker.accept());
    let client = client.unwrap();
    let serve = async {
        session.next().await.unwrap();
        session.next().await.unwrap();
        drop(session);
        let mut session = broker.accept().await;
        let request = session.expect("list_state").await;
        session.reply(&request, "state_list", json!({ "entries": [] })).await;
        session
    };
    let write = client.set_state(SetState {
        key: "k".to_owned(),
        value: Value::Null,
    });
    let (read, write, _session) = tokio::join!(client.list_state(ListState {}), write, serve);
    assert!(read.unwrap().entries.is_empty());
    assert!(matches!(write, Err(ClientError::NotConnected { sent: true, .. })));
}

#[tokio::test]
async fn without_a_connection_a_request_waits_and_then_says_why() {
    let broker = Broker::start().await;
    let client = broker
        .builder()
        .request_timeout(Duration::from_millis(200))
        .start()
        .unwrap();
    let error = client.get_state(get("a")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotConnected);
    assert!(error.retryable());
}

#[tokio::test]
async fn no_answer_is_a_timeout() {
    let broker = Broker::start().await;
    let (client, _session) = tokio::join!(broker.builder().connect(), broker.accept());
    let limit = Duration::from_millis(100);
    let error = client.unwrap().request_within(get("a"), limit).await.unwrap_err();
    assert_eq!(
        error,
        ClientError::Timeout {
            what: "get_state".to_owned(),
            after: limit
        }
    );
}
