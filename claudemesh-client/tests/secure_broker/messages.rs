//! Messages: another order, repeated, dropped, held back, changed, invented.

use crate::kit::{self, recv_text};
use crate::proxy::{Way, remarks};
use crate::stage::{is_message, seat_key, stage};
use claudemesh_client::proto::model::Priority;
use claudemesh_crypto::{encode_base64, random_id};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_in_another_order_are_read_and_told() {
    let stage = stage().await;
    for target in ["vic", "@all"] {
        stage.ana_sends(target, "zero").await;
        assert_eq!(recv_text(&stage.vic).await, "zero");
        let mut held = None;
        let mut done = false;
        stage.vic.proxy.rule(move |way, frame| {
            if done || !is_message(way, &frame) {
                return vec![(way, frame)];
            }
            match held.take() {
                None => {
                    held = Some(frame);
                    vec![]
                }
                Some(first) => {
                    done = true;
                    vec![(way, frame), (way, first)]
                }
            }
        });
        stage.ana_sends(target, "one").await;
        stage.ana_sends(target, "two").await;
        let two = stage.vic.message().await;
        assert_eq!(two.text.as_deref(), Some("two"));
        remarks(
            &two,
            "1 message from ana was sent before this one and did not arrive here",
        );
        let one = stage.vic.message().await;
        assert_eq!(one.text.as_deref(), Some("one"));
        remarks(&one, "was sent before others that came here earlier");
    }
    stage.vic_is_fine().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_message_is_shown_once() {
    let stage = stage().await;
    stage.ana_sends("vic", "pay ben").await;
    assert_eq!(recv_text(&stage.vic).await, "pay ben");
    let push = stage.vic.proxy.push_number(1).await;
    stage.vic.proxy.inject(push.clone());
    stage.vic_is_fine().await;
    // As a new one.
    let mut renamed = push;
    renamed["messageId"] = json!(random_id());
    stage.vic.proxy.inject(renamed);
    stage.vic.told("A message of ana was repeated").await;
    stage.vic_is_fine().await;

    stage.ana_sends("@all", "pay ben again").await;
    assert_eq!(recv_text(&stage.vic).await, "pay ben again");
    let pushes = stage.vic.proxy.pushes();
    let mut push = pushes.last().unwrap().clone();
    stage.vic.proxy.inject(push.clone());
    stage.vic_is_fine().await;
    push["messageId"] = json!(random_id());
    stage.vic.proxy.inject(push);
    let message = stage.vic.message().await;
    assert_eq!((message.text.as_deref(), message.authenticated), (None, false));
    remarks(&message, "was altered on its way");
    stage.vic_is_fine().await;
}

/// A new process remembers no messages. Of a direct one it sees how old it is; a group message carries no time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_message_repeated_to_a_new_process_shows_its_age() {
    let mut stage = stage().await;
    stage.ana_sends("vic", "pay ben").await;
    assert_eq!(recv_text(&stage.vic).await, "pay ben");
    let mut push = stage.vic.proxy.push_number(1).await;
    stage.vic.restart().await;
    let later = claudemesh_client::proto::model::Timestamp::from_ms(kit::now_ms() + 2 * 60 * 60 * 1000);
    push["createdAt"] = json!(later);
    stage.vic.proxy.inject(push);
    let message = stage.vic.message().await;
    assert_eq!(message.text.as_deref(), Some("pay ben"));
    remarks(&message, "is an old one that was repeated");
}

