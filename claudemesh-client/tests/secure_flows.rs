//! Into the encrypted group and out of it, without a socket.
#![allow(missing_docs, clippy::unwrap_used)]

mod secure_support;

use claudemesh_client::secure::MemoryKeyStore;
use claudemesh_client::secure::{AdmitPolicy, SecureEvent, SecureOptions};
use claudemesh_crypto::group::{HistoryPolicy, Role};
use claudemesh_crypto::{InviteSecret, SecretKey};
use claudemesh_proto::ErrorCode;
use secure_support::*;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn owner_starts_the_log_once() {
    let (broker, owner) = mesh().await;
    assert!(owner.channel.is_ready());
    assert_eq!(broker.state().log.len(), 2, "genesis and the first epoch");
    owner.connect().await.unwrap();
    assert_eq!(broker.state().log.len(), 2);
    let again = Peer::new("olga", &broker, owner.identity.clone(), Arc::new(MemoryKeyStore::new()));
    again.connect().await.unwrap();
    assert!(again.channel.is_ready(), "an empty store is filled from the log");
    assert_eq!(again.channel.head(), owner.channel.head());
}

#[tokio::test]
async fn invite_secret_lets_in_with_nobody_online() {
    let (broker, owner) = mesh().await;
    let early = owner.seal("@all", "before", "m1").await.unwrap();
    let secret = InviteSecret::generate();
    owner
        .channel
        .commit_invite(&secret, Role::Member, now_ms() + 60_000, 1, owner.transport())
        .await
        .unwrap();
    owner.disconnect();

    let ana = Peer::member("ana", &broker);
    ana.channel.join_with_invite_secret(&secret).unwrap();
    ana.connect().await.unwrap();
    assert!(ana.channel.is_ready());
    assert!(broker.state().requests.is_empty(), "nobody was asked");
    let opened = ana.open(&owner.push(&early)).await;
    assert_eq!(opened.text.as_deref(), Some("before"), "history is handed on");
    assert!(opened.authenticated);

    // The link was for one: the next one has to ask.
    let bo = Peer::member("bo", &broker);
    bo.channel.join_with_invite_secret(&secret).unwrap();
    bo.connect().await.unwrap();
    assert!(!bo.channel.is_ready());
    assert!(has(&bo.warnings(), "no longer admits"));
    owner.connect().await.unwrap();
    pump(&[&owner, &ana, &bo]).await;
    assert!(bo.channel.is_ready());
}

#[tokio::test]
async fn without_history_a_joiner_reads_only_what_follows() {
    let options = SecureOptions {
        history: HistoryPolicy::SinceJoin,
        ..options()
    };
    let (broker, owner) = mesh_in(Arc::new(MemoryKeyStore::new()), options).await;
    let early = owner.seal("@all", "before", "m1").await.unwrap();
    let secret = InviteSecret::generate();
    owner
        .channel
        .commit_invite(&secret, Role::Member, now_ms() + 60_000, 1, owner.transport())
        .await
        .unwrap();
    let ana = Peer::member("ana", &broker);
    ana.channel.join_with_invite_secret(&secret).unwrap();
    ana.connect().await.unwrap();
    pump(&[&owner, &ana]).await;
    assert!(ana.channel.is_ready() && owner.channel.is_ready());
    let late = owner.seal("@all", "after", "m2").await.unwrap();
    assert_eq!(ana.open(&owner.push(&late)).await.text.as_deref(), Some("after"));
    assert_eq!(ana.open(&owner.push(&early)).await.text, None);
}

#[tokio::test]
async fn without_the_secret_the_owner_admits_and_a_person_is_told() {
    let (broker, owner) = mesh().await;
    let ana = Peer::member("ana", &broker);
    ana.connect().await.unwrap();
    assert!(!ana.channel.is_ready());
    let failed = ana.seal("@all", "hi", "m1").await.unwrap_err();
    assert_eq!(failed.code(), ErrorCode::Unavailable);
    assert!(failed.to_string().contains("not admitted"), "{failed}");
    pump(&[&owner, &ana]).await;
    assert!(ana.channel.is_ready());
    assert_eq!(
        ana.channel
            .take_events()
            .iter()
            .filter(|event| **event == SecureEvent::Ready)
            .count(),
        1
    );
    assert!(has(&owner.warnings(), "compare the safety number"));
    let sealed = ana.seal("@backend", "hi", "m1").await.unwrap();
    assert_eq!(owner.open(&ana.push(&sealed)).await.text.as_deref(), Some("hi"));
}

