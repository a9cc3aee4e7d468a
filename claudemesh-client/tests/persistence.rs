//! A persistent client that is started again: what it sends, what it gives out, and which session it is.
#![allow(clippy::unwrap_used)]

mod scripted;

use claudemesh_client::{ClientError, MeshClient, MeshClientBuilder, Resolved};
use claudemesh_crypto::SecretKey;
use claudemesh_proto::model::{ClientStage, Priority};
use scripted::{Broker, LIMIT, Session};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Connects; a client that was dropped before may need a moment to give the directory free.
async fn connect(broker: &Broker, directory: &Path) -> (MeshClient, Session) {
    connect_with(broker, directory, |builder| builder).await
}

async fn connect_with(
    broker: &Broker,
    directory: &Path,
    change: impl Fn(MeshClientBuilder) -> MeshClientBuilder,
) -> (MeshClient, Session) {
    let deadline = Instant::now() + LIMIT;
    let client = loop {
        // Group keys are not asked for here: nobody answers while a test waits for a message.
        let builder = broker.builder().request_timeout(Duration::from_millis(500));
        match change(builder.persistent(directory)).start() {
            Ok(client) => break client,
            Err(error @ ClientError::Journal { .. }) => assert!(Instant::now() < deadline, "{error}"),
            Err(error) => panic!("{error}"),
        }
        sleep(Duration::from_millis(10)).await;
    };
    let session = broker.accept().await;
    client.wait_open(LIMIT).await.unwrap();
    (client, session)
}

fn to(peer: &SecretKey) -> Resolved {
    Resolved::Direct {
        key: peer.public(),
        session: None,
        name: "ben".to_owned(),
    }
}

async fn queue(client: &MeshClient, peer: &SecretKey, text: &str) -> String {
    let pending = client.queue_to(&to(peer), text, Priority::Now).await.unwrap();
    pending.id().to_owned()
}

async fn recv(client: &MeshClient) -> claudemesh_client::Message {
    timeout(LIMIT, client.recv()).await.expect("a message").unwrap()
}

#[tokio::test]
async fn what_was_not_accepted_is_sent_again_by_the_same_session() {
    let (broker, directory, ben) = (
        Broker::start().await,
        tempfile::tempdir().unwrap(),
        SecretKey::generate(),
    );
    let (client, mut session) = connect(&broker, directory.path()).await;
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        ids.push(queue(&client, &ben, text).await);
    }
    let mut sends: Vec<Value> = Vec::new();
    for _ in 0..3 {
        sends.push(session.expect("send").await);
    }
    session.accept_message(&sends[0]).await;
    sleep(Duration::from_millis(100)).await;
    let first = session.hello["sessionPubkey"].clone();
    drop((client, session));

    let (client, mut session) = connect(&broker, directory.path()).await;
    assert_eq!(session.hello["sessionPubkey"], first, "the messages are its own");
    queue(&client, &ben, "four").await;
    for old in &sends[1..] {
        assert_eq!(session.expect("send").await["ciphertext"], old["ciphertext"]);
    }
    let four = session.expect("send").await;
    let restored = client.restored_sends();
    assert_eq!(
        restored.iter().map(|pending| pending.id()).collect::<Vec<_>>(),
        ids[1..]
    );
    assert!(client.restored_sends().is_empty());
    let error = json!({ "type": "error", "code": "refused", "message": "no", "id": ids[1] });
    session.send(error).await;
    session.accept_message(&sends[2]).await;
    session.accept_message(&four).await;
    let mut outcomes = Vec::new();
    for pending in restored {
        outcomes.push(timeout(LIMIT, pending).await.unwrap());
    }
    assert!(outcomes[0].is_err() && outcomes[1].is_ok(), "{outcomes:?}");
    let serve = async { while session.next().await.is_some() {} };
    tokio::join!(client.close(), serve);

    let (client, session) = connect(&broker, directory.path()).await;
    assert_ne!(session.hello["sessionPubkey"], first, "nothing is left to send");
    assert!(client.restored_sends().is_empty());
}

