//! Several sessions of one member, and sessions that only look.

use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{DeliveryStage, PeerStatus, Priority};
use claudemesh_client::proto::ops::{SetStatus, SetSummary, SetVisible};
use claudemesh_client::{Resolved, Sent};
use claudemesh_crypto::SecretKey;
use serde_json::json;
use std::collections::BTreeSet;

pub async fn each_message_goes_to_one_session(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let second = ben.person.connect().await;
    let mut texts = BTreeSet::new();
    for number in 0..40 {
        let text = lab.text("for one of two");
        // Now and then another one is the idle one.
        match number {
            10 => set_status(&ben, PeerStatus::Working).await,
            20 => set_status(&second, PeerStatus::Working).await,
            _ => {}
        }
        let (target, priority) = match number % 3 {
            0 => ("ben", Priority::Now),
            1 => ("*", Priority::Now),
            _ => ("ben", Priority::Next),
        };
        ana.send_text(target, &text, priority).await.unwrap();
        texts.insert(text);
    }
    set_status(&ben, PeerStatus::Idle).await;
    let mut came = Vec::new();
    let mut by_second = 0;
    while came.len() < texts.len() {
        let message = within("a message", async {
            tokio::select! {
                message = ben.recv() => message,
                message = second.recv() => { by_second += 1; message }
            }
        });
        came.push(message.await.unwrap().text.clone().unwrap());
    }
    assert!(by_second > 0, "the idle one gets them while the other one works");
    assert_eq!(came.len(), texts.len());
    assert_eq!(came.into_iter().collect::<BTreeSet<_>>(), texts);
    expect_nothing_on_either(&lab, &ana, &ben, &second).await;
    lab.finish().await;
}

async fn expect_nothing_on_either(lab: &Lab, from: &Seat, first: &Seat, second: &claudemesh_client::MeshClient) {
    for session in [first.session_key(), second.session_key()] {
        let fence = lab.text("fence");
        let to = Resolved::Direct {
            key: first.person.identity.public(),
            session: Some(session),
            name: String::new(),
        };
        let sent = from.send_to(&to, &fence, Priority::Now).await.unwrap();
        let hinted = if session == second.session_key() {
            second
        } else {
            &first.client
        };
        assert_eq!(recv_text(hinted).await, fence);
        // The next one may go elsewhere only when this one is acknowledged: their order is kept.
        wait_stage(from, &sent.message_id, &first.key(), DeliveryStage::Delivered).await;
    }
    assert_eq!((first.waiting(), second.waiting()), (0, 0));
}

pub async fn the_hinted_session_is_preferred(database: Database) {
    let (lab, Three { ana, ben, cara: _cara }) = Lab::with_three(database).await;
    let laptop = ben.person.builder().display_name("ben-laptop").connect().await.unwrap();
    // The next one may go elsewhere only when this one is acknowledged: their order is kept.
    let settled = async |sent: Sent| wait_stage(&ana, &sent.message_id, &ben.key(), DeliveryStage::Delivered).await;
    for _ in 0..5 {
        // By the session's name, by its key, and as the answer to what it said.
        let text = lab.text("by name");
        let sent = ana.send_text("ben-laptop", &text, Priority::Next).await.unwrap();
        assert_eq!(recv_text(&laptop).await, text);
        settled(sent).await;
        let text = lab.text("by key");
        let key = laptop.session_key().to_string();
        let sent = ana.send_text(&key, &text, Priority::Next).await.unwrap();
        assert_eq!(recv_text(&laptop).await, text);
        settled(sent).await;
        for session in [&laptop, &ben.client] {
            let question = lab.text("question");
            session.send_text("ana", &question, Priority::Next).await.unwrap();
            let asked = recv(&ana).await;
            assert_eq!(asked.text.as_ref(), Some(&question));
            let answer = lab.text("answer");
            let sent = ana.reply(&asked, &answer, Priority::Next).await.unwrap();
            assert_eq!(recv_text(session).await, answer);
            settled(sent).await;
        }
    }
    // A hint is no condition: when that session is gone the other one gets the message.
    let hint = laptop.session_key();
    laptop.close().await;
    let to = Resolved::Direct {
        key: ben.person.identity.public(),
        session: Some(hint),
        name: String::new(),
    };
    eventually("the end of the session", || async {
        (peers(&ana).await.len() == 3).then_some(())
    })
    .await;
    let text = lab.text("too late for the laptop");
    ana.send_to(&to, &text, Priority::Next).await.unwrap();
    assert_eq!(recv_text(&ben).await, text);
    lab.finish().await;
}

