//! The group log: dropped, repeated, changed, forked, frozen, lost, started anew.

use crate::kit::{eventually, recv_text};
use crate::proxy::{Way, announce, fork_by, keys_of, now, remarks, wire_head};
use crate::stage::stage;
use claudemesh_client::proto::model::Priority;
use claudemesh_crypto::SecretKey;
use claudemesh_crypto::group::EntryBody;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_commit_is_fetched_from_the_log() {
    let stage = stage().await;
    stage.vic.proxy.withhold("group_epoch");
    stage.rotate().await;
    stage.ana_sends("@all", "under the new key").await;
    let message = stage.vic.message().await;
    assert_eq!(message.text.as_deref(), Some("under the new key"));
    assert!(message.warnings.is_empty(), "{:?}", message.warnings);
    assert_eq!(stage.vic.secure().head(), stage.ana.secure().head());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withheld_log_is_told_with_the_first_group_message() {
    let stage = stage().await;
    stage.freeze();
    stage.rotate().await;
    stage.ana_sends("@all", "under the new key").await;
    stage
        .vic
        .told("A group message of ana is sealed under a key that is newer")
        .await;
    // What waited is read when the log comes.
    stage.vic.proxy.be_honest();
    stage.rotate().await;
    assert_eq!(recv_text(&stage.vic).await, "under the new key");
    let told = stage.vic.heard();
    assert_eq!(
        told.iter().filter(|text| text.contains("is newer")).count(),
        1,
        "once: {told:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_commit_changes_nothing() {
    let stage = stage().await;
    stage.rotate().await;
    stage.settled().await;
    stage.rotate().await;
    stage.settled().await;
    let head = stage.vic.secure().head();
    let commits = stage.vic.proxy.seen(Way::Down, "group_epoch");
    assert!(commits.len() >= 2);
    commits.into_iter().for_each(|commit| stage.vic.proxy.inject(commit));
    stage.vic_is_fine().await;
    assert_eq!(stage.vic.secure().head(), head);
    assert!(stage.vic.heard().is_empty(), "{:?}", stage.vic.heard());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_commit_is_refused_and_told() {
    let stage = stage().await;
    let head = stage.vic.secure().head();
    let keys = keys_of(&stage.ben).await;
    let good = keys.propose_rotate(now()).unwrap().entries.remove(0);
    let mut swapped = good.clone();
    swapped.author = stage.ana.person.identity.public();
    let mut changed = good;
    if let EntryBody::Epoch { commitment, .. } = &mut changed.body {
        *commitment = claudemesh_crypto::group::Digest::from_bytes([7; 32]);
    }
    for entry in [swapped, changed] {
        stage.vic.proxy.inject(announce(&[entry], wire_head(keys.state())));
        stage
            .vic
            .told("The broker sent an entry of the group log that breaks its rules")
            .await;
        stage.vic_is_fine().await;
    }
    assert_eq!(stage.vic.secure().head(), head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forked_log_is_refused_and_told() {
    let stage = stage().await;
    let before = keys_of(&stage.ben).await;
    stage.rotate().await;
    stage.settled().await;
    let head = stage.vic.secure().head();
    stage.vic.proxy.inject(fork_by(&stage.ben, &before).await);
    stage
        .vic
        .told("The broker shows you and the sender different histories of this mesh")
        .await;
    assert_eq!(stage.vic.secure().head(), head, "nothing was taken");
    stage.vic_is_fine().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_shows_in_the_next_message() {
    let stage = stage().await;
    let fork = fork_by(&stage.ben, &keys_of(&stage.ben).await).await;
    stage.vic.proxy.inject(fork.clone());
    eventually("the other history", || async {
        (json!(stage.vic.secure().wire_head()) == fork["head"]).then_some(())
    })
    .await;
    stage.freeze();
    stage.rotate().await;
    stage.ana_sends("vic", "hello").await;
    let message = stage.vic.message().await;
    assert_eq!(message.text.as_deref(), Some("hello"));
    remarks(&message, "different histories of this mesh");
    stage.ana_sends("@all", "hello all").await;
    let message = stage.vic.message().await;
    assert_eq!(message.text, None);
    remarks(
        &message,
        "sealed under a key that your history of this mesh does not have",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_is_told_by_the_next_direct_message() {
    let stage = stage().await;
    stage.freeze();
    let ben = stage.ben.person.identity.public();
    assert!(
        stage
            .ana
            .secure()
            .remove_member(&ben, stage.ana.transport())
            .await
            .unwrap()
    );
    assert!(
        stage.vic.secure().group_members().contains(&ben),
        "vic still writes to ben"
    );
    stage.ana_sends("vic", "hello").await;
    let message = stage.vic.message().await;
    assert_eq!(message.text.as_deref(), Some("hello"));
    remarks(
        &message,
        "ana knows a newer state of the group keys than the broker shows you",
    );
    stage.vic.proxy.be_honest();
    stage.vic_is_fine().await;
    assert!(!stage.vic.secure().group_members().contains(&ben));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_is_told_when_its_own_change_comes_too_late() {
    let stage = stage().await;
    stage.freeze();
    stage.rotate().await;
    let refused = stage.vic.secure().rotate(stage.vic.transport()).await;
    assert!(refused.is_err());
    stage
        .vic
        .told("refuses a change of the group keys because others have made one first, and does not show it")
        .await;
}

/// A broker that answers for the others, too: the frozen member goes on writing to one who was removed. It can only see that
/// no admin has signed for days: see `a_log_that_nobody_signs_is_told_once_a_day`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undetectable_for_days_a_frozen_member_to_whom_nobody_writes() {
    let stage = stage().await;
    let head = json!(stage.vic.secure().wire_head());
    stage.vic.proxy.rule(move |way, mut frame| {
        if way == Way::Up && frame["type"] == "send" {
            let id = frame["id"].as_str().unwrap();
            let ack = json!({ "type": "ack", "id": id, "messageId": id, "queued": true, "recipients": 2 });
            return vec![(Way::Down, ack)];
        }
        if way == Way::Down && frame["type"] == "group_epoch" {
            return vec![];
        }
        if way == Way::Down && frame["type"] == "group_log_result" {
            frame["entries"] = json!([]);
            frame["head"] = head.clone();
        }
        vec![(way, frame)]
    });
    let ben = stage.ben.person.identity.public();
    let removed = stage.ana.secure().remove_member(&ben, stage.ana.transport()).await;
    assert!(removed.unwrap());
    stage
        .vic
        .send_text("@all", "ben reads this", Priority::Now)
        .await
        .unwrap();
    let sent = stage.vic.proxy.seen(Way::Up, "send").pop().unwrap();
    assert_eq!(sent["sealed"]["epoch"], json!(stage.vic.secure().head().unwrap().epoch));
    assert!(stage.vic.heard().is_empty(), "{:?}", stage.vic.heard());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_another_owner_and_an_old_protocol_are_told() {
    let mut stage = stage().await;
    stage.vic.proxy.edit("group_log_result", |page| {
        page["entries"] = json!([]);
        page.as_object_mut().unwrap().remove("head");
    });
    stage.vic.restart().await;
    stage
        .vic
        .told("The broker no longer has the group log that this device knows")
        .await;

    stage.vic.proxy.edit("group_info_result", |info| {
        info["ownerPubkey"] = json!(SecretKey::generate().public().to_string());
    });
    stage.vic.restart().await;
    stage.vic.told("the broker names another owner of this mesh").await;

    let unknown = json!({ "type": "error", "code": "no_hello", "message": "must send hello first" });
    stage
        .vic
        .proxy
        .rule(move |way, frame| match frame["type"] == "hello_challenge" {
            true => vec![(Way::Down, unknown.clone())],
            false => vec![(way, frame)],
        });
    stage.vic.restart().await;
    stage.vic.told("now says that it speaks the old protocol only").await;
    let refused = stage.vic.send_text("@all", "in the clear?", Priority::Now).await;
    assert!(refused.is_err(), "nothing is ever sent in the clear");
}

/// A rogue member's entries can be put behind: the same members, a new key, nothing lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_starts_the_log_anew_and_everybody_follows() {
    let stage = stage().await;
    stage.ana_sends("@all", "before").await;
    assert_eq!(recv_text(&stage.vic).await, "before");
    assert_eq!(recv_text(&stage.ben).await, "before");
    let refused = stage.ben.secure().reset_group(stage.ben.transport()).await;
    assert!(refused.is_err(), "an ordinary member may not");
    stage.ana.secure().reset_group(stage.ana.transport()).await.unwrap();
    stage.settled().await;
    assert_eq!(stage.vic.secure().head().unwrap().generation, 2);
    assert_eq!(stage.vic.secure().group_members().len(), 3);
    stage.ana_sends("@all", "after").await;
    assert_eq!(recv_text(&stage.vic).await, "after");
    assert_eq!(recv_text(&stage.ben).await, "after");
    stage.vic.send_text("@all", "from vic", Priority::Now).await.unwrap();
    assert_eq!(recv_text(&stage.ana).await, "from vic");
    assert!(stage.vic.heard().is_empty(), "{:?}", stage.vic.heard());
}
