//! The threat table row by row: a client on a real socket, and a broker that does what a broker must not. What can be
//! noticed is noticed and told in a sentence; what cannot is here too, so that nobody believes otherwise.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]
#[path = "e2e/kit.rs"]
mod kit;
mod secure_proxy;

use claudemesh_client::proto::model::{DeliveryStage, Priority};
use claudemesh_client::secure::SecureEvent;
use claudemesh_client::{ClientEvent, MeshClient};
use claudemesh_crypto::group::{
    AdmitBy, Change, DeviceEntry, EntryBody, EpochKeys, GroupKeys as _, Head, HistoryPolicy, LogEntry, Position, Role,
    Signer,
};
use claudemesh_crypto::{SecretKey, encode_base64, random_id};
use kit::{Database, Lab, Seat, eventually, recv, recv_text};
use secure_proxy::{Victim, Way, announce, fork_by, keys_of, now, remarks, stranger, wire_head};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Ana owns the mesh, ben is in it, and the hostile broker has vic to itself.
struct Stage {
    /// Runs the broker.
    _lab: Lab,
    ana: Seat,
    ben: Seat,
    vic: Victim,
}

async fn stage() -> Stage {
    let lab = Lab::start(Database::default()).await;
    let ana = lab.mesh("Lab", "ana").await;
    let ben = lab.join(&ana, "ben").await;
    let vic = Victim::join(&lab, &ana, "vic").await;
    let stage = Stage {
        _lab: lab,
        ana,
        ben,
        vic,
    };
    stage.settled().await;
    stage
}

impl Stage {
    /// Waits until all three are in the same group log.
    async fn settled(&self) {
        let head = |client: &MeshClient| client.secure().head();
        eventually("the same group log", || async {
            let heads = [head(&self.ana), head(&self.ben), head(&self.vic)];
            let members = self.ana.secure().group_members().len();
            (heads[0].is_some() && members == 3 && heads.iter().all(|head| *head == heads[0])).then_some(())
        })
        .await;
    }

    async fn from_ana(&self, target: &str, text: &str) {
        self.ana.send_text(target, text, Priority::Now).await.unwrap();
    }

    async fn rotate(&self) {
        self.ana.secure().rotate(self.ana.transport()).await.unwrap();
    }

    /// Nothing stands between vic and the next message, and nothing is wrong with it.
    async fn vic_is_fine(&self) {
        let fence = random_id();
        self.from_ana("vic", &fence).await;
        let message = self.vic.message().await;
        assert_eq!(message.text.as_deref(), Some(fence.as_str()), "{:?}", *message);
        assert!(
            message.authenticated && message.warnings.is_empty(),
            "{:?}",
            message.warnings
        );
    }

    /// The log as it was stays all that vic is shown.
    fn freeze(&self) {
        let head = json!(self.vic.secure().wire_head());
        self.vic.proxy.rule(move |way, mut frame| {
            if way == Way::Down && frame["type"] == "group_epoch" {
                return vec![];
            }
            if way == Way::Down && frame["type"] == "group_log_result" {
                frame["entries"] = json!([]);
                frame["head"] = head.clone();
                frame["more"] = json!(false);
            }
            vec![(way, frame)]
        });
    }
}

fn is_message(way: Way, frame: &Value) -> bool {
    way == Way::Down && frame["type"] == "push" && frame["subtype"] != "system"
}

fn seat_key(seat: &Seat) -> String {
    seat.key().0
}

