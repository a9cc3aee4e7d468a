//! Keys: the broker's own, spoilt, a ghost's, swapped, stolen.

use crate::kit::{self, Database, Lab, eventually, recv_text};
use crate::proxy::{Victim, Way, announce, keys_of, now, remarks, stranger};
use crate::stage::{seat_key, stage};
use claudemesh_client::ClientEvent;
use claudemesh_client::proto::model::Priority;
use claudemesh_client::secure::SecureEvent;
use claudemesh_crypto::group::{
    AdmitBy, Change, DeviceEntry, EntryBody, EpochKeys, GroupKeys as _, Head, HistoryPolicy, LogEntry, Position, Role,
    Signer,
};
use claudemesh_crypto::{SecretKey, encode_base64};
use serde_json::{Value, json};

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
    stage.ana_sends("@all", "under the new key").await;
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
    stage.ana_sends("@all", "boo").await;
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
    stage.ana_sends("@all", "still read").await;
    assert_eq!(recv_text(&stage.vic).await, "still read");
}
