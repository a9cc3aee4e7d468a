//! Sessions that hide, and what does not come back to its sender.

use super::kit::*;
use super::original::{acknowledged, send};
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{DeliveryStage, GroupName, PeerStatus, Priority};
use claudemesh_client::proto::ops::{JoinGroup, MeshInfo, SetSummary, SetVisible};
use claudemesh_client::{ClientEvent, EventStream, MeshClient};
use claudemesh_crypto::encode_plain_text;
use serde_json::Value;

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
        let sent = ana
            .send_text("*", &lab.text("not for ben"), Priority::Now)
            .await
            .unwrap();
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
    for client in [&ana, &ben, &cara] {
        join_group(client, "team").await;
    }
    // An original client without a session key.
    let otto = lab.join_offline(&ana, "otto").await;
    let (mut socket, _) = Socket::v1(&lab, &otto, None).await;
    for target in ["*", "@all"] {
        acknowledged(&mut socket, &send(target, &encode_plain_text("from otto"), "now")).await;
        for client in [&ana, &ben, &cara] {
            assert_eq!(recv(client).await.text.as_deref(), Some("from otto"), "{target}");
        }
    }
    assert_eq!(socket.drained().await, Vec::<Value>::new());
    socket.close().await;

    let second = ana.person.connect().await;
    join_group(&second, "team").await;
    for (target, recipients) in [("*", 3), ("@all", 3), ("@team", 2)] {
        let text = lab.text("to the others");
        let sent = ana.send_text(target, &text, Priority::Now).await.unwrap();
        assert_eq!(sent.recipients, recipients, "{target}");
        for client in [&ben, &cara] {
            assert_eq!(recv_text(client).await, text, "once");
        }
    }
    // Neither to the session nor to another one of the same member.
    let text = lab.text("fence");
    for session in [&ana.client, &second] {
        let key = session.session_key().to_string();
        let sent = ben.send_text(&key, &text, Priority::Now).await.unwrap();
        assert_eq!(recv_text(session).await, text);
        wait_stage(&ben, &sent.message_id, &ana.key(), DeliveryStage::Delivered).await;
    }
    assert_eq!((ana.waiting(), second.waiting()), (0, 0));
    for seat in [&ben, &cara] {
        expect_nothing(&lab, &ana, seat).await;
    }
    lab.finish().await;
}

async fn join_group(client: &MeshClient, name: &str) {
    let name = GroupName::new(name);
    client.request(JoinGroup { name, role: None }).await.unwrap();
}

/// Everything that ana heard of this name up to the fence.
async fn heard_of(events: &mut EventStream, name: &str, fence: &str) -> Vec<String> {
    let mut heard = Vec::new();
    event(events, "the fence", |event| {
        match &event {
            ClientEvent::Message(message) if message.text.as_deref() == Some(fence) => return Some(()),
            ClientEvent::PeerJoined(peer)
            | ClientEvent::PeerReturned(peer)
            | ClientEvent::PeerLeft(peer)
            | ClientEvent::PeerVisible(peer)
            | ClientEvent::PeerHidden(peer)
                if peer.name == name =>
            {
                heard.push(format!("{event:?}"));
            }
            ClientEvent::System(push) if format!("{:?}", push.event_data).contains(name) => {
                heard.push(format!("{event:?}"));
            }
            _ => {}
        }
        None
    })
    .await;
    heard
}