pub async fn what_a_dying_session_had_goes_to_another_one(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let key = SecretKey::generate();
    let mut dying = Socket::v2(&lab, &ben.person, &key).await;
    let to = Resolved::Direct {
        key: ben.person.identity.public(),
        session: Some(key.public()),
        name: String::new(),
    };
    let texts: Vec<String> = (0..3).map(|_| lab.text("for a dying session")).collect();
    let mut ids = Vec::new();
    for text in &texts {
        ids.push(ana.send_to(&to, text, Priority::Next).await.unwrap().message_id);
    }
    for id in &ids {
        let push = dying.next_message().await;
        assert_eq!(push["messageId"], json!(id));
        assert!(push["attempt"].is_null(), "the first delivery is not numbered");
    }
    // One of them is acknowledged and stays where it is.
    let ack = json!({ "type": "ack_messages", "acks": [{ "messageId": ids[0], "stage": "delivered" }] });
    let (reply, _) = dying.ask(ack).await;
    assert_eq!((&reply["type"], &reply["acked"]), (&json!("messages_acked"), &json!(1)));
    dying.close().await;
    assert_eq!(recv_texts(&ben, 2).await, texts[1..]);
    expect_nothing(&lab, &ana, &ben).await;
    lab.finish().await;
}

pub async fn a_lease_that_lapses_delivers_again(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three_and(database, |config| config.lease_ms = 700).await;
    ben.client.close().await;
    let key = SecretKey::generate();
    let mut slow = Socket::v2(&lab, &ben.person, &key).await;
    let text = lab.text("twice on the wire");
    let sent = ana.send_text("ben", &text, Priority::Next).await.unwrap();
    for attempt in [json!(null), json!(2), json!(3)] {
        let push = slow.next_message().await;
        assert_eq!(push["messageId"], json!(sent.message_id));
        assert_eq!(push["attempt"], attempt);
    }
    assert!(!status_of(&ana, &sent.message_id).await.delivered);
    let ack = json!({ "type": "ack_messages", "acks": [{ "messageId": sent.message_id, "stage": "read" }] });
    slow.ask(ack.clone()).await;
    wait_stage(&ana, &sent.message_id, &ben.key(), DeliveryStage::Read).await;
    // Acknowledging twice is harmless; somebody else cannot.
    let (reply, _) = slow.ask(ack.clone()).await;
    assert_eq!(reply["type"], "messages_acked");
    let mut other = Socket::v2(&lab, &cara.person, &SecretKey::generate()).await;
    let (reply, _) = other.ask(ack).await;
    assert_eq!(reply["acked"], 0);
    lab.finish().await;
}

pub async fn observers_take_nothing(database: Database) {
    let (lab, Three { ana, ben, cara: _cara }) = Lab::with_three(database).await;
    let observer = ben.person.observe().await;
    assert_eq!(peer_names(&ana).await, ["ana", "ben", "cara"]);
    assert_eq!(peer_names(&observer).await, ["ana", "ben", "cara"]);
    assert_eq!(member(&ana, &ben.key()).await.session_count, 1);

    let waiting = lab.text("when you ask");
    ana.send_text("ben", &waiting, Priority::Low).await.unwrap();
    let text = lab.text("for the session");
    ana.send_text("ben", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ben).await, text);
    let (code, field) = refusal(observer.pull(&[], false).await);
    assert_eq!((code, field.as_deref()), (ErrorCode::Conflict, Some("/peek")));
    for _ in 0..2 {
        let peeked = observer.pull(&[], true).await.unwrap();
        let texts: Vec<_> = peeked.messages.iter().map(|message| message.text.clone()).collect();
        assert_eq!(texts, [Some(waiting.clone())]);
    }
    assert_eq!(ben.check_messages().await.unwrap().messages.len(), 1);
    assert_eq!(observer.waiting(), 0);

    // Without a session messages wait, and the observer may fetch them.
    ben.client.close().await;
    let text = lab.text("nobody is there");
    let sent = ana.send_text("ben", &text, Priority::Now).await.unwrap();
    let line = line_of(&ana, &sent.message_id, &ben.key()).await;
    assert_eq!(line.status, "disconnected", "an observer is not there");
    assert_eq!(observer.waiting(), 0);
    let pulled = observer.pull(&[], false).await.unwrap();
    let texts: Vec<_> = pulled.messages.iter().map(|message| message.text.clone()).collect();
    assert_eq!(texts, [Some(text)]);
    wait_stage(&ana, &sent.message_id, &ben.key(), DeliveryStage::Delivered).await;
    lab.finish().await;
}

