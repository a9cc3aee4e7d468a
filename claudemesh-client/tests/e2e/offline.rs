//! Messages to who is not there.

use super::kit::*;
use claudemesh_client::proto::model::{DeliveryStage, Priority};
use claudemesh_client::proto::ops::{CountWaiting, JoinGroup, SendEnvelope};
use claudemesh_client::{MeshClient, Resolved};
use claudemesh_crypto::random_id;

async fn join_group(client: &MeshClient, name: &str) {
    let request = JoinGroup {
        name: claudemesh_client::proto::model::GroupName::new(name),
        role: None,
    };
    client.request(request).await.unwrap();
}

/// A message that ends after a second.
fn short_lived(lab: &Lab, from: &MeshClient, to: &Person, priority: Priority) -> SendEnvelope {
    let Resolved::Direct { key, .. } = to.address() else {
        unreachable!("a member")
    };
    let text = lab.text("soon over");
    let sealed = from
        .secure()
        .seal_direct(&key, None, text.as_bytes(), &random_id(), priority, None);
    let mut envelope = sealed.unwrap();
    envelope.ttl_ms = Some(1_000);
    envelope
}

pub async fn defect_057_sub_e_20_cli_18_who_was_offline_gets_direct_group_and_broadcast_messages(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    join_group(&cara, "backend/db").await;
    join_group(&ben, "frontend").await;
    // Whoever has never connected is reached as well.
    let dan = lab.join_offline(&ana, "dan").await;
    cara.client.close().await;
    eventually("the end of cara's session", || async {
        (peer_names(&ana).await == ["ana", "ben"]).then_some(())
    })
    .await;

    let texts: Vec<String> = ["direct", "to the group", "to the group above", "to all", "to everybody"]
        .map(|words| lab.text(words))
        .into();
    let targets = ["cara", "@backend/db", "@backend", "@all", "*"];
    let mut sent = Vec::new();
    for (target, text) in targets.iter().zip(&texts) {
        sent.push(ana.send_text(target, text, Priority::Next).await.unwrap());
    }
    let recipients: Vec<_> = sent.iter().map(|sent| sent.recipients).collect();
    assert_eq!(recipients, [1, 1, 1, 3, 3], "cara; cara; cara; ben, cara, dan; the same");
    for sent in &sent {
        let line = line_of(&ana, &sent.message_id, &cara.key()).await;
        assert_eq!(
            (line.status.as_str(), line.stage),
            ("disconnected", Some(DeliveryStage::Accepted))
        );
    }
    assert_eq!(
        recv_texts(&ben, 2).await,
        texts[3..],
        "and nothing for a group that ben is not in"
    );
    lab.restart().await;

    let back = cara.person.connect().await;
    assert_eq!(recv_texts(&back, 5).await, texts);
    for sent in &sent {
        wait_stage(&ana, &sent.message_id, &cara.key(), DeliveryStage::Delivered).await;
    }
    let dan = dan.connect().await;
    assert_eq!(recv_texts(&dan, 2).await, texts[3..]);
    expect_nothing(&lab, &ana, &ben).await;
    lab.finish().await;
}

pub async fn what_waited_comes_in_order(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    ben.client.close().await;
    // More than one read of the store.
    let count = 300;
    let mut acks = Vec::new();
    let mut texts = Vec::new();
    for number in 0..count {
        let text = lab.text("queued");
        let sent = ana.queue_to(&ben.person.address(), &text, Priority::Next).await.unwrap();
        acks.push(sent);
        texts.push(text);
        if number % 100 == 0 {
            cara.send_text("ben", &lab.text("in between"), Priority::Next)
                .await
                .unwrap();
        }
    }
    for ack in acks {
        within("an acknowledgement", ack).await.unwrap();
    }
    let back = ben.person.connect().await;
    let mut from_ana = Vec::new();
    let mut from_cara = 0;
    while from_ana.len() < count || from_cara < 3 {
        let message = recv(&back).await;
        match message.from.as_str() {
            "ana" => from_ana.push(message.text.clone().unwrap()),
            _ => from_cara += 1,
        }
    }
    assert_eq!(from_ana, texts);
    assert_eq!(back.waiting(), 0);
    lab.finish().await;
}

pub async fn what_waits_too_long_ends_as_expired(database: Database) {
    let (lab, Three { ana, mut ben, .. }) = Lab::with_three(database).await;
    ben.client.close().await;
    let sent = ana
        .send_sealed(short_lived(&lab, &ana, &ben.person, Priority::Now))
        .await
        .unwrap();
    let receipts = all_receipts(&ana, &sent.message_id).await;
    let stages: Vec<_> = receipts.iter().map(|(_, stage, _)| *stage).collect();
    assert_eq!(stages, [DeliveryStage::Accepted, DeliveryStage::Expired]);
    let line = line_of(&ana, &sent.message_id, &ben.key()).await;
    assert_eq!(line.status, "expired");
    assert!(line.reason.is_some() && line.delivered_at.is_none(), "{line:?}");
    assert!(!status_of(&ana, &sent.message_id).await.delivered);
    ben.client = ben.person.connect().await;
    expect_nothing(&lab, &ana, &ben).await;
    lab.finish().await;
}

pub async fn what_is_held_too_long_ends_as_expired(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let sent = ana
        .send_sealed(short_lived(&lab, &ana, &ben.person, Priority::Low))
        .await
        .unwrap();
    let receipts = all_receipts(&ana, &sent.message_id).await;
    assert_eq!(receipts.last().map(|receipt| receipt.1), Some(DeliveryStage::Expired));
    assert!(ben.pull(&[], false).await.unwrap().messages.is_empty());
    lab.finish().await;
}

pub async fn what_waits_can_be_counted_without_being_taken(database: Database) {
    let (lab, Three { ana, mut ben, .. }) = Lab::with_three(database).await;
    ben.client.close().await;
    for (text, priority) in [("one", Priority::Now), ("two", Priority::Low), ("three", Priority::Low)] {
        ana.send_to(&ben.person.address(), &lab.text(text), priority).await.unwrap();
    }
    let observer = ben.person.observe().await;
    let waiting = observer.count_waiting(CountWaiting {}).await.unwrap().waiting;
    assert_eq!((waiting.now, waiting.next, waiting.low), (1, 0, 2));
    observer.close().await;
    ben.client = ben.person.connect().await;
    assert!(recv_text(&ben).await.starts_with("one"), "counting takes nothing");
    lab.finish().await;
}