#[tokio::test]
async fn what_was_not_confirmed_comes_first_and_says_so() {
    let (broker, directory, ben) = (
        Broker::start().await,
        tempfile::tempdir().unwrap(),
        SecretKey::generate(),
    );
    let (client, mut session) = connect(&broker, directory.path()).await;
    for id in ["m1", "m2", "m3"] {
        session.push(id, &ben, id).await;
    }
    for id in ["m1", "m2"] {
        let message = recv(&client).await;
        assert_eq!((message.message_id.as_str(), message.redelivered()), (id, false));
        if id == "m1" {
            message.confirm();
        }
        session.acknowledged(id, "delivered").await;
    }
    assert_eq!(client.unconfirmed(), 1);
    drop((client, session));

    let (client, mut session) = connect(&broker, directory.path()).await;
    // The broker repeats what it does not know to be delivered, and what it may not know.
    for id in ["m1", "m2", "m3", "m4"] {
        session.push(id, &ben, id).await;
    }
    for (id, again) in [("m2", true), ("m3", false), ("m4", false)] {
        let message = recv(&client).await;
        assert_eq!((message.message_id.as_str(), message.redelivered()), (id, again));
        assert_eq!(message.text.as_deref(), Some(id));
        message.ack_read();
        client.confirm(&message.message_id);
    }
    for (id, stage) in [("m1", "delivered"), ("m2", "read"), ("m3", "read"), ("m4", "read")] {
        session.acknowledged(id, stage).await;
    }
    assert_eq!(client.unconfirmed(), 0);
}

#[tokio::test]
async fn acknowledgements_that_did_not_leave_are_told_after_a_restart() {
    let (broker, directory, ben) = (
        Broker::start().await,
        tempfile::tempdir().unwrap(),
        SecretKey::generate(),
    );
    let (client, mut session) = connect(&broker, directory.path()).await;
    session.push("m1", &ben, "hi").await;
    let message = recv(&client).await;
    // The connection is lost before anything can be told.
    drop(session);
    message.ack_surfaced("terminal");
    message.ack_read();
    message.confirm();
    drop((client, message));
    let (client, mut session) = connect(&broker, directory.path()).await;
    session.acknowledged("m1", "read").await;
    client.acknowledge(&"m1".into(), ClientStage::Read, None);
    session.push("m1", &ben, "hi").await;
    session.push("m2", &ben, "next").await;
    assert_eq!(recv(&client).await.message_id.as_str(), "m2");
}

#[tokio::test]
async fn only_so_many_are_given_out_without_being_confirmed() {
    let (broker, directory, ben) = (
        Broker::start().await,
        tempfile::tempdir().unwrap(),
        SecretKey::generate(),
    );
    let small = |builder: MeshClientBuilder| builder.inbox_capacity(2);
    let (client, mut session) = connect_with(&broker, directory.path(), small).await;
    let mut taken = Vec::new();
    for id in ["m1", "m2"] {
        session.push(id, &ben, id).await;
        taken.push(recv(&client).await);
    }
    session.push("m3", &ben, "m3").await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.recv().await.unwrap() }
    });
    sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    taken[1].confirm();
    assert_eq!(
        timeout(LIMIT, waiting).await.unwrap().unwrap().message_id.as_str(),
        "m3"
    );
}

#[tokio::test]
async fn a_directory_in_use_is_refused_and_given_free_by_close() {
    let (broker, directory) = (Broker::start().await, tempfile::tempdir().unwrap());
    let (client, mut session) = connect(&broker, directory.path()).await;
    let error = broker.builder().persistent(directory.path()).start().unwrap_err();
    assert!(error.to_string().contains("another running client"), "{error}");
    assert_eq!(error.code(), claudemesh_proto::ErrorCode::Conflict);
    let serve = async { while session.next().await.is_some() {} };
    tokio::join!(client.close(), serve);
    broker.builder().persistent(directory.path()).start().unwrap();
}
