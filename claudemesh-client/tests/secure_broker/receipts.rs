//! Receipts that are false.

use crate::kit::{self, eventually, recv, recv_text};
use crate::proxy::{Way, remarks, stranger};
use crate::stage::{seat_key, stage};
use claudemesh_client::ClientEvent;
use claudemesh_client::proto::model::{DeliveryStage, Priority};
use serde_json::{Value, json};

fn receipt(id: &str, recipient: &str, stage: &str) -> Value {
    json!({
        "type": "receipt", "messageId": id, "recipient": recipient, "name": "somebody", "stage": stage,
        "at": "2026-01-01T00:00:00.000Z",
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_of_recipients_that_cannot_be_are_told() {
    let stage = stage().await;
    // That ben gets messages to all says nothing about those to ana.
    stage.vic.send_text("@all", "for both", Priority::Now).await.unwrap();
    assert_eq!(recv_text(&stage.ben).await, "for both");
    eventually("a receipt of ben", || async {
        let receipts = stage.vic.proxy.seen(Way::Down, "receipt");
        let by_ben =
            |receipt: &Value| receipt["recipient"] == json!(stage.ben.key()) && receipt["stage"] == "delivered";
        receipts.iter().any(by_ben).then_some(())
    })
    .await;
    let sent = stage.vic.send_text("ana", "for ana", Priority::Now).await.unwrap();
    stage
        .vic
        .proxy
        .inject(receipt(sent.message_id.as_str(), &seat_key(&stage.ben), "read"));
    stage.vic.told("it was sealed for another member").await;

    let ghost = stranger().public().to_string();
    let sent = stage.vic.send_text("@all", "for all", Priority::Now).await.unwrap();
    stage
        .vic
        .proxy
        .inject(receipt(sent.message_id.as_str(), &ghost, "accepted"));
    stage
        .vic
        .proxy
        .inject(receipt(sent.message_id.as_str(), &ghost, "delivered"));
    stage
        .vic
        .told("who is not on the signed list of this mesh's members")
        .await;

    // The same in the answer to a question.
    let other = stranger().public().to_string();
    let named = other.clone();
    stage.vic.proxy.edit("message_status_result", move |status| {
        let lines = status["recipients"].as_array_mut().unwrap();
        let mut line = lines[0].clone();
        line["pubkey"] = json!(named);
        line["stage"] = json!("read");
        lines.push(line);
    });
    kit::status_of(&stage.vic, &sent.message_id).await;
    stage.vic.told(&other[..8]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_that_contradict_each_other_are_told() {
    let stage = stage().await;
    let sent = stage.vic.send_text("ana", "for ana", Priority::Now).await.unwrap();
    let mut receipts = stage.vic.receipts(sent.message_id.clone());
    kit::within("the first receipt", receipts.next()).await.unwrap();
    let ana = seat_key(&stage.ana);
    stage.vic.proxy.inject(receipt(sent.message_id.as_str(), &ana, "read"));
    stage
        .vic
        .proxy
        .inject(receipt(sent.message_id.as_str(), &ana, "expired"));
    stage
        .vic
        .told("as read and now as expired: one of the two is false")
        .await;
}

/// Receipts are not signed: that somebody has read a message is what the broker says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undetectable_a_receipt_for_what_never_happened() {
    let stage = stage().await;
    let ana = seat_key(&stage.ana);
    stage.vic.send_text("ana", "first", Priority::Now).await.unwrap();
    assert_eq!(recv_text(&stage.ana).await, "first");
    stage.vic.proxy.rule(move |way, frame| {
        if way == Way::Up && frame["type"] == "send" {
            let id = frame["id"].as_str().unwrap();
            let ack = json!({ "type": "ack", "id": id, "messageId": id, "queued": true, "recipients": 1 });
            return vec![(Way::Down, ack), (Way::Down, receipt(id, &ana, "read"))];
        }
        vec![(way, frame)]
    });
    let mut events = stage.vic.events();
    stage
        .vic
        .send_text("ana", "never arrives", Priority::Now)
        .await
        .unwrap();
    kit::event(&mut events, "the false receipt", |event| match event {
        ClientEvent::Receipt(receipt) => (receipt.stage == DeliveryStage::Read).then_some(()),
        _ => None,
    })
    .await;
    assert!(stage.vic.heard().is_empty());
    stage.vic.proxy.be_honest();
    // The recipient is told with the next message of the same session, if there is one.
    stage.vic.send_text("ana", "arrives", Priority::Now).await.unwrap();
    let message = recv(&stage.ana).await;
    assert_eq!(message.text.as_deref(), Some("arrives"));
    remarks(
        &message,
        "1 message from vic was sent before this one and did not arrive here",
    );
}
