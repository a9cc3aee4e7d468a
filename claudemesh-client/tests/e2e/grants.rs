//! What members let each other do.

use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{Capability, DeliveryStage, GroupName, KeyHex, PeerStatus, Priority};
use claudemesh_client::proto::ops::{
    GetGrants, GetState, JoinGroup, MeshInfo, MessageStatus, SetGrants, SetState, SetSummary, SetVisible,
};
use claudemesh_client::{ClientEvent, MeshClient};
use claudemesh_crypto::SecretKey;
use serde_json::json;
use std::collections::BTreeMap;

async fn grant(client: &MeshClient, to: KeyHex, capabilities: Option<Vec<Capability>>) {
    let grants = [(to, capabilities)].into();
    client.request(SetGrants { grants }).await.unwrap();
}

pub async fn defect_059_cli_41_who_is_blocked_is_told_at_once(database: Database) {
    let (mut lab, Three { mut ana, ben, cara }) = Lab::with_three(database).await;
    grant(&ben, ana.key(), Some(Vec::new())).await;
    for round in 0..3 {
        let (code, field) = refusal(ana.send_text("ben", &lab.text("refused"), Priority::Now).await);
        assert_eq!(
            (code, field.as_deref()),
            (ErrorCode::Refused, Some("/targetSpec")),
            "{round}"
        );
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
        let sent = ben.send_text("ana", &text, Priority::Now).await.unwrap();
        assert_eq!(recv_text(&ana).await, text);
        wait_stage(&ben, &sent.message_id, &ana.key(), DeliveryStage::Delivered).await;
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
    assert_eq!(
        code(ana.send_text("ben", &lab.text("no"), Priority::Now).await),
        ErrorCode::Refused
    );
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
    let get = || GetState {
        key: "of ben".to_owned(),
    };
    assert!(!ana.request(get()).await.unwrap().exists);
    assert!(cara.request(get()).await.unwrap().exists);

    grant(
        &ben,
        ana.key(),
        Some(vec![Capability::Dm, Capability::Read, Capability::StateRead]),
    )
    .await;
    let text = lab.text("direct");
    ana.send_text("ben", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ben).await, text);
    let sent = ana.send_text("*", &lab.text("to all"), Priority::Now).await.unwrap();
    assert_eq!((sent.recipients, sent.refused), (1, 1));
    assert_eq!(peer_names(&ana).await, ["ana", "ben", "cara"]);
    assert!(ana.request(get()).await.unwrap().exists);
    lab.finish().await;
}

pub async fn a_block_outlasts_whatever_was_on_its_way(database: Database) {
    let (mut lab, Three { ana, mut ben, cara }) = Lab::with_three(database).await;
    let group = JoinGroup {
        name: GroupName::new("team"),
        role: None,
    };
    ben.request(group).await.unwrap();
    ben.client.close().await;
    let mut waiting = Vec::new();
    for target in ["ben", "@team", "*"] {
        for priority in Priority::ALL {
            waiting.push(ana.send_text(target, &lab.text("waits"), priority).await.unwrap());
        }
    }
    // A session has them without having said so.
    let mut dying = Socket::v2(&lab, &ben.person, &SecretKey::generate()).await;
    let first = dying.next_message().await["messageId"].clone();
    let observer = ben.person.observe().await;
    grant(&observer, ana.key(), Some(Vec::new())).await;
    drop(dying);
    eventually("the end of the session", || async {
        (!member(&cara, &ben.key()).await.online).then_some(())
    })
    .await;
    lab.restart().await;
    within("the connection", observer.request(GetGrants {})).await.unwrap();
    assert!(
        observer.pull(&[], true).await.unwrap().messages.is_empty(),
        "{first} and the others"
    );
    assert!(observer.pull(&[], false).await.unwrap().messages.is_empty());
    ben.client = ben.person.connect().await;
    within("the connection", cara.request(GetGrants {})).await.unwrap();
    expect_nothing(&lab, &cara, &ben).await;
    assert!(ben.check_messages().await.unwrap().messages.is_empty());
    for sent in &waiting {
        wait_stage(&ana, &sent.message_id, &ben.key(), DeliveryStage::Refused).await;
        let line = line_of(&ana, &sent.message_id, &ben.key()).await;
        assert!(line.delivered_at.is_none() && line.reason.is_some(), "{line:?}");
    }
    // What has ended stays so when the block is lifted.
    grant(&ben, ana.key(), None).await;
    expect_nothing(&lab, &ana, &ben).await;
    ben.restart().await;
    expect_nothing(&lab, &ana, &ben).await;
    lab.finish().await;
}

