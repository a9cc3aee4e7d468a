//! Invites of both versions.

use super::kit::*;
use claudemesh_client::flows::{CreatedInvite, InviteOptions, create_invite, join, join_as};
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::http::InvitePreset;
use claudemesh_client::proto::model::{Group, GroupName, Priority, Role};
use claudemesh_client::MeshClient;
use claudemesh_crypto::SecretKey;
use std::time::Duration;
use tokio::time::sleep;

async fn invite(client: &MeshClient, options: InviteOptions) -> CreatedInvite {
    let invite = create_invite(client, options).await.unwrap();
    assert_eq!(invite.warning, None);
    invite
}

fn uses(max_uses: u32) -> InviteOptions {
    InviteOptions {
        max_uses,
        ..InviteOptions::default()
    }
}

pub async fn cli_62_no_more_join_than_may(database: Database) {
    let lab = Lab::start(database).await;
    let ana = lab.mesh("Lab", "ana").await;
    let invite = invite(&ana, uses(7)).await;
    let claims = (0..20).map(|number| {
        let link = invite.link.clone();
        tokio::spawn(async move { join(&link, &format!("guest{number}"), None).await })
    });
    let mut joined = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        match within("a claim", claim).await.unwrap() {
            Ok(member) => joined.push(member),
            Err(error) => assert_eq!(error.code(), ErrorCode::InviteExhausted),
        }
    }
    assert_eq!(joined.len(), 7);
    assert_eq!(members(&ana).await.len(), 8);
    // They are members who can read what is sent to all.
    let text = lab.text("welcome");
    ana.send_text("*", &text, Priority::Next).await.unwrap();
    for member in joined {
        let guest = lab.person(member.identity, member.secret).connect().await;
        assert_eq!(recv_text(&guest).await, text);
    }
    lab.finish().await;
}

pub async fn who_is_a_member_already_uses_nothing_up(database: Database) {
    let lab = Lab::start(database).await;
    let ana = lab.mesh("Lab", "ana").await;
    let invite = invite(&ana, uses(2)).await;
    let key = SecretKey::generate();
    let first = join_as(&invite.link, "ben", None, key.clone()).await.unwrap();
    assert!(!first.already_member);
    for _ in 0..3 {
        let again = join_as(&invite.link, "ben", None, key.clone()).await.unwrap();
        assert!(again.already_member);
        assert_eq!(again.identity.member_id, first.identity.member_id);
    }
    let http = lab.http();
    let listed = http.list_invites(&ana.person.identity.member, &first.identity.mesh_id);
    assert_eq!(listed.await.unwrap().invites[0].used_count, 1);
    join(&invite.link, "cara", None).await.unwrap();
    assert_eq!(code(join(&invite.link, "dan", None).await), ErrorCode::InviteExhausted);
    lab.finish().await;
}

pub async fn cli_62_invites_end(database: Database) {
    let lab = Lab::start(database).await;
    let ana = lab.mesh("Lab", "ana").await;
    let identity = &ana.person.identity;
    let short = invite(
        &ana,
        InviteOptions {
            expires_in: Duration::from_secs(1),
            ..InviteOptions::default()
        },
    )
    .await;
    // Whole seconds count.
    sleep(Duration::from_millis(2_100)).await;
    assert_eq!(code(join(&short.link, "late", None).await), ErrorCode::InviteExpired);
    assert_eq!(members(&ana).await.len(), 1);
    let withdrawn = invite(&ana, uses(5)).await;
    join(&withdrawn.link, "in time", None).await.unwrap();
    let http = lab.http();
    let revoke = || http.revoke_invite(&identity.member, &identity.mesh_id, &withdrawn.invite_id);
    revoke().await.unwrap();
    assert_eq!(code(join(&withdrawn.link, "late", None).await), ErrorCode::InviteRevoked);
    assert_eq!(code(revoke().await), ErrorCode::NotFound);
    assert_eq!(code(join("ZZZZZZZZ", "lost", Some(&lab.url())).await), ErrorCode::NotFound);
    lab.finish().await;
}