pub async fn a_session_that_does_not_answer_is_passed_over(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three_and(database, |config| config.lease_ms = 700).await;
    // The newest session is the one that is chosen; this one never acknowledges.
    let mut stuck = Socket::v2(&lab, &ben.person, &SecretKey::generate()).await;
    let texts: Vec<String> = (0..5).map(|_| lab.text("for whoever answers")).collect();
    let mut ids = Vec::new();
    for text in &texts {
        ids.push(ana.send_text("ben", text, Priority::Next).await.unwrap().message_id);
    }
    assert_eq!(stuck.next_message().await["messageId"], json!(ids[0]));
    assert_eq!(recv_texts(&ben, 5).await, texts, "in their order");
    for id in &ids {
        wait_stage(&ana, id, &ben.key(), DeliveryStage::Delivered).await;
    }
    // Waking up late takes nothing back and delivers nothing again.
    let acks: Vec<_> = ids
        .iter()
        .map(|id| json!({ "messageId": id, "stage": "delivered" }))
        .collect();
    let (reply, _) = stuck.ask(json!({ "type": "ack_messages", "acks": acks })).await;
    assert_eq!(reply["type"], "messages_acked", "{reply}");
    stuck.close().await;
    expect_nothing(&lab, &ana, &ben).await;
    lab.finish().await;
}

pub async fn what_sessions_that_vanish_had_comes_in_its_order(database: Database) {
    let (mut lab, Three { ana, mut ben, .. }) = Lab::with_three(database).await;
    ben.client.close().await;
    let texts: Vec<String> = (0..6).map(|_| lab.text("for who stays")).collect();
    let mut ids = Vec::new();
    for text in &texts {
        ids.push(ana.send_text("ben", text, Priority::Next).await.unwrap().message_id);
    }
    for attempt in [json!(null), json!(2), json!(3)] {
        let mut session = Socket::v2(&lab, &ben.person, &SecretKey::generate()).await;
        for id in &ids {
            let push = session.next_message().await;
            assert_eq!((&push["messageId"], &push["attempt"]), (&json!(id), &attempt));
        }
        // Its process is killed: no goodbye.
        drop(session);
        eventually("the end of the session", || async {
            (!member(&ana, &ben.key()).await.online).then_some(())
        })
        .await;
    }
    let mut session = Socket::v2(&lab, &ben.person, &SecretKey::generate()).await;
    assert_eq!(session.next_message().await["messageId"], json!(ids[0]));
    // The broker goes while they are under lease.
    lab.restart().await;
    drop(session);
    ben.client = ben.person.connect().await;
    assert_eq!(recv_texts(&ben, 6).await, texts);
    expect_nothing(&lab, &ana, &ben).await;
    lab.finish().await;
}