pub async fn changes_of_two_sessions_add_up(database: Database) {
    let (mut lab, Three { ben, .. }) = Lab::with_three(database).await;
    let second = ben.person.connect().await;
    let keys: Vec<KeyHex> = (0..40)
        .map(|_| KeyHex(SecretKey::generate().public().to_string()))
        .collect();
    for pair in keys.chunks(2) {
        let (first, second) = tokio::join!(
            ben.request(SetGrants {
                grants: [(pair[0].clone(), Some(Vec::new()))].into(),
            }),
            second.request(SetGrants {
                grants: [(pair[1].clone(), Some(vec![Capability::Read]))].into(),
            }),
        );
        assert!(first.unwrap().grants.contains_key(&pair[0]));
        assert!(second.unwrap().grants.contains_key(&pair[1]));
    }
    let expected: BTreeMap<KeyHex, Vec<Capability>> = keys
        .chunks(2)
        .flat_map(|pair| [(pair[0].clone(), Vec::new()), (pair[1].clone(), vec![Capability::Read])])
        .collect();
    assert_eq!(ben.request(GetGrants {}).await.unwrap().grants, expected);
    lab.restart().await;
    assert_eq!(ben.request(GetGrants {}).await.unwrap().grants, expected, "and on disk");
    lab.finish().await;
}

pub async fn a_message_that_nobody_takes_ends_at_once(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    for seat in [&ben, &cara] {
        grant(seat, ana.key(), Some(Vec::new())).await;
    }
    let sent = ana
        .send_text("*", &lab.text("to deaf ears"), Priority::Now)
        .await
        .unwrap();
    assert_eq!((sent.recipients, sent.refused), (0, 2));
    let status = status_of(&ana, &sent.message_id).await;
    assert!(!status.delivered);
    assert!(
        status.recipients.iter().all(|line| line.status == "refused"),
        "{status:?}"
    );
    assert_eq!(status.recipients.len(), 2);
    let receipts = all_receipts(&ana, &sent.message_id).await;
    assert_eq!(
        receipts
            .iter()
            .filter(|receipt| receipt.1 == DeliveryStage::Refused)
            .count(),
        2
    );
    for seat in [&ben, &cara] {
        let seen = seat.request(MessageStatus {
            message_id: sent.message_id.clone(),
        });
        assert_eq!(seen.await.unwrap().recipients.len(), 1);
    }
    // Neither a key in capitals nor a word that is no capability is taken for something else.
    let frame = |key: &str, capability: &str| json!({ "type": "set_grants", "grants": { key: [capability] } });
    let mut socket = Socket::v2(&lab, &ben.person, &SecretKey::generate()).await;
    for (key, capability) in [
        (ana.key().0.to_uppercase(), "dm"),
        (ana.key().0, "everything"),
        ("ana".to_owned(), "dm"),
    ] {
        let (reply, _) = socket.ask(frame(&key, capability)).await;
        assert_eq!(
            (&reply["type"], &reply["code"]),
            (&json!("error"), &json!("invalid_request")),
            "{reply}"
        );
    }
    assert_eq!(
        ben.request(GetGrants {}).await.unwrap().grants,
        [(ana.key(), Vec::new())].into()
    );
    lab.finish().await;
}

pub async fn who_may_not_read_sees_nobody(database: Database) {
    let (lab, Three { ana, mut ben, cara }) = Lab::with_three(database).await;
    let mut events = ana.events();
    grant(&ben, ana.key(), Some(vec![Capability::Dm, Capability::Broadcast])).await;
    ben.request(SetSummary {
        summary: "not for ana".to_owned(),
    })
    .await
    .unwrap();
    for visible in [false, true] {
        ben.request(SetVisible { visible }).await.unwrap();
    }
    ben.restart().await;
    assert_eq!(peer_names(&cara).await, ["ana", "ben", "cara"]);
    assert_eq!(peer_names(&ana).await, ["ana", "cara"]);
    let seen = member(&ana, &ben.key()).await;
    assert!(
        !seen.online && seen.last_seen_at.is_none() && seen.groups.is_empty(),
        "{seen:?}"
    );
    assert_eq!(ana.request(MeshInfo {}).await.unwrap().peers, 2);
    let fence = lab.text("fence");
    cara.send_text("ana", &fence, Priority::Now).await.unwrap();
    let heard = event(&mut events, "the fence", |event| match event {
        ClientEvent::PeerJoined(peer)
        | ClientEvent::PeerReturned(peer)
        | ClientEvent::PeerLeft(peer)
        | ClientEvent::PeerVisible(peer)
        | ClientEvent::PeerHidden(peer)
            if peer.name == "ben" =>
        {
            Some(Some(peer))
        }
        ClientEvent::Message(message) if message.text.as_ref() == Some(&fence) => Some(None),
        _ => None,
    });
    assert_eq!(heard.await, None);
    recv(&ana).await;
    // Writing to ben goes on: by name and to everybody.
    let texts = [lab.text("by name"), lab.text("to all")];
    ana.send_text("ben", &texts[0], Priority::Now).await.unwrap();
    assert_eq!(
        ana.send_text("*", &texts[1], Priority::Now).await.unwrap().recipients,
        2
    );
    assert_eq!(recv_texts(&ben, 2).await, texts);
    lab.finish().await;
}