#[tokio::test]
async fn a_send_waits_for_the_key() {
    let (broker, owner) = mesh().await;
    let options = SecureOptions {
        key_wait: Duration::from_secs(20),
        ..options()
    };
    let identity = identity(SecretKey::generate(), Some(broker.owner), None);
    let ana = Peer::with_options("ana", &broker, identity, Arc::new(MemoryKeyStore::new()), options);
    ana.connect().await.unwrap();
    let (sealed, ()) = tokio::join!(ana.seal("@all", "hi", "m1"), async {
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            pump(&[&owner, &ana]).await;
        }
    });
    assert_eq!(
        owner.open(&ana.push(&sealed.unwrap())).await.text.as_deref(),
        Some("hi")
    );
}

#[tokio::test]
async fn a_member_before_the_owner_is_admitted_when_the_owner_comes() {
    let key = SecretKey::generate();
    let broker = Broker::new(key.public());
    let ana = Peer::member("ana", &broker);
    ana.connect().await.unwrap();
    let failed = ana.seal("@all", "hi", "m1").await.unwrap_err();
    assert!(
        failed.to_string().contains("owner of this mesh has not started"),
        "{failed}"
    );
    let owner = Peer::new(
        "olga",
        &broker,
        identity(SecretKey::generate(), None, Some(key)),
        ana_store(),
    );
    owner.connect().await.unwrap();
    pump(&[&owner, &ana]).await;
    assert!(ana.channel.is_ready());
}

fn ana_store() -> Arc<MemoryKeyStore> {
    Arc::new(MemoryKeyStore::new())
}

#[tokio::test]
async fn who_is_not_enrolled_or_must_be_asked_about_is_not_admitted() {
    let options = SecureOptions {
        admit: AdmitPolicy::Ask,
        ..options()
    };
    let (broker, owner) = mesh_in(Arc::new(MemoryKeyStore::new()), options).await;
    let ana = Peer::member("ana", &broker);
    ana.connect().await.unwrap();
    pump(&[&owner, &ana]).await;
    assert!(!ana.channel.is_ready());
    let events = owner.channel.take_events();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, SecureEvent::AdmissionAsked { member, .. } if *member == ana.key()))
    );

    let (broker, owner) = mesh().await;
    let stranger = Peer::member("eve", &broker);
    broker.state().members.retain(|key| *key != stranger.key());
    stranger.connect().await.unwrap();
    pump(&[&owner, &stranger]).await;
    assert!(!stranger.channel.is_ready());
}

#[tokio::test]
async fn a_removed_member_reads_nothing_new_and_does_not_come_back_by_itself() {
    let (broker, owner) = mesh().await;
    let ana = joined("ana", &broker, &owner).await;
    let bo = joined("bo", &broker, &owner).await;
    pump(&[&owner, &ana, &bo]).await;
    let first = owner.seal("@all", "for all", "m1").await.unwrap();
    for peer in [&ana, &bo] {
        assert_eq!(peer.open(&owner.push(&first)).await.text.as_deref(), Some("for all"));
    }
    assert!(owner.channel.remove_member(&bo.key(), owner.transport()).await.unwrap());
    assert!(
        !owner.channel.remove_member(&bo.key(), owner.transport()).await.unwrap(),
        "gone already"
    );
    pump(&[&owner, &ana, &bo]).await;
    assert!(bo.channel.take_events().contains(&SecureEvent::RemovedSelf));
    let second = ana.seal("@all", "secret", "m2").await.unwrap();
    assert_eq!(owner.open(&ana.push(&second)).await.text.as_deref(), Some("secret"));
    let opened = bo.open(&ana.push(&second)).await;
    assert_eq!(opened.text, None);
    assert!(has(&opened.warnings, "cannot be read"), "{:?}", opened.warnings);
    assert!(bo.seal("@all", "let me in", "m3").await.is_err());

    // The broker lists it as a member and repeats its request.
    bo.connect().await.unwrap();
    pump(&[&owner, &ana, &bo]).await;
    assert!(!bo.channel.is_ready());
    assert!(has(&owner.warnings(), "asks for the group keys again"));
}

#[tokio::test]
async fn removal_while_a_message_is_under_way_is_sealed_again() {
    let (broker, owner) = mesh().await;
    let ana = joined("ana", &broker, &owner).await;
    let bo = joined("bo", &broker, &owner).await;
    pump(&[&owner, &ana, &bo]).await;
    let old = ana.seal("@all", "text", "m1").await.unwrap();
    owner.channel.remove_member(&bo.key(), owner.transport()).await.unwrap();
    let fresh = ana.channel.reseal(&old, b"text", ana.transport()).await.unwrap();
    let (old_seal, new_seal) = (old.sealed.unwrap(), fresh.sealed.clone().unwrap());
    assert!(new_seal.epoch > old_seal.epoch);
    assert_eq!((fresh.id.as_deref(), new_seal.seq), (Some("m1"), old_seal.seq));
    assert_eq!(owner.open(&ana.push(&fresh)).await.text.as_deref(), Some("text"));
    assert_eq!(bo.open(&ana.push(&fresh)).await.text, None);
    let next = ana.seal("@all", "next", "m2").await.unwrap();
    assert!(owner.open(&ana.push(&next)).await.warnings.is_empty(), "no gap");
}

