//! A broker that does not keep to the rules: what the client notices.
#![allow(missing_docs, clippy::unwrap_used)]

mod secure_support;

use claudemesh_client::ClientError;
use claudemesh_client::secure::{MemoryKeyStore, SecureOptions};
use claudemesh_crypto::group::{Change, EpochKeys, GroupKeys as _, HistoryPolicy, Signer};
use claudemesh_crypto::{PublicKey, SecretKey};
use claudemesh_proto::frame::{GroupEpoch, KeyGrantForward};
use claudemesh_proto::model::KeyHex;
use secure_support::*;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn another_owner_is_a_hard_error() {
    let (broker, _owner) = mesh().await;
    let expected = SecretKey::generate().public();
    let identity = identity(SecretKey::generate(), Some(expected), None);
    let ana = Peer::new(
        "ana",
        &broker,
        identity,
        std::sync::Arc::new(claudemesh_client::MemoryKeyStore::new()),
    );
    let failed = ana.connect().await.unwrap_err();
    assert!(matches!(failed, ClientError::Crypto { .. }));
    assert!(failed.to_string().contains("another owner"), "{failed}");

    // It names the right owner and serves the log of another mesh.
    broker.tamper(move |_, wire_type, reply| {
        if wire_type == "group_info" {
            reply["ownerPubkey"] = expected.to_string().into();
        }
    });
    let failed = ana.connect().await.unwrap_err();
    assert!(failed.to_string().contains("another owner"), "{failed}");
}

#[tokio::test]
async fn the_first_owner_is_pinned_where_no_invite_names_one() {
    let (broker, owner) = mesh().await;
    let identity = identity(SecretKey::generate(), None, None);
    let ana = Peer::new(
        "ana",
        &broker,
        identity,
        std::sync::Arc::new(claudemesh_client::MemoryKeyStore::new()),
    );
    ana.connect().await.unwrap();
    pump(&[&owner, &ana]).await;
    assert!(has(&ana.warnings(), "taken from the broker"));
    broker.tamper(|_, wire_type, reply| {
        if wire_type == "group_info" {
            reply["ownerPubkey"] = SecretKey::generate().public().to_string().into();
        }
    });
    assert!(ana.connect().await.is_err());
}

/// The owner, with one key, on two chains from the same start: what a broker needs two dishonest helpers for.
fn fork_of(owner: &Peer, broker: &Broker) -> GroupEpoch {
    let log = broker.state().log.clone();
    let seals = broker.state().seals.clone();
    let owner_key = owner.identity.owner.as_ref().unwrap();
    let before = &log[..log.len() - 1];
    let keys = EpochKeys::from_log(MESH, &broker.owner, before, &seals, &owner.identity.member, now_ms()).unwrap();
    let other = keys
        .propose(&Change::Checkpoint, &Signer::new(owner_key), now_ms())
        .unwrap();
    let mut forked = keys;
    forked.accepted(other.clone(), now_ms()).unwrap();
    GroupEpoch {
        entries: other.entries.iter().map(log_record).collect(),
        seals: Vec::new(),
        head: wire_head(forked.state()),
    }
}

#[tokio::test]
async fn a_forked_log_is_refused_and_told() {
    let (broker, owner) = mesh().await;
    let ana = joined("ana", &broker, &owner).await;
    owner.channel.rotate(owner.transport()).await.unwrap();
    pump(&[&owner, &ana]).await;
    let head = ana.channel.head();
    let failed = ana
        .channel
        .on_group_epoch(&fork_of(&owner, &broker), ana.transport())
        .await
        .unwrap_err();
    assert!(failed.to_string().contains("forked"), "{failed}");
    assert!(has(&ana.warnings(), "compare safety numbers"));
    assert_eq!(ana.channel.head(), head, "nothing was taken");
}

#[tokio::test]
async fn a_fork_shows_in_the_next_direct_message() {
    let (broker, owner) = mesh().await;
    let ana = joined("ana", &broker, &owner).await;
    let bo = joined("bo", &broker, &owner).await;
    pump(&[&owner, &ana, &bo]).await;
    owner.channel.rotate(owner.transport()).await.unwrap();
    let forked = fork_of(&owner, &broker);
    pump(&[&ana]).await;
    // Bo is shown another entry in the same place, and nothing else.
    broker.state().online.get_mut(&bo.key()).unwrap().clear();
    bo.channel.on_group_epoch(&forked, bo.transport()).await.unwrap();
    let opened = bo.open(&ana.push(&ana.seal_to(&bo, "hi", "m1"))).await;
    assert_eq!(opened.text.as_deref(), Some("hi"));
    assert!(has(&opened.warnings, "different histories"), "{:?}", opened.warnings);
}

