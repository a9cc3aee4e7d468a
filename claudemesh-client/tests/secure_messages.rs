//! Opening messages: what is proven, and what a dishonest broker changed.
#![allow(missing_docs, clippy::unwrap_used)]

mod secure_support;

use claudemesh_crypto::{encode_plain_text, seal_direct};
use claudemesh_proto::model::{Base64, KeyHex, Priority};
use claudemesh_proto::tools::MessageKind;
use secure_support::*;

async fn trio() -> (std::sync::Arc<Broker>, Peer, Peer, Peer) {
    let (broker, owner) = mesh().await;
    let ana = joined("ana", &broker, &owner).await;
    let bo = joined("bo", &broker, &owner).await;
    pump(&[&owner, &ana, &bo]).await;
    (broker, owner, ana, bo)
}

#[tokio::test]
async fn direct_messages_prove_the_member() {
    let (_broker, _owner, ana, bo) = trio().await;
    let sealed = ana.seal_to(&bo, "hi", "m1");
    let push = ana.push(&sealed);
    let opened = bo.open(&push).await;
    assert_eq!(
        (opened.text.as_deref(), opened.kind, opened.authenticated),
        (Some("hi"), MessageKind::Direct, true)
    );
    assert_eq!(opened.sender_member, Some(ana.key()));
    assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
    let again = bo.open(&push).await;
    assert!(again.duplicate && again.warnings.is_empty());
}

#[tokio::test]
async fn a_broker_that_names_another_member_is_found_out() {
    let (_broker, owner, ana, bo) = trio().await;
    let mut push = ana.push(&ana.seal_to(&bo, "hi", "m1"));
    push.sender_member = Some(KeyHex(owner.key().to_string()));
    push.sender_name = Some("olga".to_owned());
    let opened = bo.open(&push).await;
    assert_eq!(opened.sender_member, Some(ana.key()));
    assert!(opened.authenticated);
    assert!(has(&opened.warnings, "The broker names olga"));

    // A session of its own, said to be ana's, without a proof.
    let mallory = claudemesh_crypto::SecretKey::generate();
    let body = seal_direct(&mallory, &bo.key(), b"pay me").unwrap();
    push = ana.push(&ana.seal_to(&bo, "x", "m2"));
    push.sender_pubkey = mallory.public().to_string();
    (push.nonce, push.ciphertext, push.meta) = (Base64(body.nonce), Base64(body.ciphertext), None);
    let opened = bo.open(&push).await;
    assert!(!opened.authenticated);
    assert!(
        has(&opened.warnings, "protected details of this message"),
        "ana has sent them before: {:?}",
        opened.warnings
    );
}

#[tokio::test]
async fn changed_facts_of_a_direct_message_show() {
    let (_broker, _owner, ana, bo) = trio().await;
    let mut push = ana.push(&ana.seal_to(&bo, "one", "m1"));
    push.priority = Priority::Now;
    assert!(has(&bo.open(&push).await.warnings, "changed the priority"));

    let mut push = ana.push(&ana.seal_to(&bo, "two", "m2"));
    push.message_id = "other".into();
    let opened = bo.open(&push).await;
    assert!(opened.authenticated);
    assert!(has(&opened.warnings, "changed the id"));

    let three = ana.push(&ana.seal_to(&bo, "three", "m3"));
    let mut four = ana.push(&ana.seal_to(&bo, "four", "m4"));
    four.meta = three.meta.clone();
    let opened = bo.open(&four).await;
    assert!(!opened.authenticated);
    assert!(has(&opened.warnings, "belong to another message"));

    let mut five = ana.push(&ana.seal_to(&bo, "five", "m5"));
    five.meta = None;
    assert!(has(&bo.open(&five).await.warnings, "are missing"));
}

