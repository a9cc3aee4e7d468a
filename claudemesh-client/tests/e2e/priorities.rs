//! Messages wait for the right moment.

use super::kit::*;
use claudemesh_client::proto::model::{DeliveryStage, PeerStatus, Priority};

pub async fn direct_messages_wait_for_the_right_moment(database: Database) {
    gate(database, "ben").await;
}

pub async fn defect_069_sub_e_21_group_messages_wait_for_the_right_moment(database: Database) {
    gate(database, "*").await;
}

async fn gate(database: Database, target: &str) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    for busy in [PeerStatus::Working, PeerStatus::Dnd] {
        set_status(&ben, busy).await;
        let [low, next, now] = ["low", "next", "now"].map(|words| lab.text(words));
        let low_sent = ana.send_text(target, &low, Priority::Low).await.unwrap();
        let next_sent = ana.send_text(target, &next, Priority::Next).await.unwrap();
        ana.send_text(target, &now, Priority::Now).await.unwrap();
        assert_eq!(recv_text(&ben).await, now);
        expect_nothing(&lab, &ana, &ben).await;
        for sent in [&low_sent, &next_sent] {
            let line = line_of(&ana, &sent.message_id, &ben.key()).await;
            assert_eq!((line.status.as_str(), line.stage), ("held", Some(DeliveryStage::Accepted)));
        }
        set_status(&ben, PeerStatus::Idle).await;
        assert_eq!(recv_text(&ben).await, next);
        expect_nothing(&lab, &ana, &ben).await;

        // `low` comes only when it is asked for.
        let peeked = ben.pull(&[Priority::Low], true).await.unwrap();
        assert_eq!(peeked.messages.len(), 1);
        let checked = ben.check_messages().await.unwrap();
        let texts: Vec<_> = checked.messages.iter().map(|message| message.text.clone()).collect();
        assert_eq!(texts, [Some(low)]);
        wait_stage(&ana, &low_sent.message_id, &ben.key(), DeliveryStage::Read).await;
        assert!(ben.check_messages().await.unwrap().messages.is_empty());
    }
    // Asking gives everything, whatever the status.
    set_status(&ben, PeerStatus::Working).await;
    let texts = [lab.text("one"), lab.text("two")];
    ana.send_text(target, &texts[0], Priority::Next).await.unwrap();
    ana.send_text(target, &texts[1], Priority::Low).await.unwrap();
    let checked = ben.check_messages().await.unwrap();
    let mut came: Vec<_> = checked.messages.into_iter().filter_map(|message| message.text).collect();
    came.sort();
    assert_eq!(came, texts);
    set_status(&ben, PeerStatus::Idle).await;
    expect_nothing(&lab, &ana, &ben).await;
    lab.finish().await;
}

pub async fn defect_073_a_status_that_nobody_confirms_ends(database: Database) {
    let (lab, Three { ana, ben, cara }) =
        Lab::with_three_and(database, |config| config.status_ttl_ms = 1_000).await;
    set_status(&ben, PeerStatus::Working).await;
    set_status(&cara, PeerStatus::Dnd).await;
    let text = lab.text("when you have time");
    ana.send_text("*", &text, Priority::Next).await.unwrap();
    let message = tokio::time::timeout(SWEEP_LIMIT, ben.recv()).await.unwrap().unwrap();
    assert_eq!(message.text.as_ref(), Some(&text));
    let statuses = peers(&ana).await;
    let status = |key| statuses.iter().find(|peer| peer.member_pubkey.as_ref() == Some(&key)).unwrap().status;
    assert_eq!(status(ben.key()), PeerStatus::Idle);
    assert_eq!(status(cara.key()), PeerStatus::Dnd, "only cara ends that");
    expect_nothing(&lab, &ana, &cara).await;
    lab.finish().await;
}