pub async fn observers_share_what_waits_without_a_session(database: Database) {
    let (lab, Three { ana, mut ben, .. }) = Lab::with_three(database).await;
    ben.client.close().await;
    let (first, second) = (ben.person.observe().await, ben.person.observe().await);
    let mut texts = BTreeSet::new();
    for number in 0..12 {
        let text = lab.text("waits");
        let priority = [Priority::Low, Priority::Next, Priority::Now][number % 3];
        let target = ["ben", "*"][number % 2];
        ana.send_text(target, &text, priority).await.unwrap();
        texts.insert(text);
    }
    assert_eq!((first.waiting(), second.waiting()), (0, 0), "nothing comes by itself");
    assert_eq!(first.pull(&[], true).await.unwrap().messages.len(), 12);
    let mut came = Vec::new();
    while came.len() < texts.len() {
        let (by_first, by_second) = tokio::join!(first.pull(&[], false), second.pull(&[], false));
        for pulled in [by_first.unwrap(), by_second.unwrap()] {
            came.extend(pulled.messages.into_iter().map(|message| message.text.clone().unwrap()));
        }
    }
    assert_eq!(came.len(), texts.len(), "each once");
    assert_eq!(came.into_iter().collect::<BTreeSet<_>>(), texts);
    for client in [first, second] {
        client.close().await;
    }
    ben.client = ben.person.connect().await;
    expect_nothing(&lab, &ana, &ben).await;
    assert!(ben.check_messages().await.unwrap().messages.is_empty());
    lab.finish().await;
}

pub async fn an_observer_speaks_for_the_live_sessions(database: Database) {
    let (lab, Three { ana, ben, cara: _cara }) = Lab::with_three(database).await;
    let second = ben.person.connect().await;
    let observer = ben.person.observe().await;
    let of_ben = async || {
        let peers = peers(&ana).await;
        let own = peers
            .into_iter()
            .filter(|peer| peer.member_pubkey.as_ref() == Some(&ben.key()));
        own.map(|peer| (peer.status, peer.summary)).collect::<Vec<_>>()
    };
    let set_summary = |summary: &str| SetSummary {
        summary: summary.to_owned(),
    };
    let set_visible = |visible| SetVisible { visible };

    set_status(&observer, PeerStatus::Working).await;
    observer.request(set_summary("at the tests")).await.unwrap();
    let expected = (PeerStatus::Working, Some("at the tests".to_owned()));
    assert_eq!(of_ben().await, [expected.clone(), expected]);
    // It counts for what is delivered, not only for what is shown.
    let text = lab.text("when you have time");
    ana.send_text("ben", &text, Priority::Next).await.unwrap();
    expect_nothing_on_either(&lab, &ana, &ben, &second).await;
    set_status(&observer, PeerStatus::Idle).await;
    let message = within("a message", async {
        tokio::select! {
            message = ben.recv() => message,
            message = second.recv() => message,
        }
    });
    assert_eq!(message.await.unwrap().text.as_ref(), Some(&text));
    assert_eq!(observer.waiting(), 0);

    observer.request(set_visible(false)).await.unwrap();
    assert_eq!(peer_names(&ana).await, ["ana", "cara"]);
    let sent = ana
        .send_text("*", &lab.text("not for ben"), Priority::Now)
        .await
        .unwrap();
    assert_eq!(sent.recipients, 1);
    observer.request(set_visible(true)).await.unwrap();
    observer.request(set_summary("")).await.unwrap();
    assert_eq!(of_ben().await, [(PeerStatus::Idle, None), (PeerStatus::Idle, None)]);

    // The other observers of the mesh are not meant, and neither is anybody else.
    let watcher = ana.person.observe().await;
    set_status(&watcher, PeerStatus::Dnd).await;
    let statuses: Vec<_> = peers(&ben)
        .await
        .into_iter()
        .map(|peer| (peer.display_name, peer.status))
        .collect();
    for (name, status) in statuses {
        assert_eq!(status == PeerStatus::Dnd, name == "ana", "{name}");
    }

    for client in [&ben.client, &second] {
        client.close().await;
    }
    eventually("the end of the sessions", || async {
        (!member(&ana, &ben.key()).await.online).then_some(())
    })
    .await;
    let status = SetStatus {
        status: PeerStatus::Dnd,
    };
    assert_eq!(code(observer.request(status).await), ErrorCode::NotFound);
    assert_eq!(code(observer.request(set_summary("nobody")).await), ErrorCode::NotFound);
    assert_eq!(code(observer.request(set_visible(false)).await), ErrorCode::NotFound);
    let _back = ben.person.connect().await;
    assert_eq!(
        of_ben().await,
        [(PeerStatus::Idle, None)],
        "what was refused has no effect"
    );
    lab.finish().await;
}