#[tokio::test]
async fn a_frozen_member_learns_of_it_from_a_direct_message() {
    let (broker, owner) = mesh().await;
    let ana = joined("ana", &broker, &owner).await;
    let bo = joined("bo", &broker, &owner).await;
    pump(&[&owner, &ana, &bo]).await;
    let frozen = wire_head(broker.state().state.as_ref().unwrap());
    owner.channel.remove_member(&bo.key(), owner.transport()).await.unwrap();
    broker.state().online.get_mut(&ana.key()).unwrap().clear();
    // The log comes as it was.
    let victim = ana.key();
    broker.tamper(move |caller: &PublicKey, wire_type, reply| {
        if *caller == victim && wire_type == "group_log" {
            reply["entries"] = serde_json::json!([]);
            reply["head"] = json(&frozen);
            reply["more"] = false.into();
        }
    });
    let opened = ana.open(&owner.push(&owner.seal_to(&ana, "hi", "m1"))).await;
    assert!(
        has(&opened.warnings, "olga knows a newer state of the group keys"),
        "{:?}",
        opened.warnings
    );
    // An honest broker would have brought it up to date without a word.
    broker.state().tamper = None;
    let opened = ana.open(&owner.push(&owner.seal_to(&ana, "hi", "m2"))).await;
    assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
    assert_eq!(ana.channel.head(), owner.channel.head());
}

#[tokio::test]
async fn replayed_entries_change_nothing() {
    let (broker, owner) = mesh().await;
    let ana = joined("ana", &broker, &owner).await;
    let frame = {
        let state = broker.state();
        GroupEpoch {
            entries: state.log.iter().map(log_record).collect(),
            seals: Vec::new(),
            head: wire_head(state.state.as_ref().unwrap()),
        }
    };
    let head = ana.channel.head();
    ana.channel.on_group_epoch(&frame, ana.transport()).await.unwrap();
    assert_eq!(ana.channel.head(), head);
    assert!(ana.warnings().is_empty());
}

#[tokio::test]
async fn a_swapped_author_is_refused() {
    let (broker, owner) = mesh().await;
    let ana = joined("ana", &broker, &owner).await;
    let head = ana.channel.head();
    let mut entry = {
        let state = broker.state();
        let member = &owner.identity.member;
        let keys = EpochKeys::from_log(MESH, &broker.owner, &state.log, &state.seals, member, now_ms());
        keys.unwrap().propose_rotate(now_ms()).unwrap().entries.remove(0)
    };
    entry.author = ana.key();
    let head_after = wire_head(broker.state().state.as_ref().unwrap());
    let frame = GroupEpoch {
        entries: vec![log_record(&entry)],
        seals: Vec::new(),
        head: head_after,
    };
    assert!(ana.channel.on_group_epoch(&frame, ana.transport()).await.is_err());
    assert!(has(&ana.warnings(), "breaks its rules"));
    assert_eq!(ana.channel.head(), head);
}

#[tokio::test]
async fn planted_keys_are_refused() {
    let (broker, owner) = mesh().await;
    let ana = joined("ana", &broker, &owner).await;
    // A grant of the member's own mesh state, made by somebody who is not on the roster.
    let mallory = SecretKey::generate();
    let (mut own, _) = EpochKeys::create(MESH, &mallory, &mallory, HistoryPolicy::All, now_ms()).unwrap();
    let device = claudemesh_crypto::group::DeviceEntry::new(
        MESH,
        &ana.identity.member,
        &ana.identity.member,
        claudemesh_crypto::group::Role::Member,
    );
    let admit = own
        .propose(&Change::Admit(device), &Signer::new(&mallory), now_ms())
        .unwrap();
    own.accepted(admit, now_ms()).unwrap();
    let grant = own.grant_for(&ana.key(), None).unwrap();
    let frame = KeyGrantForward { grant: json(&grant) };
    assert!(ana.channel.on_key_grant(&frame, ana.transport()).await.is_err());
    assert!(has(&ana.warnings(), "tried to plant a key"));
    let sealed = ana.seal("@all", "still under the right key", "m1").await.unwrap();
    assert!(owner.open(&ana.push(&sealed)).await.text.is_some());

    let frame = KeyGrantForward {
        grant: serde_json::json!({ "v": 1 }),
    };
    assert!(ana.channel.on_key_grant(&frame, ana.transport()).await.is_err());
}