// Messages: reorder, replay, drop, delay, change.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_in_another_order_are_read_and_told() {
    let stage = stage().await;
    for target in ["vic", "@all"] {
        stage.from_ana(target, "zero").await;
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
        stage.from_ana(target, "one").await;
        stage.from_ana(target, "two").await;
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
    stage.from_ana("vic", "pay ben").await;
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

    stage.from_ana("@all", "pay ben again").await;
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
    stage.from_ana("vic", "pay ben").await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_messages_are_counted_with_the_next_one() {
    let stage = stage().await;
    for target in ["vic", "@all"] {
        stage.from_ana(target, "first").await;
        assert_eq!(recv_text(&stage.vic).await, "first");
        stage.vic.proxy.rule(|way, frame| {
            if is_message(way, &frame) {
                vec![]
            } else {
                vec![(way, frame)]
            }
        });
        let before = stage.vic.proxy.pushes().len();
        stage.from_ana(target, "lost").await;
        stage.from_ana(target, "lost too").await;
        stage.vic.proxy.push_number(before + 2).await;
        stage.vic.proxy.be_honest();
        stage.from_ana(target, "last").await;
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
    stage.from_ana("vic", "lost").await;
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
        stage.from_ana(target, "urgent").await;
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
    stage.from_ana("vic", "bare").await;
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
        stage.from_ana(target, "I am ana").await;
        let message = stage.vic.message().await;
        assert_eq!(message.from_pubkey, Some(stage.ana.key()), "what is proven counts");
        remarks(&message, "The broker names ben as the sender");
    }
    stage.vic.proxy.edit("push", move |push| {
        if push["sealed"].is_object() {
            push["sealed"]["device"] = json!(ben);
        }
    });
    stage.from_ana("@all", "I am ana").await;
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

// The group log: drop, replay, change, fork, freeze.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_commit_is_fetched_from_the_log() {
    let stage = stage().await;
    stage.vic.proxy.withhold("group_epoch");
    stage.rotate().await;
    stage.from_ana("@all", "under the new key").await;
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
    stage.from_ana("@all", "under the new key").await;
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
    stage.from_ana("vic", "hello").await;
    let message = stage.vic.message().await;
    assert_eq!(message.text.as_deref(), Some("hello"));
    remarks(&message, "different histories of this mesh");
    stage.from_ana("@all", "hello all").await;
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
    stage.from_ana("vic", "hello").await;
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
    stage.from_ana("@all", "before").await;
    assert_eq!(recv_text(&stage.vic).await, "before");
    assert_eq!(recv_text(&stage.ben).await, "before");
    let refused = stage.ben.secure().reset_group(stage.ben.transport()).await;
    assert!(refused.is_err(), "an ordinary member may not");
    stage.ana.secure().reset_group(stage.ana.transport()).await.unwrap();
    stage.settled().await;
    assert_eq!(stage.vic.secure().head().unwrap().generation, 2);
    assert_eq!(stage.vic.secure().group_members().len(), 3);
    stage.from_ana("@all", "after").await;
    assert_eq!(recv_text(&stage.vic).await, "after");
    assert_eq!(recv_text(&stage.ben).await, "after");
    stage.vic.send_text("@all", "from vic", Priority::Now).await.unwrap();
    assert_eq!(recv_text(&stage.ana).await, "from vic");
    assert!(stage.vic.heard().is_empty(), "{:?}", stage.vic.heard());
}

// Keys: its own key, a swapped seal, a ghost, a joiner's swapped key, a stolen key.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_own_key_in_answer_to_a_key_request_is_refused_and_told() {
    let stage = stage().await;
    // A mesh of the same name that the broker made up, with vic on its roster.
    let mallory = stranger();
    let mesh = stage.vic.identity().mesh_id.to_string();
    let (mut own, _) = EpochKeys::create(&mesh, &mallory, &mallory, HistoryPolicy::All, now()).unwrap();
    let member = &stage.vic.identity().member;
    let row = DeviceEntry::new(&mesh, member, member, Role::Member);
    let admit = own.propose(&Change::Admit(row), &Signer::new(&mallory), now()).unwrap();
    own.accepted(admit, now()).unwrap();
    let grant = own.grant_for(&stage.vic.key(), None).unwrap();
    stage
        .vic
        .proxy
        .inject(json!({ "type": "key_grant_forward", "grant": grant }));
    stage.vic.told("a member or the broker tried to plant a key").await;
    // What vic writes is still under the right key.
    stage
        .vic
        .send_text("@all", "for members only", Priority::Now)
        .await
        .unwrap();
    assert_eq!(recv_text(&stage.ana).await, "for members only");
    stage.vic_is_fine().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_seal_is_told_and_the_members_help() {
    let stage = stage().await;
    let known = stage.vic.secure().head().unwrap().epoch;
    let spoil = move |frame: &mut Value| {
        for record in frame["seals"].as_array_mut().into_iter().flatten() {
            if record["epoch"].as_u64() > Some(known) {
                record["seal"]["blob"] = json!(encode_base64(&[7; 80]));
            }
        }
    };
    stage.vic.proxy.rule(move |way, mut frame| {
        if way == Way::Down {
            spoil(&mut frame);
        }
        vec![(way, frame)]
    });
    stage.rotate().await;
    stage.vic.told("made for this device does not open").await;
    stage.from_ana("@all", "under the new key").await;
    assert_eq!(recv_text(&stage.vic).await, "under the new key");
    let asked = stage.vic.proxy.seen(Way::Up, "key_request");
    assert!(!asked.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ghost_gets_in_by_no_entry_of_its_own() {
    let stage = stage().await;
    let (ghost, mesh) = (stranger(), stage.vic.identity().mesh_id.to_string());
    let head: Head = stage.vic.secure().head().unwrap();
    let at = Position {
        generation: head.generation,
        index: head.index + 1,
    };
    let members = stage.vic.secure().group_members();
    for by in [AdmitBy::Owner, AdmitBy::Admin, AdmitBy::Member, AdmitBy::Invite] {
        let body = EntryBody::Admit {
            device: DeviceEntry::new(&mesh, &ghost, &ghost, Role::Member),
            by,
            at_ms: now(),
        };
        let entry = LogEntry::sign(&mesh, at, head.hash, body, &ghost);
        let wire = stage.vic.secure().wire_head().unwrap();
        stage.vic.proxy.inject(announce(&[entry], wire));
    }
    stage.vic.told("breaks its rules").await;
    stage.vic_is_fine().await;
    assert_eq!(stage.vic.secure().group_members(), members);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ghost_that_writes_to_the_group_is_not_shown() {
    let stage = stage().await;
    let ghost = stranger().public().to_string();
    stage.vic.proxy.edit("push", move |push| {
        if push["sealed"].is_object() {
            push["sealed"]["device"] = json!(ghost);
        }
    });
    stage.from_ana("@all", "boo").await;
    let message = stage.vic.message().await;
    assert_eq!((message.text.as_deref(), message.authenticated), (None, false));
    remarks(&message, "who is not a member of this mesh");
}

/// Who is enrolled is the broker's word where an invite came without its secret: the ghost gets in, but never silently.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ghost_that_the_broker_lists_as_a_member_is_told_to_the_owner() {
    let lab = Lab::start(Database::default()).await;
    let olga = Victim::found(&lab, "olga").await;
    let (ghost, mesh) = (stranger(), olga.identity().mesh_id.to_string());
    let request = json!({ "type": "key_request_forward", "request": {
        "type": "admit", "v": 1, "meshId": mesh, "device": DeviceEntry::new(&mesh, &ghost, &ghost, Role::Member),
        "atMs": now(),
    }});
    // Whom it does not list, nobody lets in.
    olga.proxy.inject(request.clone());
    eventually("the question", || async {
        (!olga.proxy.seen(Way::Up, "list_members").is_empty()).then_some(())
    })
    .await;
    assert!(!olga.secure().group_members().contains(&ghost.public()));

    let mut events = olga.events();
    let key = ghost.public().to_string();
    olga.proxy.edit("members_list", move |list| {
        let members = list["members"].as_array_mut().unwrap();
        let mut row = members[0].clone();
        row["pubkey"] = json!(key);
        members.push(row);
    });
    olga.proxy.inject(request);
    let told = olga.told("was given the group keys on the broker's word").await;
    let digits = claudemesh_crypto::safety_number(&olga.key(), &ghost.public());
    assert!(told.contains(&digits), "{told}");
    kit::event(&mut events, "the admission", |event| match event {
        ClientEvent::Secure(SecureEvent::Admitted(member)) => (member == ghost.public()).then_some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joiners_key_cannot_be_swapped() {
    let lab = Lab::start(Database::default()).await;
    let olga = Victim::found(&lab, "olga").await;
    let (joiner, mallory) = (SecretKey::generate(), stranger());
    let mesh = olga.identity().mesh_id.to_string();
    // The broker lists the joiner, and answers for it with a key to seal to that it knows.
    let key = joiner.public().to_string();
    olga.proxy.edit("members_list", move |list| {
        let members = list["members"].as_array_mut().unwrap();
        let mut row = members[0].clone();
        row["pubkey"] = json!(key);
        members.push(row);
    });
    let good = json!(DeviceEntry::new(&mesh, &joiner, &joiner, Role::Member));
    let theirs = json!(DeviceEntry::new(&mesh, &mallory, &mallory, Role::Member));
    let mut swapped = good.clone();
    swapped["sealKey"] = theirs["sealKey"].clone();
    let mut half = good.clone();
    half["sealKey"] = theirs["sealKey"].clone();
    half["sealSignature"] = theirs["sealSignature"].clone();
    let ask = |device: &Value| {
        let request = json!({ "type": "admit", "v": 1, "meshId": mesh, "device": device, "atMs": now() });
        olga.proxy
            .inject(json!({ "type": "key_request_forward", "request": request }));
    };
    ask(&swapped);
    ask(&half);
    ask(&good);
    olga.told("was given the group keys").await;
    let keys = keys_of(&olga.seat).await;
    let row = keys.roster().device(&joiner.public()).unwrap();
    assert_eq!(json!(row.entry.seal_key), good["sealKey"]);
    let told = olga.heard();
    assert_eq!(
        told.iter().filter(|text| text.contains("was given")).count(),
        1,
        "{told:?}"
    );
}

/// The names of members are the broker's word. A key that the signed list does not have is told before it is used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_key_behind_a_name_is_told() {
    let stage = stage().await;
    let (ben, ghost) = (seat_key(&stage.ben), stranger().public().to_string());
    stage.vic.proxy.rule(move |way, frame| {
        if way == Way::Down && (frame["type"] == "peers_list" || frame["type"] == "members_list") {
            let text = frame.to_string().replace(&ben, &ghost);
            return vec![(way, serde_json::from_str(&text).unwrap())];
        }
        vec![(way, frame)]
    });
    // The real broker does not know that key; the hostile one would take the message and read it.
    let _refused = stage.vic.send_text("ben", "for ben alone", Priority::Now).await;
    stage.vic.told("is the key of ben is the broker's word").await;
    stage.vic.proxy.be_honest();
    let heard = stage.vic.heard().len();
    stage.vic.send_text("ana", "for ana", Priority::Now).await.unwrap();
    assert_eq!(recv_text(&stage.ana).await, "for ana");
    assert_eq!(stage.vic.heard().len(), heard, "{:?}", stage.vic.heard());
}

/// The broker keeps everything and gets the member key later: what was sealed after the first renewal of the seal key,
/// soon after joining, stays closed. What was sealed before does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sealed_after_the_first_renewal_stays_closed_to_a_stolen_member_key() {
    let stage = stage().await;
    let first = stage.vic.secure().head().unwrap();
    stage.vic.secure().maintain(stage.vic.transport()).await.unwrap();
    stage.rotate().await;
    stage.settled().await;
    let thief = keys_of(&stage.vic.seat).await;
    assert!(!thief.has_key(thief.epoch_id()));
    let before = claudemesh_crypto::group::EpochId {
        generation: first.generation,
        epoch: first.epoch,
    };
    assert!(thief.has_key(before), "the limit that the docs name");
    stage.from_ana("@all", "still read").await;
    assert_eq!(recv_text(&stage.vic).await, "still read");
}

// Receipts.

fn receipt(id: &str, recipient: &str, stage: &str) -> Value {
    json!({
        "type": "receipt", "messageId": id, "recipient": recipient, "name": "somebody", "stage": stage,
        "at": "2026-01-01T00:00:00.000Z",
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_of_recipients_that_cannot_be_are_told() {
    let stage = stage().await;
    let sent = stage.vic.send_text("ana", "for ana", Priority::Now).await.unwrap();
    stage
        .vic
        .proxy
        .inject(receipt(sent.message_id.as_str(), &seat_key(&stage.ben), "read"));
    stage.vic.told("it was sealed for another member").await;

    let ghost = stranger().public().to_string();
    let sent = stage.vic.send_text("@all", "for all", Priority::Now).await.unwrap();
    stage
        .vic
        .proxy
        .inject(receipt(sent.message_id.as_str(), &ghost, "accepted"));
    stage
        .vic
        .proxy
        .inject(receipt(sent.message_id.as_str(), &ghost, "delivered"));
    stage
        .vic
        .told("who is not on the signed list of this mesh's members")
        .await;

    // The same in the answer to a question.
    let other = stranger().public().to_string();
    let named = other.clone();
    stage.vic.proxy.edit("message_status_result", move |status| {
        let lines = status["recipients"].as_array_mut().unwrap();
        let mut line = lines[0].clone();
        line["pubkey"] = json!(named);
        line["stage"] = json!("read");
        lines.push(line);
    });
    kit::status_of(&stage.vic, &sent.message_id).await;
    stage.vic.told(&other[..8]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_that_contradict_each_other_are_told() {
    let stage = stage().await;
    let sent = stage.vic.send_text("ana", "for ana", Priority::Now).await.unwrap();
    let mut receipts = stage.vic.receipts(sent.message_id.clone());
    kit::within("the first receipt", receipts.next()).await.unwrap();
    let ana = seat_key(&stage.ana);
    stage.vic.proxy.inject(receipt(sent.message_id.as_str(), &ana, "read"));
    stage
        .vic
        .proxy
        .inject(receipt(sent.message_id.as_str(), &ana, "expired"));
    stage
        .vic
        .told("as read and now as expired: one of the two is false")
        .await;
}

/// Receipts are not signed: that somebody has read a message is what the broker says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undetectable_a_receipt_for_what_never_happened() {
    let stage = stage().await;
    let ana = seat_key(&stage.ana);
    stage.vic.send_text("ana", "first", Priority::Now).await.unwrap();
    assert_eq!(recv_text(&stage.ana).await, "first");
    stage.vic.proxy.rule(move |way, frame| {
        if way == Way::Up && frame["type"] == "send" {
            let id = frame["id"].as_str().unwrap();
            let ack = json!({ "type": "ack", "id": id, "messageId": id, "queued": true, "recipients": 1 });
            return vec![(Way::Down, ack), (Way::Down, receipt(id, &ana, "read"))];
        }
        vec![(way, frame)]
    });
    let mut events = stage.vic.events();
    stage
        .vic
        .send_text("ana", "never arrives", Priority::Now)
        .await
        .unwrap();
    kit::event(&mut events, "the false receipt", |event| match event {
        ClientEvent::Receipt(receipt) => (receipt.stage == DeliveryStage::Read).then_some(()),
        _ => None,
    })
    .await;
    assert!(stage.vic.heard().is_empty());
    stage.vic.proxy.be_honest();
    // The recipient is told with the next message of the same session, if there is one.
    stage.vic.send_text("ana", "arrives", Priority::Now).await.unwrap();
    let message = recv(&stage.ana).await;
    assert_eq!(message.text.as_deref(), Some("arrives"));
    remarks(
        &message,
        "1 message from vic was sent before this one and did not arrive here",
    );
}
