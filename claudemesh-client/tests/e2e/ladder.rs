//! How far a message has come, and who may know.

use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{DeliveryStage, Priority, Timestamp};
use claudemesh_client::proto::ops::MessageStatus;
use claudemesh_client::proto::tools::MessageKind;

pub async fn a_message_goes_from_accepted_to_read(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let text = lab.text("hello ben");
    let sent = ana.send_text("ben", &text, Priority::Next).await.unwrap();
    assert_eq!(
        (sent.to.as_str(), sent.recipients, sent.refused, sent.duplicate),
        ("ben", 1, 0, false)
    );
    let message = recv(&ben).await;
    assert_eq!(message.text.as_ref(), Some(&text));
    assert_eq!(message.message_id, sent.message_id);
    assert_eq!((message.from.as_str(), message.kind), ("ana", MessageKind::Direct));
    assert_eq!(message.from_pubkey, Some(ana.key()));
    assert!(
        message.authenticated && message.warnings.is_empty(),
        "{:?}",
        message.warnings
    );
    wait_stage(&ana, &sent.message_id, &ben.key(), DeliveryStage::Delivered).await;
    message.ack_surfaced("channel");
    wait_stage(&ana, &sent.message_id, &ben.key(), DeliveryStage::Surfaced).await;
    message.ack_read();
    let receipts = all_receipts(&ana, &sent.message_id).await;
    let stages: Vec<_> = receipts.iter().map(|(_, stage, _)| *stage).collect();
    let whole = [
        DeliveryStage::Accepted,
        DeliveryStage::Delivered,
        DeliveryStage::Surfaced,
        DeliveryStage::Read,
    ];
    assert_eq!(stages, whole);
    assert!(receipts.iter().all(|(recipient, ..)| *recipient == ben.key()));
    assert_eq!(receipts[2].2.as_deref(), Some("channel"));

    let status = status_of(&ana, &sent.message_id).await;
    assert!(status.delivered);
    assert_eq!(status.target_spec, ben.key().0);
    let [line] = status.recipients.as_slice() else {
        panic!("{status:?}")
    };
    assert_eq!((line.name.as_str(), line.status.as_str()), ("ben", "delivered"));
    assert_eq!(line.adapter.as_deref(), Some("channel"));
    let times: Vec<Option<Timestamp>> =
        vec![status.accepted_at, line.delivered_at, line.surfaced_at, line.read_at];
    assert!(times.iter().all(Option::is_some) && times.is_sorted(), "{times:?}");
    assert_eq!(status.delivered_at, line.delivered_at);

    // A stage that was passed is not taken back.
    message.ack_surfaced("terminal");
    let answer = lab.text("hello ana");
    ben.reply(&message, &answer, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ana).await, answer);
    let line = line_of(&ana, &sent.message_id, &ben.key()).await;
    assert_eq!(
        (line.stage, line.adapter.as_deref()),
        (Some(DeliveryStage::Read), Some("channel"))
    );
    lab.finish().await;
}

pub async fn defect_074_everybody_has_a_line_of_their_own(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let text = lab.text("hello everybody");
    let sent = ana.send_text("*", &text, Priority::Next).await.unwrap();
    assert_eq!(sent.recipients, 2);
    let to_ben = recv(&ben).await;
    let to_cara = recv(&cara).await;
    for message in [&to_ben, &to_cara] {
        assert_eq!(message.text.as_ref(), Some(&text));
        assert_eq!(
            (message.kind, message.target.as_deref()),
            (MessageKind::Broadcast, Some("*"))
        );
        assert!(message.authenticated);
    }
    to_ben.ack_read();
    wait_stage(&ana, &sent.message_id, &ben.key(), DeliveryStage::Read).await;
    wait_stage(&ana, &sent.message_id, &cara.key(), DeliveryStage::Delivered).await;
    assert!(status_of(&ana, &sent.message_id).await.delivered);
    // A recipient sees its own line only.
    let seen = status_of(&ben, &sent.message_id).await;
    assert_eq!(seen.recipients.len(), 1);
    assert_eq!(seen.recipients[0].pubkey, ben.key());
    to_cara.ack_surfaced("terminal");
    to_cara.ack_read();
    let receipts = all_receipts(&ana, &sent.message_id).await;
    for key in [ben.key(), cara.key()] {
        let mut stages = receipts.iter().filter(|receipt| receipt.0 == key).map(|receipt| receipt.1);
        assert_eq!(stages.next(), Some(DeliveryStage::Accepted));
        assert_eq!(stages.next_back(), Some(DeliveryStage::Read));
    }
    lab.finish().await;
}

pub async fn defect_074_only_sender_and_recipients_may_ask(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let sent = ana.send_text("ben", &lab.text("secret"), Priority::Next).await.unwrap();
    let ask = || MessageStatus {
        message_id: sent.message_id.clone(),
    };
    assert_eq!(ben.request(ask()).await.unwrap().recipients.len(), 1);
    let (code, field) = refusal(cara.request(ask()).await);
    assert_eq!((code, field.as_deref()), (ErrorCode::NotFound, Some("/messageId")));
    // The same answer as for a message that does not exist, and the same to somebody of another mesh.
    let nothing = MessageStatus {
        message_id: "A".repeat(32).as_str().into(),
    };
    assert_eq!(refusal(cara.request(nothing).await), refusal(cara.request(ask()).await));
    let olga = lab.mesh("Other", "olga").await;
    assert_eq!(code_of_status(&olga, ask()).await, ErrorCode::NotFound);
    // Another session of the sender may.
    let second = ana.person.connect().await;
    assert_eq!(second.request(ask()).await.unwrap().recipients.len(), 1);
    lab.finish().await;
}

async fn code_of_status(client: &claudemesh_client::MeshClient, ask: MessageStatus) -> ErrorCode {
    code(client.request(ask).await)
}