#[tokio::test]
async fn a_ghost_gets_nothing() {
    let (broker, owner) = mesh().await;
    let ana = joined("ana", &broker, &owner).await;
    let ghost = Peer::member("ghost", &broker);
    broker.state().members.retain(|key| *key != ghost.key());
    ghost.connect().await.unwrap();
    pump(&[&owner, &ana, &ghost]).await;
    assert!(!owner.channel.group_members().contains(&ghost.key()));
    let granted = broker
        .state()
        .grants
        .iter()
        .any(|grant| grant.to == KeyHex(ghost.key().to_string()));
    assert!(!granted);
    let sealed = ana.seal("@all", "x", "m1").await.unwrap();
    assert_eq!(ghost.open(&ana.push(&sealed)).await.text, None);
}

#[tokio::test]
async fn an_admin_signs_the_log_daily() {
    let (broker, owner) = mesh().await;
    let ana = joined("ana", &broker, &owner).await;
    let signed = || broker.state().state.as_ref().unwrap().checkpoint_ms();
    // Ordinary members sign nothing.
    ana.channel.maintain(ana.transport()).await.unwrap();
    assert_eq!(signed(), 0);
    owner.channel.maintain(owner.transport()).await.unwrap();
    let first = signed();
    assert!(first > 0);
    let entries = broker.state().log.len();
    owner.channel.maintain(owner.transport()).await.unwrap();
    assert_eq!(
        (signed(), broker.state().log.len()),
        (first, entries),
        "not before a day has passed"
    );
    pump(&[&owner, &ana]).await;
    ana.channel.maintain(ana.transport()).await.unwrap();
    assert!(ana.warnings().is_empty() && owner.warnings().is_empty());
}

#[tokio::test]
async fn a_log_that_nobody_signs_is_told_once_a_day() {
    let (broker, owner) = mesh().await;
    let eager = SecureOptions {
        stale_after: Duration::ZERO,
        ..options()
    };
    let identity = identity(SecretKey::generate(), Some(broker.owner), None);
    let ana = Peer::with_options("ana", &broker, identity, Arc::new(MemoryKeyStore::new()), eager);
    ana.connect().await.unwrap();
    pump(&[&owner, &ana]).await;
    ana.warnings();
    for _ in 0..3 {
        ana.channel.maintain(ana.transport()).await.unwrap();
    }
    let told = ana.warnings();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(has(&told, "no owner or admin has confirmed who is in this mesh"));
}

#[tokio::test]
async fn keys_of_the_past_are_forgotten_where_nobody_may_read_it() {
    for (history, forgotten) in [(HistoryPolicy::SinceJoin, true), (HistoryPolicy::All, false)] {
        let options = SecureOptions {
            history,
            forget_after: Duration::ZERO,
            ..options()
        };
        let (_broker, owner) = mesh_in(Arc::new(MemoryKeyStore::new()), options).await;
        let old = owner.push(&owner.seal("@all", "old", "m1").await.unwrap());
        owner.channel.maintain(owner.transport()).await.unwrap();
        assert!(owner.open(&old).await.text.is_some(), "the newest key stays");
        owner.channel.rotate(owner.transport()).await.unwrap();
        assert!(
            owner.open(&old).await.text.is_some(),
            "until somebody looks after the keys"
        );
        owner.channel.maintain(owner.transport()).await.unwrap();
        let new = owner.push(&owner.seal("@all", "new", "m2").await.unwrap());
        assert!(owner.open(&new).await.text.is_some());
        assert_eq!(owner.open(&old).await.text.is_none(), forgotten, "{history:?}");
        // Gone from the stored keyring too, and the log does not bring it back.
        owner.connect().await.unwrap();
        assert_eq!(owner.open(&old).await.text.is_none(), forgotten, "{history:?}");
    }
}