pub async fn only_those_who_may_invite(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let adam = lab
        .join_with(
            &ana,
            "adam",
            InviteOptions {
                role: Role::Admin,
                ..InviteOptions::default()
            },
        )
        .await;
    assert_eq!(code(create_invite(&ben, uses(1)).await), ErrorCode::Forbidden);
    let by_adam = invite(&adam, uses(3)).await;
    assert!(by_adam.token.is_none(), "only the owner signs tokens of version 1");
    let dan = lab.use_link(&by_adam, "dan").await;
    let text = lab.text("hello dan");
    ana.send_text("*", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&dan).await, text);
    let as_admin = InviteOptions {
        role: Role::Admin,
        ..InviteOptions::default()
    };
    assert_eq!(code(create_invite(&adam, as_admin).await), ErrorCode::Forbidden);

    let (http, mesh) = (lab.http(), ana.person.identity.mesh_id.clone());
    let member = |seat: &Seat| seat.person.identity.member.clone();
    assert_eq!(code(http.list_invites(&member(&ben), &mesh).await), ErrorCode::Forbidden);
    assert_eq!(
        code(http.revoke_invite(&member(&ben), &mesh, &by_adam.invite_id).await),
        ErrorCode::Forbidden
    );
    let stranger = SecretKey::generate();
    assert_eq!(code(http.list_invites(&stranger, &mesh).await), ErrorCode::Unauthorized);
    let other = lab.mesh("Other", "olga").await;
    assert_eq!(
        code(http.revoke_invite(&member(&other), &other.person.identity.mesh_id, &by_adam.invite_id).await),
        ErrorCode::NotFound,
        "invites of another mesh do not exist"
    );
    let listed = http.list_invites(&member(&adam), &mesh).await.unwrap().invites;
    assert!(listed.iter().any(|invite| invite.id == by_adam.invite_id && invite.used_count == 1));
    // An invite of an admin who is gone is of no use.
    let member_id = adam.person.identity.member_id.clone();
    ana.request(claudemesh_client::proto::ops::RemoveMember { member_id }).await.unwrap();
    assert_eq!(code(join(&by_adam.link, "emil", None).await), ErrorCode::BadSignature);
    lab.finish().await;
}

pub async fn a_token_of_version_1_lets_in(database: Database) {
    let lab = Lab::start(database).await;
    let ana = lab.mesh("Lab", "ana").await;
    let made = invite(&ana, uses(2)).await;
    let token = made.token.expect("the owner makes tokens");
    let joined = join(&token, "ben", None).await.unwrap();
    assert!(joined.secret.is_none() && !joined.already_member);
    let ben = lab.person(joined.identity, None).connect().await;
    let text = lab.text("by token");
    ana.send_text("ben", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ben).await, text);
    // The group keys come from whoever is online.
    let text = lab.text("to all");
    ana.send_text("*", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ben).await, text);
    // Token and code are one invite.
    join(&made.link, "cara", None).await.unwrap();
    assert_eq!(code(join(&token, "dan", None).await), ErrorCode::InviteExhausted);
    let forged = token.replacen('A', "B", 1);
    assert!(join(&forged, "eve", None).await.is_err());
    lab.finish().await;
}

pub async fn presets_are_what_new_members_start_with(database: Database) {
    let lab = Lab::start(database).await;
    let ana = lab.mesh("Lab", "ana").await;
    let options = InviteOptions {
        preset: Some(InvitePreset {
            role_tag: Some("backend".to_owned()),
            groups: vec![Group {
                name: GroupName::new("backend/db"),
                role: None,
            }],
            ..InvitePreset::default()
        }),
        ..InviteOptions::default()
    };
    let ben = lab.join_with(&ana, "ben", options).await;
    let seen = member(&ana, &ben.key()).await;
    assert_eq!(seen.role_tag.as_deref(), Some("backend"));
    let text = lab.text("for the group");
    ana.send_text("@backend", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ben).await, text);
    lab.finish().await;
}
