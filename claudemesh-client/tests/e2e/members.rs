//! Members are removed, meshes are closed.

use super::kit::*;
use claudemesh_client::flows::{InviteOptions, join_as};
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{DeliveryStage, MemberId, Priority, Role};
use claudemesh_client::proto::ops::{MeshInfo, RemoveMember};
use claudemesh_client::{ClientError, ClientEvent, MeshClient};

async fn remove(client: &MeshClient, member: &Seat) -> Result<(), ClientError> {
    let member_id = member.person.identity.member_id.clone();
    client.request(RemoveMember { member_id }).await.map(drop)
}

fn admin() -> InviteOptions {
    InviteOptions {
        role: Role::Admin,
        ..InviteOptions::default()
    }
}

pub async fn only_those_who_may_remove_members(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let adam = lab.join_with(&ana, "adam", admin()).await;
    let amy = lab.join_with(&ana, "amy", admin()).await;
    assert_eq!(member(&ben, &adam.key()).await.permission, Role::Admin);
    for (actor, subject) in [(&ben, &cara), (&ben, &adam), (&ben, &ana), (&adam, &amy), (&adam, &ana)] {
        assert_eq!(code(remove(actor, subject).await), ErrorCode::Forbidden);
    }
    assert_eq!(code(remove(&ana, &ana).await), ErrorCode::Forbidden, "the owner stays");
    let nobody = RemoveMember {
        member_id: MemberId::from("nobody"),
    };
    let (code, field) = refusal(ana.request(nobody).await);
    assert_eq!((code, field.as_deref()), (ErrorCode::NotFound, Some("/memberId")));
    assert_eq!(members(&ana).await.len(), 5);
    // An admin removes a member, the owner an admin, and anybody themselves.
    remove(&adam, &ben).await.unwrap();
    remove(&ana, &amy).await.unwrap();
    remove(&cara, &cara).await.unwrap();
    assert_eq!(closed(&cara).await.expect("a reason").code(), ErrorCode::Revoked);
    let names: Vec<_> = members(&ana).await.into_iter().map(|member| member.display_name).collect();
    assert_eq!(names, ["ana", "adam"]);
    lab.finish().await;
}

pub async fn a_removed_member_is_out_at_once(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let mut events = cara.events();
    let second = ben.person.connect().await;
    // Waiting at the broker, once in memory and once on disk only.
    let held = ana.send_text("ben", &lab.text("held"), Priority::Low).await.unwrap();
    remove(&ana, &ben).await.unwrap();
    for session in [&ben.client, &second] {
        let error = closed(session).await.expect("a reason");
        assert_eq!(error.code(), ErrorCode::Revoked);
    }
    let told = event(&mut events, "the news", |event| match event {
        ClientEvent::System(push) if push.event.as_deref() == Some("member_removed") => push.event_data.clone(),
        _ => None,
    });
    assert_eq!(told.await["pubkey"], ben.key().as_str());
    let receipts = all_receipts(&ana, &held.message_id).await;
    assert_eq!(receipts.last().map(|receipt| receipt.1), Some(DeliveryStage::Revoked));
    assert_eq!(line_of(&ana, &held.message_id, &ben.key()).await.status, "revoked");
    for round in 0..2 {
        assert_eq!(code(ben.person.builder().connect().await), ErrorCode::Revoked, "round {round}");
        assert_eq!(
            code(ana.send_to(&ben.person.address(), &lab.text("x"), Priority::Now).await),
            ErrorCode::NoSuchPeer
        );
        lab.restart().await;
        within("the connection", ana.request(MeshInfo {})).await.unwrap();
    }
    // Signed requests of the removed key are refused as well.
    let identity = &ben.person.identity;
    assert_eq!(
        code(lab.http().list_members(&identity.member, &identity.mesh_id).await),
        ErrorCode::Revoked
    );
    // With a new invite the same key is a member again.
    let invite = claudemesh_client::flows::create_invite(&ana, InviteOptions::default()).await.unwrap();
    let again = join_as(&invite.link, "ben", None, identity.member.clone()).await.unwrap();
    let back = lab.person(again.identity, again.secret).connect().await;
    let text = lab.text("welcome back");
    ana.send_text("ben", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&back).await, text);
    lab.finish().await;
}

pub async fn what_waited_for_an_absent_member_ends_as_revoked(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    ben.client.close().await;
    let direct = ana.send_text("ben", &lab.text("waits"), Priority::Next).await.unwrap();
    let to_all = ana.send_text("*", &lab.text("waits"), Priority::Next).await.unwrap();
    recv(&cara).await;
    remove(&ana, &ben).await.unwrap();
    for sent in [&direct, &to_all] {
        wait_stage(&ana, &sent.message_id, &ben.key(), DeliveryStage::Revoked).await;
        assert!(line_of(&ana, &sent.message_id, &ben.key()).await.reason.is_some());
    }
    lab.finish().await;
}

pub async fn an_archived_mesh_is_cut_off(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let other = lab.mesh("Other", "olga").await;
    let (http, mesh) = (lab.http(), ana.person.identity.mesh_id.clone());
    assert_eq!(
        code(http.archive_mesh(&ben.person.identity.member, &mesh).await),
        ErrorCode::Forbidden
    );
    assert_eq!(
        code(http.archive_mesh(&other.person.identity.member, &mesh).await),
        ErrorCode::Unauthorized
    );
    http.archive_mesh(&ana.person.identity.member, &mesh).await.unwrap();
    for seat in [&ana, &ben, &cara] {
        assert_eq!(closed(seat).await.expect("a reason").code(), ErrorCode::Archived);
    }
    for _ in 0..2 {
        assert_eq!(code(ben.person.builder().connect().await), ErrorCode::Archived);
        lab.restart().await;
    }
    within("the other mesh", other.request(MeshInfo {})).await.unwrap();
    lab.finish().await;
}
