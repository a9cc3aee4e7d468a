//! What members let each other do.

use super::kit::*;
use claudemesh_client::MeshClient;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{Capability, DeliveryStage, KeyHex, PeerStatus, Priority};
use claudemesh_client::proto::ops::{GetGrants, GetState, SetGrants, SetState};
use serde_json::json;

async fn grant(client: &MeshClient, to: KeyHex, capabilities: Option<Vec<Capability>>) {
    let grants = [(to, capabilities)].into();
    client.request(SetGrants { grants }).await.unwrap();
}

pub async fn who_is_blocked_is_told_at_once(database: Database) {
    let (mut lab, Three { mut ana, ben, cara }) = Lab::with_three(database).await;
    grant(&ben, ana.key(), Some(Vec::new())).await;
    for round in 0..3 {
        let (code, field) = refusal(ana.send_text("ben", &lab.text("refused"), Priority::Now).await);
        assert_eq!((code, field.as_deref()), (ErrorCode::Refused, Some("/targetSpec")), "{round}");
        let session = ben.session_key().to_string();
        assert_eq!(
            crate::e2e::kit::code(ana.send_text(&session, &lab.text("refused"), Priority::Now).await),
            ErrorCode::Refused
        );
        let text = lab.text("to everybody but ben");
        let sent = ana.send_text("*", &text, Priority::Now).await.unwrap();
        assert_eq!((sent.recipients, sent.refused), (1, 1));
        assert_eq!(recv_text(&cara).await, text);
        let receipts = all_receipts_of(&ana, &sent.message_id, &ben.key()).await;
        assert_eq!(receipts.last(), Some(&DeliveryStage::Refused));
        let line = line_of(&ana, &sent.message_id, &ben.key()).await;
        assert!(line.status == "refused" && line.reason.is_some(), "{line:?}");
        expect_nothing(&lab, &cara, &ben).await;
        // Nobody else is blocked, and ben can write to ana.
        let text = lab.text("from ben");
        ben.send_text("ana", &text, Priority::Now).await.unwrap();
        assert_eq!(recv_text(&ana).await, text);
        match round {
            // The block is on the member, not on its session, and is on disk.
            0 => ana.restart().await,
            1 => {
                lab.restart().await;
                ana.restart().await;
                within("the connection", ben.request(GetGrants {})).await.unwrap();
                within("the connection", cara.request(GetGrants {})).await.unwrap();
            }
            _ => {}
        }
    }
    let grants = ben.request(GetGrants {}).await.unwrap().grants;
    assert_eq!(grants, [(ana.key(), Vec::new())].into());
    grant(&ben, ana.key(), None).await;
    let text = lab.text("again");
    ana.send_text("ben", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ben).await, text);
    lab.finish().await;
}

async fn all_receipts_of(
    client: &MeshClient,
    id: &claudemesh_client::proto::model::MessageId,
    recipient: &KeyHex,
) -> Vec<DeliveryStage> {
    let mut stream = client.receipts(id.clone());
    let mut stages: Vec<DeliveryStage> = Vec::new();
    while !stages.last().is_some_and(|stage| stage.is_final()) {
        let receipt = within("a receipt", stream.next()).await.expect("another receipt");
        if receipt.recipient == *recipient {
            stages.push(receipt.stage);
        }
    }
    stages
}

pub async fn defect_058_sub_e_06_what_waits_when_the_block_comes_is_not_delivered(database: Database) {
    let (lab, Three { ana, mut ben, cara }) = Lab::with_three(database).await;
    // Held by a session that is busy.
    set_status(&ben, PeerStatus::Working).await;
    let direct = ana.send_text("ben", &lab.text("held"), Priority::Next).await.unwrap();
    let to_all = ana.send_text("*", &lab.text("held"), Priority::Next).await.unwrap();
    recv(&cara).await;
    grant(&ben, ana.key(), Some(Vec::new())).await;
    set_status(&ben, PeerStatus::Idle).await;
    expect_nothing(&lab, &cara, &ben).await;
    for sent in [&direct, &to_all] {
        assert_eq!(
            all_receipts_of(&ana, &sent.message_id, &ben.key()).await.last(),
            Some(&DeliveryStage::Refused)
        );
    }
    grant(&ben, ana.key(), None).await;

    // Waiting for somebody who is away.
    ben.client.close().await;
    let direct = ana.send_text("ben", &lab.text("waits"), Priority::Now).await.unwrap();
    let to_all = ana.send_text("*", &lab.text("waits"), Priority::Now).await.unwrap();
    recv(&cara).await;
    let observer = ben.person.observe().await;
    grant(&observer, ana.key(), Some(vec![Capability::Read])).await;
    ben.client = ben.person.connect().await;
    expect_nothing(&lab, &cara, &ben).await;
    for sent in [&direct, &to_all] {
        wait_stage(&ana, &sent.message_id, &ben.key(), DeliveryStage::Refused).await;
    }
    lab.finish().await;
}

pub async fn defect_060_capabilities_are_apart(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    grant(&ben, ana.key(), Some(vec![Capability::Broadcast])).await;
    assert_eq!(code(ana.send_text("ben", &lab.text("no"), Priority::Now).await), ErrorCode::Refused);
    let text = lab.text("to all");
    ana.send_text("*", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ben).await, text);
    recv(&cara).await;
    // Without `read` ben is not seen, without `state-read` neither is what ben writes.
    assert_eq!(peer_names(&ana).await, ["ana", "cara"]);
    assert_eq!(peer_names(&cara).await, ["ana", "ben", "cara"]);
    let set = SetState {
        key: "of ben".to_owned(),
        value: json!(1),
    };
    ben.request(set).await.unwrap();
    let get = || GetState { key: "of ben".to_owned() };
    assert!(!ana.request(get()).await.unwrap().exists);
    assert!(cara.request(get()).await.unwrap().exists);

    grant(&ben, ana.key(), Some(vec![Capability::Dm, Capability::Read, Capability::StateRead])).await;
    let text = lab.text("direct");
    ana.send_text("ben", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ben).await, text);
    let sent = ana.send_text("*", &lab.text("to all"), Priority::Now).await.unwrap();
    assert_eq!((sent.recipients, sent.refused), (1, 1));
    assert_eq!(peer_names(&ana).await, ["ana", "ben", "cara"]);
    assert!(ana.request(get()).await.unwrap().exists);
    lab.finish().await;
}