/// Nor does it have numbers to compare with, unless the program keeps its inbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undetectable_a_group_message_repeated_to_a_new_process() {
    let mut stage = stage().await;
    stage.ana_sends("@all", "pay ben").await;
    assert_eq!(recv_text(&stage.vic).await, "pay ben");
    let push = stage.vic.proxy.push_number(1).await;
    stage.vic.restart().await;
    stage.vic.proxy.inject(push);
    let message = stage.vic.message().await;
    assert_eq!(message.text.as_deref(), Some("pay ben"));
    assert!(message.authenticated && message.warnings.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_messages_are_counted_with_the_next_one() {
    let stage = stage().await;
    for target in ["vic", "@all"] {
        stage.ana_sends(target, "first").await;
        assert_eq!(recv_text(&stage.vic).await, "first");
        stage.vic.proxy.rule(|way, frame| {
            if is_message(way, &frame) {
                vec![]
            } else {
                vec![(way, frame)]
            }
        });
        let before = stage.vic.proxy.pushes().len();
        stage.ana_sends(target, "lost").await;
        stage.ana_sends(target, "lost too").await;
        stage.vic.proxy.push_number(before + 2).await;
        stage.vic.proxy.be_honest();
        stage.ana_sends(target, "last").await;
        let message = stage.vic.message().await;
        assert_eq!(message.text.as_deref(), Some("last"));
        remarks(
            &message,
            "2 messages from ana were sent before this one and did not arrive here",
        );
    }
}

/// Nothing comes after the last message that would show that it is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undetectable_a_dropped_last_message() {
    let stage = stage().await;
    stage.vic.proxy.rule(|way, frame| {
        if is_message(way, &frame) {
            vec![]
        } else {
            vec![(way, frame)]
        }
    });
    stage.ana_sends("vic", "lost").await;
    stage.vic.proxy.push_number(1).await;
    assert!(stage.vic.heard().is_empty() && stage.vic.waiting() == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_facts_beside_a_message_are_told() {
    let stage = stage().await;
    stage.vic.proxy.edit("push", |push| {
        if push["subtype"] != "system" {
            push["priority"] = json!("low");
        }
    });
    for target in ["vic", "@all"] {
        stage.ana_sends(target, "urgent").await;
        let message = stage.vic.message().await;
        assert_eq!(message.text.as_deref(), Some("urgent"));
        remarks(
            &message,
            "The broker changed the priority of this message: it was sent as now",
        );
    }
    stage.vic.proxy.edit("push", |push| {
        if push["subtype"] != "system" {
            push.as_object_mut().unwrap().remove("meta");
        }
    });
    stage.ana_sends("vic", "bare").await;
    let message = stage.vic.message().await;
    assert!(!message.authenticated);
    remarks(&message, "the broker removed them, or made up who the sender is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapped_authors_of_messages_are_told() {
    let stage = stage().await;
    let ben = seat_key(&stage.ben);
    let name = ben.clone();
    stage.vic.proxy.edit("push", move |push| {
        if push["subtype"] != "system" {
            push["senderMember"] = json!(name);
            push["senderName"] = json!("ben");
        }
    });
    for target in ["vic", "@all"] {
        stage.ana_sends(target, "I am ana").await;
        let message = stage.vic.message().await;
        assert_eq!(message.from_pubkey, Some(stage.ana.key()), "what is proven counts");
        remarks(&message, "The broker names ben as the sender");
    }
    stage.vic.proxy.edit("push", move |push| {
        if push["sealed"].is_object() {
            push["sealed"]["device"] = json!(ben);
        }
    });
    stage.ana_sends("@all", "I am ana").await;
    let message = stage.vic.message().await;
    assert_eq!((message.text.as_deref(), message.authenticated), (None, false));
    remarks(&message, "is not by whom it says");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_members_own_message_does_not_come_back_as_an_answer() {
    let stage = stage().await;
    stage.vic.send_text("ana", "yes", Priority::Now).await.unwrap();
    let sent = stage.vic.proxy.seen(Way::Up, "send").pop().unwrap();
    stage.vic.proxy.inject(json!({
        "type": "push", "messageId": random_id(), "meshId": stage.vic.identity().mesh_id,
        "senderPubkey": seat_key(&stage.ana), "senderMember": seat_key(&stage.ana), "senderName": "ana",
        "priority": "now", "nonce": sent["nonce"], "ciphertext": sent["ciphertext"], "meta": sent["meta"],
        "createdAt": "2026-01-01T00:00:00.000Z", "target": { "kind": "direct", "spec": stage.vic.key().to_string() },
    }));
    let message = stage.vic.message().await;
    assert!(!message.authenticated);
    remarks(&message, "they name another sender or recipient");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invented_message_is_shown_as_unproven() {
    let stage = stage().await;
    for kind in [
        json!({ "kind": "direct", "spec": stage.vic.key().to_string() }),
        json!({ "kind": "broadcast", "spec": "*" }),
    ] {
        stage.vic.proxy.inject(json!({
            "type": "push", "messageId": random_id(), "meshId": stage.vic.identity().mesh_id,
            "senderPubkey": seat_key(&stage.ana), "senderMember": seat_key(&stage.ana), "senderName": "ana",
            "priority": "now", "nonce": "", "ciphertext": encode_base64(b"pay mallory"),
            "createdAt": "2026-01-01T00:00:00.000Z", "target": kind,
        }));
        let message = stage.vic.message().await;
        assert!(!message.authenticated);
        remarks(&message, "is not encrypted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swallowed_message_is_not_reported_as_sent() {
    let stage = stage().await;
    stage.vic.proxy.rule(|way, frame| match (way, frame["type"] == "send") {
        (Way::Up, true) => vec![],
        _ => vec![(way, frame)],
    });
    let sending = stage.vic.send_text("ana", "hello", Priority::Now);
    assert!(timeout(Duration::from_secs(2), sending).await.is_err());
}