#[tokio::test]
async fn racing_committers_all_get_through() {
    let (broker, owner) = mesh().await;
    let secrets: Vec<_> = (0..4).map(|_| InviteSecret::generate()).collect();
    for secret in &secrets {
        owner
            .channel
            .commit_invite(secret, Role::Member, now_ms() + 60_000, 1, owner.transport())
            .await
            .unwrap();
    }
    let joiners: Vec<_> = secrets
        .iter()
        .map(|secret| {
            let peer = Peer::member("joiner", &broker);
            peer.channel.join_with_invite_secret(secret).unwrap();
            peer
        })
        .collect();
    let racing = joiners.iter().map(Peer::connect);
    for outcome in futures_util::future::join_all(racing).await {
        outcome.unwrap();
    }
    let mut all: Vec<&Peer> = joiners.iter().collect();
    all.push(&owner);
    pump(&all).await;
    assert!(
        all.iter()
            .all(|peer| peer.channel.is_ready() && peer.channel.head() == owner.channel.head())
    );
    assert!(broker.state().calls["group_commit"] > 9, "some lost a race");
    let rotations = all.iter().map(|peer| peer.channel.rotate(peer.transport()));
    for outcome in futures_util::future::join_all(rotations).await {
        outcome.unwrap();
    }
    pump(&all).await;
    assert!(
        all.iter()
            .all(|peer| peer.channel.is_ready() && peer.channel.head() == owner.channel.head())
    );
}

#[tokio::test]
async fn twenty_missed_epochs_are_caught_up() {
    let (broker, owner) = mesh().await;
    let ana = joined("ana", &broker, &owner).await;
    ana.disconnect();
    let mut sealed = Vec::new();
    for number in 0..20 {
        sealed.push(
            owner
                .seal("@all", &format!("text {number}"), &format!("m{number}"))
                .await
                .unwrap(),
        );
        owner.channel.rotate(owner.transport()).await.unwrap();
    }
    // A message comes before the news of the log: it brings them.
    let opened = ana.open(&owner.push(&sealed[10])).await;
    assert_eq!(opened.text.as_deref(), Some("text 10"));
    ana.connect().await.unwrap();
    assert_eq!(ana.channel.head(), owner.channel.head());
    for (number, envelope) in sealed.iter().enumerate().skip(11) {
        assert_eq!(
            ana.open(&owner.push(envelope)).await.text,
            Some(format!("text {number}"))
        );
    }
}

#[tokio::test]
async fn maintenance_replaces_what_is_due() {
    let options = SecureOptions {
        rotate_messages: 3,
        ..options()
    };
    let (broker, owner) = mesh_in(Arc::new(MemoryKeyStore::new()), options).await;
    let ana = joined("ana", &broker, &owner).await;
    let now = i64::try_from(now_ms()).unwrap();
    assert!(
        ana.channel.reseal_due(now),
        "the first seal key is derived from the member key"
    );
    ana.channel.maintain(ana.transport()).await.unwrap();
    assert!(!ana.channel.reseal_due(now));
    pump(&[&owner, &ana]).await;
    assert!(!owner.channel.rotation_due(now));
    assert!(owner.channel.rotation_due(now + 25 * 60 * 60 * 1000), "daily");
    for number in 0..3 {
        owner.seal("@all", "x", &format!("m{number}")).await.unwrap();
    }
    assert!(owner.channel.rotation_due(now));
    let before = owner.channel.head().unwrap().epoch;
    owner.channel.maintain(owner.transport()).await.unwrap();
    assert_eq!(owner.channel.head().unwrap().epoch, before + 1);
    pump(&[&owner, &ana]).await;
    let sealed = owner.seal("@all", "under the new seal key", "n1").await.unwrap();
    assert!(ana.open(&owner.push(&sealed)).await.text.is_some());
}

#[tokio::test]
async fn an_original_broker_has_no_group_keys() {
    let owner = SecretKey::generate();
    let broker = Broker::new(owner.public());
    let ana = Peer::member("ana", &broker);
    let ack = serde_json::from_value(serde_json::json!({ "presenceId": "p", "memberDisplayName": "ana" })).unwrap();
    ana.channel.on_connected(ana.transport(), &ack).await.unwrap();
    assert!(broker.state().calls.is_empty());
    let failed = ana.seal("@all", "hi", "m1").await.unwrap_err();
    assert_eq!(failed.code(), ErrorCode::UnknownType);
}