pub async fn who_starts_hidden_is_never_announced(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    ben.client.close().await;
    // An observer sees the sessions of its own member.
    let observer = ben.person.observe().await;
    let present = async |count: usize| {
        eventually("the number of sessions", || async {
            (peers(&observer)
                .await
                .iter()
                .filter(|peer| peer.display_name == "ben")
                .count()
                == count)
                .then_some(())
        })
        .await;
    };
    present(0).await;
    let mut events = ana.events();
    let hidden = ben.person.builder().visible(false).connect().await.unwrap();
    join_group(&hidden, "secret/lair").await;
    set_status(&hidden, PeerStatus::Working).await;
    set_status(&hidden, PeerStatus::Idle).await;
    hidden
        .request(SetSummary {
            summary: "in hiding".to_owned(),
        })
        .await
        .unwrap();
    assert_eq!(peer_names(&ana).await, ["ana", "cara"]);
    assert!(ana.request(MeshInfo {}).await.unwrap().groups.is_empty());
    for target in ["@secret", "@secret/lair", "@secret/lai"] {
        let error = ana
            .send_text(target, &lab.text("anybody?"), Priority::Now)
            .await
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::NoSuchPeer, "{target}");
        assert!(error.suggestions().is_empty(), "{error:?}");
    }
    // A second hidden one comes and goes.
    let second = ben.person.builder().visible(false).connect().await.unwrap();
    present(2).await;
    for client in [second, hidden] {
        client.close().await;
    }
    present(0).await;
    let fence = lab.text("fence");
    cara.send_text("ana", &fence, Priority::Now).await.unwrap();
    assert_eq!(heard_of(&mut events, "ben", &fence).await, Vec::<String>::new());
    recv(&ana).await;
    // Away, it is still hidden.
    let sent = ana
        .send_text("*", &lab.text("not for ben"), Priority::Now)
        .await
        .unwrap();
    assert_eq!(sent.recipients, 1);
    let direct = lab.text("for ben");
    ana.send_text("ben", &direct, Priority::Now).await.unwrap();
    let back = ben.person.connect().await;
    assert_eq!(recv_text(&back).await, direct);
    assert_eq!(back.waiting(), 0);
    lab.finish().await;
}

pub async fn a_member_is_reached_through_what_it_shows(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let hidden = ben
        .person
        .builder()
        .display_name("ben-hidden")
        .visible(false)
        .connect()
        .await
        .unwrap();
    assert_eq!(peer_names(&ana).await, ["ana", "ben", "cara"]);
    assert_eq!(member(&ana, &ben.key()).await.session_count, 1);
    let mut texts = Vec::new();
    for number in 0..6 {
        // Also when only the hidden one is idle.
        if number == 3 {
            set_status(&ben, PeerStatus::Working).await;
        }
        let text = lab.text("to all");
        let sent = ana.send_text("*", &text, Priority::Next).await.unwrap();
        assert_eq!(sent.recipients, 2);
        recv(&cara).await;
        texts.push(text);
    }
    assert_eq!(recv_texts(&ben, 3).await, texts[..3]);
    // What is direct, from somebody whose messages do not wait, goes to the idle one meanwhile.
    let direct = lab.text("direct");
    cara.send_text("ben", &direct, Priority::Next).await.unwrap();
    assert_eq!(recv_text(&hidden).await, direct);
    assert_eq!(ben.waiting(), 0);
    set_status(&ben, PeerStatus::Idle).await;
    assert_eq!(recv_texts(&ben, 3).await, texts[3..]);
    assert_eq!(hidden.waiting(), 0);
    // With the hidden one alone nobody is reached.
    ben.client.close().await;
    eventually("the end of the shown session", || async {
        (peer_names(&ana).await == ["ana", "cara"]).then_some(())
    })
    .await;
    let sent = ana
        .send_text("*", &lab.text("not for ben"), Priority::Now)
        .await
        .unwrap();
    assert_eq!(sent.recipients, 1);
    let text = lab.text("direct again");
    ana.send_text("ben", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&hidden).await, text);
    lab.finish().await;
}

pub async fn a_sender_has_no_part_in_its_own_group_message(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let second = ana.person.connect().await;
    for client in [&ana.client, &second, &ben.client] {
        join_group(client, "team").await;
    }
    second.close().await;
    for target in ["@team", "@all", "*"] {
        let text = lab.text("to the others");
        let sent = ana.send_text(target, &text, Priority::Now).await.unwrap();
        let others = if target == "@team" { 1 } else { 2 };
        assert_eq!(sent.recipients, others);
        let status = status_of(&ana, &sent.message_id).await;
        assert_eq!(status.recipients.len(), others as usize);
        assert!(status.recipients.iter().all(|line| line.pubkey != ana.key()));
        assert_eq!(recv_text(&ben).await, text);
    }
    recv_texts(&cara, 2).await;
    // Alone in a group there is nobody to write to.
    join_group(&ana, "alone").await;
    let error = ana
        .send_text("@alone", &lab.text("echo"), Priority::Now)
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoSuchPeer);
    assert!(error.message().contains("nobody else is in @alone"), "{error:?}");
    // Neither does a session get it that was away, nor one that takes over.
    let second = ana.person.connect().await;
    ana.client.close().await;
    let text = lab.text("fence");
    ben.send_to(&ana.person.address(), &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&second).await, text);
    assert!(second.check_messages().await.unwrap().messages.is_empty());
    lab.finish().await;
}
