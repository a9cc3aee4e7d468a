//! A session whose holder comes back before the broker noticed that it was gone.
#![allow(missing_docs)]

mod gateway_kit;

use claudemesh_crypto::SecretKey;
use gateway_kit::{Closed, Lab, Person, Socket};
use serde_json::json;

async fn send(sender: &mut Socket, to: &Person, number: usize) {
    let answer = sender
        .ask(json!({
            "type": "send", "id": format!("message-{number:026}"), "targetSpec": to.pubkey(), "priority": "now",
            "nonce": "", "ciphertext": "AAAA",
        }))
        .await;
    assert_ne!(answer["type"], "error", "{answer}");
}

async fn expect(receiver: &mut Socket, number: usize) {
    assert_eq!(
        receiver.next_message().await["messageId"],
        format!("message-{number:026}")
    );
}

#[tokio::test]
async fn who_comes_back_takes_the_place_of_its_old_session_and_gets_its_messages_in_order() {
    let lab = Lab::start().await;
    let bob = lab.join("bob", "member").await;
    let mut sender = lab.connect_v2(&lab.owner).await;
    let key = SecretKey::generate();
    let mut old = lab.connect_v2_of(&bob, &key).await;
    for number in 0..3 {
        send(&mut sender, &bob, number).await;
        expect(&mut old, number).await;
    }

    // The old socket is open still, and nothing was acknowledged.
    let mut new = lab.connect_v2_of(&bob, &key).await;
    send(&mut sender, &bob, 3).await;
    for number in 0..4 {
        expect(&mut new, number).await;
    }
    let gone = old.next_of("going_away").await;
    assert_eq!(gone["reason"], "replaced");
    let end = old.try_next().await.unwrap_err();
    assert_eq!(
        end,
        Closed {
            code: 1008,
            reason: "replaced".to_owned()
        }
    );
    let peers = sender.ask(json!({ "type": "list_peers" })).await;
    assert_eq!(peers["peers"].as_array().unwrap().len(), 2, "{peers}");
}

#[tokio::test]
async fn only_the_holder_of_the_session_key_takes_the_place() {
    let lab = Lab::start().await;
    let bob = lab.join("bob", "member").await;
    let mut sender = lab.connect_v2(&lab.owner).await;
    let key = SecretKey::generate();
    let mut first = lab.connect_v2_of(&bob, &key).await;
    // Another session of the same member, one that proves nothing, and one of another member with bob's session key.
    let _second = lab.connect_v2(&bob).await;
    let mut original = lab.socket().await;
    let mut hello = lab.hello_v1(&bob);
    hello["sessionPubkey"] = json!(key.public().to_string());
    original.send(&hello).await;
    assert_eq!(original.next().await["type"], "hello_ack");
    let _other = lab.connect_v2_of(&lab.owner, &key).await;

    assert_eq!(first.ask(json!({ "type": "list_peers" })).await["type"], "peers_list");
    let peers = sender.ask(json!({ "type": "list_peers" })).await;
    assert_eq!(peers["peers"].as_array().unwrap().len(), 5, "{peers}");
}