#[tokio::test]
async fn gaps_and_replays_show() {
    let (_broker, owner, ana, bo) = trio().await;
    let pushes: Vec<_> = (1..=5)
        .map(|n| ana.push(&ana.seal_to(&bo, "x", &format!("m{n}"))))
        .collect();
    assert!(bo.open(&pushes[0]).await.warnings.is_empty());
    let opened = bo.open(&pushes[3]).await;
    assert!(has(
        &opened.warnings,
        "2 messages from ana were sent before this one and did not arrive here"
    ));
    let late = bo.open(&pushes[1]).await;
    assert!(late.text.is_some() && has(&late.warnings, "was sent before others"));
    let mut renamed = pushes[0].clone();
    renamed.message_id = "fresh".into();
    let opened = bo.open(&renamed).await;
    assert_eq!(opened.text, None);
    assert!(opened.duplicate && has(&opened.warnings, "was repeated"));

    let first = owner.push(&owner.seal("@all", "1", "g1").await.unwrap());
    let _second = owner.seal("@all", "2", "g2").await.unwrap();
    let third = owner.push(&owner.seal("@all", "3", "g3").await.unwrap());
    assert!(bo.open(&first).await.warnings.is_empty());
    assert!(has(
        &bo.open(&third).await.warnings,
        "1 message from olga was sent before"
    ));
    let mut replayed = first.clone();
    replayed.message_id = "g9".into();
    let opened = bo.open(&replayed).await;
    assert_eq!(opened.text, None, "the id is bound");
    assert!(has(&opened.warnings, "altered"));
    assert!(bo.open(&first).await.duplicate);
}

#[tokio::test]
async fn changed_facts_of_a_group_message_show() {
    let (_broker, owner, ana, bo) = trio().await;
    let sealed = ana.seal("@backend", "hi", "g1").await.unwrap();
    let mut push = ana.push(&sealed);
    push.priority = Priority::Low;
    let opened = bo.open(&push).await;
    assert_eq!(opened.text.as_deref(), Some("hi"));
    assert!(has(&opened.warnings, "changed the priority"));

    let mut push = ana.push(&ana.seal("@backend", "hi", "g2").await.unwrap());
    push.target.as_mut().unwrap().spec = "@all".to_owned();
    push.sender_member = Some(KeyHex(owner.key().to_string()));
    let opened = bo.open(&push).await;
    assert_eq!(
        (opened.kind, opened.sender_member),
        (MessageKind::Group, Some(ana.key()))
    );
    assert!(has(&opened.warnings, "changed the target") && has(&opened.warnings, "The broker names"));

    let mut push = ana.push(&ana.seal("@backend", "hi", "g3").await.unwrap());
    push.sealed.as_mut().unwrap().device = KeyHex(owner.key().to_string());
    let opened = bo.open(&push).await;
    assert_eq!((opened.text, opened.authenticated), (None, false), "a swapped author");
    assert!(has(&opened.warnings, "altered"));

    let mut push = ana.push(&ana.seal("@backend", "hi", "g4").await.unwrap());
    push.sealed.as_mut().unwrap().device = KeyHex(claudemesh_crypto::SecretKey::generate().public().to_string());
    assert!(
        has(&bo.open(&push).await.warnings, "not a member of this mesh"),
        "a ghost"
    );
}

#[tokio::test]
async fn clear_text_is_read_and_marked() {
    let (_broker, _owner, ana, bo) = trio().await;
    let plain = encode_plain_text("hello");
    let mut push = ana.push(&ana.seal("@all", "x", "g1").await.unwrap());
    (push.nonce, push.ciphertext, push.sealed) = (Base64(plain.nonce), Base64(plain.ciphertext), None);
    let opened = bo.open(&push).await;
    assert_eq!(
        (opened.text.as_deref(), opened.kind),
        (Some("hello"), MessageKind::Broadcast)
    );
    assert!(!opened.authenticated && has(&opened.warnings, "not encrypted"));
}

#[tokio::test]
async fn original_clients_open_with_their_session_key_and_are_opened() {
    let (_broker, _owner, ana, bo) = trio().await;
    let session = claudemesh_crypto::SecretKey::generate();
    let sealed = ana
        .channel
        .seal_direct(&session.public(), None, b"hi", "m1", Priority::Next, None)
        .unwrap();
    let body = claudemesh_crypto::open_direct(
        &[&session],
        &ana.channel.session_key(),
        sealed.nonce.as_str(),
        sealed.ciphertext.as_str(),
    )
    .unwrap();
    assert_eq!(body.as_slice(), b"hi");

    // From one: no proof that the session is the member's, as the box alone has none.
    let body = seal_direct(&session, &bo.key(), b"hello").unwrap();
    let stranger = Peer::member("old", &bo.broker);
    let mut push = stranger.push(&stranger.seal_to(&bo, "x", "m2"));
    push.sender_pubkey = session.public().to_string();
    (push.nonce, push.ciphertext, push.meta) = (Base64(body.nonce), Base64(body.ciphertext), None);
    let opened = bo.open(&push).await;
    assert_eq!((opened.text.as_deref(), opened.authenticated), (Some("hello"), false));
    assert!(has(&opened.warnings, "the broker's word"));
}
