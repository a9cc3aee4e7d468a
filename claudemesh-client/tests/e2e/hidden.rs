//! Sessions that hide, and what does not come back to its sender.

use super::kit::*;
use claudemesh_client::ClientEvent;
use claudemesh_client::proto::model::{DeliveryStage, Priority};
use claudemesh_client::proto::ops::{MeshInfo, SetVisible};

pub async fn a_hidden_session_is_not_seen_and_gets_direct_messages_only(database: Database) {
    let (mut lab, Three { ana, mut ben, cara }) = Lab::with_three(database).await;
    let mut events = ana.events();
    ben.request(SetVisible { visible: false }).await.unwrap();
    let key = event(&mut events, "the news", |event| match event {
        ClientEvent::PeerHidden(peer) => Some(peer.pubkey),
        _ => None,
    });
    assert_eq!(key.await.0, ben.session_key().to_string());
    for round in 0..3 {
        assert_eq!(peer_names(&ana).await, ["ana", "cara"], "round {round}");
        assert_eq!(peer_names(&ben).await, ["ana", "ben", "cara"]);
        assert!(!member(&ana, &ben.key()).await.online);
        assert_eq!(ana.request(MeshInfo {}).await.unwrap().peers, 2);
        let sent = ana.send_text("*", &lab.text("not for ben"), Priority::Now).await.unwrap();
        assert_eq!(sent.recipients, 1);
        recv(&cara).await;
        expect_nothing(&lab, &ana, &ben).await;
        // It stays hidden in a fresh process, and after a restart of the broker.
        match round {
            0 => ben.restart().await,
            1 => lab.restart().await,
            _ => {}
        }
        within("the connection", ana.request(MeshInfo {})).await.unwrap();
        within("the connection", ben.request(MeshInfo {})).await.unwrap();
        eventually("everybody's return", || async {
            (peer_names(&ben).await == ["ana", "ben", "cara"]).then_some(())
        })
        .await;
    }
    // Nobody hears of its coming and going.
    ben.client.close().await;
    let text = lab.text("fence");
    cara.send_text("ana", &text, Priority::Now).await.unwrap();
    let leaked = event(&mut events, "the fence", |event| match event {
        ClientEvent::PeerJoined(peer)
        | ClientEvent::PeerReturned(peer)
        | ClientEvent::PeerLeft(peer)
        | ClientEvent::PeerHidden(peer)
            if peer.name == "ben" =>
        {
            Some(Some(peer))
        }
        ClientEvent::Message(message) if message.text.as_ref() == Some(&text) => Some(None),
        _ => None,
    });
    assert_eq!(leaked.await, None);
    recv(&ana).await;

    ben.client = ben.person.connect().await;
    ben.request(SetVisible { visible: true }).await.unwrap();
    let shown = event(&mut events, "the news", |event| match event {
        ClientEvent::PeerVisible(peer) => Some(peer.name),
        _ => None,
    });
    assert_eq!(shown.await, "ben");
    assert_eq!(peer_names(&ana).await, ["ana", "ben", "cara"]);
    let text = lab.text("for ben again");
    ana.send_text("*", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ben).await, text, "and nothing of before");
    lab.finish().await;
}

pub async fn defect_070_077_nothing_comes_back_to_its_sender(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let second = ana.person.connect().await;
    let sent = ana.send_text("*", &lab.text("to the others"), Priority::Now).await.unwrap();
    assert_eq!(sent.recipients, 2);
    recv(&ben).await;
    recv(&cara).await;
    // Neither to the session nor to another one of the same member.
    let text = lab.text("fence");
    for session in [ana.session_key(), second.session_key()] {
        let sent = ben.send_text(&session.to_string(), &text, Priority::Now).await.unwrap();
        wait_stage(&ben, &sent.message_id, &ana.key(), DeliveryStage::Delivered).await;
    }
    assert_eq!(recv_text(&ana).await, text);
    assert_eq!(recv_text(&second).await, text);
    assert_eq!((ana.waiting(), second.waiting()), (0, 0));
    lab.finish().await;
}
