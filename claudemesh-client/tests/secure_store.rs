//! One keyring for all processes of a member, across restarts.
#![allow(missing_docs, clippy::unwrap_used)]

mod secure_support;

use claudemesh_client::secure::FileKeyStore;
use claudemesh_crypto::InviteSecret;
use claudemesh_crypto::group::Role;
use secure_support::*;
use std::sync::Arc;

#[tokio::test]
async fn a_restarted_process_has_its_keys() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(FileKeyStore::new(directory.path()));
    let (broker, owner) = mesh_in(store.clone(), options()).await;
    let ana = joined("ana", &broker, &owner).await;
    let sealed = ana.seal("@all", "hi", "m1").await.unwrap();
    let head = owner.channel.head();

    let restarted = Peer::new(
        "olga",
        &broker,
        owner.identity.clone(),
        Arc::new(FileKeyStore::new(directory.path())),
    );
    restarted.channel.restore().unwrap();
    assert_eq!(restarted.channel.head(), head);
    assert!(restarted.channel.is_ready(), "before any connection");
    assert_eq!(restarted.open(&ana.push(&sealed)).await.text.as_deref(), Some("hi"));
}

#[tokio::test]
async fn two_processes_share_what_each_learns() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, owner) = mesh().await;
    let identity = identity(claudemesh_crypto::SecretKey::generate(), Some(broker.owner), None);
    let store = || Arc::new(FileKeyStore::new(directory.path()));
    let (one, two) = (
        Peer::new("ana", &broker, identity.clone(), store()),
        Peer::new("ana", &broker, identity, store()),
    );
    one.connect().await.unwrap();
    pump(&[&owner, &one]).await;
    two.channel.restore().unwrap();
    assert!(two.channel.is_ready());

    // Each replaces the member's seal key and rotates; both can read under what the other made.
    one.channel.maintain(one.transport()).await.unwrap();
    one.channel.rotate(one.transport()).await.unwrap();
    let sealed = one.seal("@all", "from one", "m1").await.unwrap();
    assert_eq!(two.open(&one.push(&sealed)).await.text.as_deref(), Some("from one"));
    two.channel.rotate(two.transport()).await.unwrap();
    let sealed = two.seal("@all", "from two", "m2").await.unwrap();
    assert_eq!(one.open(&two.push(&sealed)).await.text.as_deref(), Some("from two"));

    // At once: the loser of each race takes the winner's state from the file or the log.
    let (a, b) = tokio::join!(one.channel.rotate(one.transport()), two.channel.rotate(two.transport()));
    a.unwrap();
    b.unwrap();
    pump(&[&owner, &one]).await;
    for (from, to) in [(&one, &two), (&two, &one), (&owner, &one), (&owner, &two)] {
        let sealed = from.seal("@all", "hi", &claudemesh_crypto::random_id()).await.unwrap();
        assert_eq!(to.open(&from.push(&sealed)).await.text.as_deref(), Some("hi"));
    }
}

#[tokio::test]
async fn the_other_process_sees_our_commit_before_we_do() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, owner) = mesh().await;
    let identity = identity(claudemesh_crypto::SecretKey::generate(), Some(broker.owner), None);
    let store = || Arc::new(FileKeyStore::new(directory.path()));
    let (one, two) = (
        Peer::new("ana", &broker, identity.clone(), store()),
        Peer::new("ana", &broker, identity, store()),
    );
    one.connect().await.unwrap();
    pump(&[&owner, &one]).await;

    // The reply to the commit is lost: the entries are in the log, and the new seal key only in the stored proposal.
    broker.tamper(|_, wire_type, reply| {
        if wire_type == "group_commit" {
            *reply = serde_json::json!({ "broken": true });
        }
    });
    assert!(one.channel.maintain(one.transport()).await.is_err());
    broker.state().tamper = None;
    two.connect().await.unwrap();
    assert!(two.channel.is_ready());
    owner.channel.catch_up(owner.transport()).await.unwrap();
    owner.channel.rotate(owner.transport()).await.unwrap();
    two.channel.catch_up(two.transport()).await.unwrap();
    assert!(
        two.channel.is_ready(),
        "the key of the new epoch was sealed to the new seal key"
    );
}

#[tokio::test]
async fn the_invite_secret_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, owner) = mesh().await;
    let secret = InviteSecret::generate();
    owner
        .channel
        .commit_invite(&secret, Role::Member, now_ms() + 60_000, 1, owner.transport())
        .await
        .unwrap();
    owner.disconnect();
    let identity = identity(claudemesh_crypto::SecretKey::generate(), Some(broker.owner), None);
    let store = || Arc::new(FileKeyStore::new(directory.path()));
    Peer::new("ana", &broker, identity.clone(), store())
        .channel
        .join_with_invite_secret(&secret)
        .unwrap();
    let ana = Peer::new("ana", &broker, identity, store());
    ana.connect().await.unwrap();
    assert!(ana.channel.is_ready());
}

#[tokio::test]
async fn a_foreign_or_damaged_keyring_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(FileKeyStore::new(directory.path()));
    let (broker, _owner) = mesh_in(store.clone(), options()).await;
    let before = std::fs::read(store.path(MESH)).unwrap();
    let identity = identity(claudemesh_crypto::SecretKey::generate(), Some(broker.owner), None);
    let other = Peer::new("eve", &broker, identity, store.clone());
    let failed = other.connect().await.unwrap_err();
    assert!(failed.to_string().contains("belongs to another member"), "{failed}");
    assert_eq!(std::fs::read(store.path(MESH)).unwrap(), before);
}
