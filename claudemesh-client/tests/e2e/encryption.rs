//! Who can read what.

use super::kit::*;
use claudemesh_client::MeshClient;
use claudemesh_client::flows::{CreateOptions, InviteOptions, create_invite, create_mesh_with, join};
use claudemesh_client::proto::frame::Push;
use claudemesh_client::proto::model::Priority;
use claudemesh_client::proto::ops::RemoveMember;
use claudemesh_crypto::SecretKey;
use claudemesh_crypto::group::HistoryPolicy;

/// What this client makes of a frame that was for somebody else.
async fn open(client: &MeshClient, push: &Push) -> Option<String> {
    client.secure().open(push, client.transport()).await.text
}

/// The next message of a socket as the broker sent it.
async fn tap(socket: &mut Socket) -> Push {
    serde_json::from_value(socket.next_message().await).unwrap()
}

pub async fn a_removed_member_reads_nothing_new(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    cara.client.close().await;
    let mut wire = Socket::v2(&lab, &cara.person, &SecretKey::generate()).await;
    let before = lab.text("ben is one of us");
    ana.send_text("*", &before, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ben).await, before);
    let old = tap(&mut wire).await;
    assert!(old.sealed.is_some());

    let key = ben.person.identity.public();
    assert!(ana.secure().remove_member(&key, ana.transport()).await.unwrap());
    let member_id = ben.person.identity.member_id.clone();
    ana.request(RemoveMember { member_id }).await.unwrap();
    closed(&ben).await;
    let after = [lab.text("ben is gone"), lab.text("ben is still gone")];
    ana.send_text("@all", &after[0], Priority::Now).await.unwrap();
    ana.send_text("*", &after[1], Priority::Now).await.unwrap();
    let new = [tap(&mut wire).await, tap(&mut wire).await];
    let epoch = |push: &Push| push.sealed.as_ref().unwrap().epoch;
    assert!(epoch(&new[0]) > epoch(&old));

    // With all that it has: its running client, and a fresh one on the same keyring.
    assert_eq!(
        open(&ben, &old).await,
        Some(before.clone()),
        "it can still read what it could"
    );
    let fresh = ben.person.builder().start().unwrap();
    for push in &new {
        for client in [&ben.client, &fresh] {
            assert_eq!(open(client, push).await, None);
        }
    }
    let cara = cara.person.connect().await;
    for (push, text) in new.iter().zip(&after) {
        let opened = eventually("the keys", || async { open(&cara, push).await });
        assert_eq!(opened.await, *text);
    }
    lab.finish().await;
}

pub async fn who_joins_may_read_what_was_said_before(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    cara.client.close().await;
    let mut wire = Socket::v2(&lab, &cara.person, &SecretKey::generate()).await;
    let text = lab.text("before dan");
    ana.send_text("*", &text, Priority::Now).await.unwrap();
    let push = tap(&mut wire).await;
    let dan = lab.join(&ana, "dan").await;
    // Unless the mesh was created otherwise, those who join may read the past: what they have of it they can open.
    let opened = eventually("the keys", || async { open(&dan, &push).await });
    assert_eq!(opened.await, text);
    // It is not delivered to them: it was not for them.
    expect_nothing(&lab, &ben, &dan).await;
    // Somebody of another mesh opens nothing.
    let olga = lab.mesh("Other", "olga").await;
    assert_eq!(open(&olga, &push).await, None);
    lab.finish().await;
}

pub async fn who_joins_reads_only_what_follows_if_the_mesh_says_so(database: Database) {
    let lab = Lab::start(database).await;
    let options = CreateOptions {
        display_name: Some("ana".to_owned()),
        history: HistoryPolicy::SinceJoin,
        ..CreateOptions::new("Closed")
    };
    let created = create_mesh_with(&lab.url(), options).await.unwrap();
    lab.keep_secret("owner key", &*created.identity.owner.as_ref().unwrap().seed());
    let ana = lab.person(created.identity.clone(), None);
    created.remember(ana.keys()).unwrap();
    // Whatever connects first, a process that was told nothing else, starts the keys with the policy.
    let ana = ana.connect().await;
    let cara = lab.join(&ana, "cara").await;
    eventually("the keys", || async { cara.secure().is_ready().then_some(()) }).await;
    cara.client.close().await;
    let mut wire = Socket::v2(&lab, &cara.person, &SecretKey::generate()).await;
    // The invites are older than the messages, which must not help.
    let invite = create_invite(&ana, InviteOptions::default()).await.unwrap();
    let bare = create_invite(&ana, InviteOptions::default()).await.unwrap();
    let before = [lab.text("before ben and dan"), lab.text("also before them")];
    ana.send_text("*", &before[0], Priority::Now).await.unwrap();
    ana.send_text("@all", &before[1], Priority::Now).await.unwrap();
    let old = [tap(&mut wire).await, tap(&mut wire).await];

    // One has the secret of the link, the other gets the keys from a member.
    let ben = lab.use_link(&invite, "ben").await;
    let dan = join(&bare.code, "dan", Some(&lab.url())).await.unwrap();
    let dan = lab.person(dan.identity, None);
    let running = dan.connect().await;
    let after = lab.text("after ben and dan");
    eventually("both are in the group", || async {
        (ben.secure().is_ready() && running.secure().is_ready() && ana.secure().group_members().len() == 4)
            .then_some(())
    })
    .await;
    ana.send_text("*", &after, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ben).await, after);
    assert_eq!(recv_text(&running).await, after);
    let epoch = |push: &Push| push.sealed.as_ref().unwrap().epoch;
    let new = tap(&mut wire).await;
    assert!(epoch(&new) > epoch(&old[0]));

    // With all that they have: their running clients, and fresh ones on the same keyrings.
    running.close().await;
    ben.client.close().await;
    let (ben_again, dan_again) = (ben.person.connect().await, dan.connect().await);
    let cara = cara.person.connect().await;
    for (push, text) in old.iter().zip(&before) {
        for client in [&ben.client, &running, &ben_again, &dan_again] {
            assert_eq!(open(client, push).await, None);
        }
        // The frame is a good one: who was there opens it.
        assert_eq!(open(&cara, push).await.as_ref(), Some(text));
    }
    for client in [&ben_again, &dan_again] {
        assert_eq!(open(client, &new).await.as_ref(), Some(&after));
    }
    lab.finish().await;
}

pub async fn defect_040_sub_e_02_cli_02_who_joins_by_code_alone_gets_the_keys_from_a_member(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let invite = claudemesh_client::flows::create_invite(&ana, Default::default())
        .await
        .unwrap();
    let joined = claudemesh_client::flows::join(&invite.code, "dan", Some(&lab.url()))
        .await
        .unwrap();
    assert!(joined.secret.is_none());
    assert_eq!(joined.warnings.len(), 2, "{:?}", joined.warnings);
    let dan = lab.person(joined.identity, None).connect().await;
    let text = lab.text("to the newcomer too");
    ben.send_text("*", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&dan).await, text);
    assert_eq!(recv_text(&ana).await, text);
    let text = lab.text("from the newcomer");
    dan.send_text("*", &text, Priority::Now).await.unwrap();
    let message = recv(&ana).await;
    assert_eq!(message.text.as_ref(), Some(&text));
    assert!(message.authenticated);
    lab.finish().await;
}
