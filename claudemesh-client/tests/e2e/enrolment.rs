//! Who gets in, who edits whom, and what ends a membership, over HTTP and live.

use super::kit::*;
use claudemesh_client::flows::{InviteOptions, create_invite, join};
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::http::{PatchMember, PatchSettings};
use claudemesh_client::proto::model::{
    DeliveryStage, Group, GroupName, Member, MessageMode, Permissions, Priority, Role, SelfEditable,
};
use claudemesh_client::proto::ops::{RemoveMember, SetState};
use claudemesh_client::{ClientError, ClientEvent};
use claudemesh_crypto::SecretKey;
use serde_json::json;
use std::time::Duration;

fn admin() -> InviteOptions {
    InviteOptions {
        role: Role::Admin,
        ..InviteOptions::default()
    }
}

pub async fn patch(lab: &Lab, by: &Seat, subject: &Seat, request: PatchMember) -> Result<Member, ClientError> {
    let (identity, member) = (&by.person.identity, &subject.person.identity.member_id);
    let patched = lab
        .http()
        .patch_member(&identity.member, &identity.mesh_id, member, &request)
        .await?;
    assert!(patched.ok);
    Ok(patched.member)
}

fn tag(tag: &str) -> PatchMember {
    PatchMember {
        role_tag: Some(tag.to_owned()),
        ..PatchMember::default()
    }
}

pub fn permission(role: Role) -> PatchMember {
    PatchMember {
        permission: Some(role),
        ..PatchMember::default()
    }
}

pub fn permissions(permissions: Permissions) -> PatchMember {
    PatchMember {
        permissions: Some(permissions),
        ..PatchMember::default()
    }
}

pub async fn three_of_twenty_who_come_at_once_get_in(database: Database) {
    let lab = Lab::start(database).await;
    let ana = lab.mesh("Lab", "ana").await;
    let options = InviteOptions {
        max_uses: 3,
        ..InviteOptions::default()
    };
    let invite = create_invite(&ana, options).await.unwrap();
    // Half of them with the link, half with the token of version 1: together it is one invite.
    let token = invite.token.clone().expect("the owner makes tokens");
    let claims = (0..20).map(|number| {
        let invite = if number % 2 == 0 {
            invite.link.clone()
        } else {
            token.clone()
        };
        tokio::spawn(async move { join(&invite, &format!("guest{number}"), None).await })
    });
    let mut joined = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        match within("a claim", claim).await.unwrap() {
            Ok(member) => joined.push(member),
            Err(error) => assert_eq!(error.code(), ErrorCode::InviteExhausted),
        }
    }
    assert_eq!(joined.len(), 3);
    assert_eq!(members(&ana).await.len(), 4);
    for member in joined {
        let guest = lab.person(member.identity, member.secret).connect().await;
        let text = lab.text("welcome");
        let to = guest.identity().display_name.clone().unwrap();
        ana.send_text(&to, &text, Priority::Now).await.unwrap();
        assert_eq!(recv_text(&guest).await, text);
    }
    lab.finish().await;
}

pub async fn an_invite_past_its_time_lets_nobody_in(database: Database) {
    let lab = Lab::start(database).await;
    let ana = lab.mesh("Lab", "ana").await;
    let options = InviteOptions {
        max_uses: 1_000,
        expires_in: Duration::from_secs(1),
        ..InviteOptions::default()
    };
    let invite = create_invite(&ana, options).await.unwrap();
    let token = invite.token.clone().expect("the owner makes tokens");
    // Nobody is tried in before: the broker alone has to refuse it.
    let end = invite.expires_at.as_ms() + 1_001;
    while now_ms() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = members(&ana).await.len();
    assert_eq!(code(join(&invite.link, "late", None).await), ErrorCode::InviteExpired);
    assert_eq!(
        code(join(&invite.code, "late", Some(&lab.url())).await),
        ErrorCode::InviteExpired
    );
    assert!(join(&token, "late", None).await.is_err());
    assert_eq!(members(&ana).await.len(), before);
    let identity = &ana.person.identity;
    let listed = lab
        .http()
        .list_invites(&identity.member, &identity.mesh_id)
        .await
        .unwrap();
    assert!(listed.invites.iter().all(|listed| listed.id != invite.invite_id));
    lab.finish().await;
}

pub async fn an_invited_admin_is_one_and_an_invite_dies_with_its_mesh(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let invite = create_invite(&ana, admin()).await.unwrap();
    let joined = join(&invite.link, "adam", None).await.unwrap();
    assert_eq!(joined.role, Role::Admin);
    let adam = lab.join_with(&ana, "amy", admin()).await;
    assert_eq!(adam.hello().unwrap().role, Some(Role::Admin));
    // It invites, withdraws the invites of others, edits and removes.
    lab.join(&adam, "dora").await;
    let open = create_invite(&ana, InviteOptions::default()).await.unwrap();
    let (http, identity) = (lab.http(), &adam.person.identity);
    http.revoke_invite(&identity.member, &identity.mesh_id, &open.invite_id)
        .await
        .unwrap();
    assert_eq!(code(join(&open.link, "late", None).await), ErrorCode::InviteRevoked);
    assert_eq!(
        patch(&lab, &adam, &ben, tag("backend"))
            .await
            .unwrap()
            .role_tag
            .as_deref(),
        Some("backend")
    );

    let last = create_invite(&ana, InviteOptions::default()).await.unwrap();
    assert_eq!(
        code(http.archive_mesh(&identity.member, &identity.mesh_id).await),
        ErrorCode::Forbidden
    );
    http.archive_mesh(&ana.person.identity.member, &identity.mesh_id)
        .await
        .unwrap();
    closed(&adam).await;
    assert!(join(&last.link, "late", None).await.is_err());
    let token = last.token.expect("the owner makes tokens");
    assert!(join(&token, "late", None).await.is_err());
    let refused = [
        code(http.list_members(&identity.member, &identity.mesh_id).await),
        code(http.list_invites(&identity.member, &identity.mesh_id).await),
        code(patch(&lab, &ana, &ben, tag("nothing")).await),
        code(http.archive_mesh(&ana.person.identity.member, &identity.mesh_id).await),
    ];
    assert!(refused.iter().all(|code| *code == ErrorCode::Archived), "{refused:?}");
    lab.finish().await;
}

pub async fn members_edit_themselves_and_admins_edit_members(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let adam = lab.join_with(&ana, "adam", admin()).await;
    let mut events = ben.events();
    let whole = PatchMember {
        display_name: Some("Benjamin".to_owned()),
        role_tag: Some("backend".to_owned()),
        groups: Some(vec![Group {
            name: GroupName::new("backend"),
            role: None,
        }]),
        message_mode: Some(MessageMode::Inbox),
        ..PatchMember::default()
    };
    let patched = patch(&lab, &ben, &ben, whole).await.unwrap();
    assert_eq!(
        (patched.display_name.as_str(), patched.role_tag.as_deref()),
        ("Benjamin", Some("backend"))
    );
    assert_eq!(patched.message_mode, MessageMode::Inbox);
    let told = event(&mut events, "the news", |event| match event {
        ClientEvent::System(push) if push.event.as_deref() == Some("profile_updated") => push.event_data.clone(),
        _ => None,
    });
    let told = told.await;
    assert_eq!(
        (&told["displayName"], &told["messageMode"]),
        (&json!("Benjamin"), &json!("inbox"))
    );
    assert_eq!(member(&ana, &ben.key()).await, member(&ben, &ben.key()).await);

    // Nobody else's row, and not one's own standing.
    for (by, subject, request) in [
        (&cara, &ben, tag("frontend")),
        (&ben, &ben, permission(Role::Admin)),
        (&adam, &ana, tag("not the boss")),
        (&adam, &ben, permission(Role::Admin)),
        (&adam, &adam, permission(Role::Member)),
        (&ana, &ana, permission(Role::Member)),
    ] {
        let subject_name = subject.person.identity.display_name.clone();
        let refused = patch(&lab, by, subject, request).await;
        assert_eq!(code(refused), ErrorCode::Forbidden, "{subject_name:?}");
    }
    let own = Permissions {
        can_invite: Some(true),
        ..Permissions::default()
    };
    assert_eq!(
        code(patch(&lab, &ben, &ben, permissions(own)).await),
        ErrorCode::Forbidden
    );
    assert_eq!(
        code(patch(&lab, &ana, &ben, PatchMember::default()).await),
        ErrorCode::InvalidRequest
    );
    let olga = lab.mesh("Other", "olga").await;
    assert_eq!(
        code(patch(&lab, &olga, &ben, tag("elsewhere")).await),
        ErrorCode::NotFound
    );

    // What the mesh reserves for admins, members no longer edit.
    let settings = PatchSettings {
        self_editable: Some(SelfEditable {
            display_name: false,
            ..SelfEditable::default()
        }),
    };
    let (http, mesh) = (lab.http(), ana.person.identity.mesh_id.clone());
    assert_eq!(
        code(http.patch_settings(&ben.person.identity.member, &mesh, &settings).await),
        ErrorCode::Forbidden
    );
    http.patch_settings(&adam.person.identity.member, &mesh, &settings)
        .await
        .unwrap();
    let name = |name: &str| PatchMember {
        display_name: Some(name.to_owned()),
        ..PatchMember::default()
    };
    assert_eq!(code(patch(&lab, &ben, &ben, name("Ben")).await), ErrorCode::Forbidden);
    patch(&lab, &ben, &ben, tag("")).await.unwrap();
    patch(&lab, &adam, &ben, name("Ben")).await.unwrap();
    lab.restart().await;
    let seen = within("the connection", member(&ana, &ben.key())).await;
    assert_eq!(
        (seen.display_name.as_str(), seen.role_tag, seen.message_mode),
        ("Ben", None, MessageMode::Inbox)
    );
    assert_eq!(code(patch(&lab, &ben, &ben, name("Benny")).await), ErrorCode::Forbidden);
    lab.finish().await;
}

pub async fn rights_are_in_force_at_once(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let nothing = Permissions {
        can_send: Some(false),
        can_write_state: Some(false),
        ..Permissions::default()
    };
    let write = || SetState {
        key: "k".to_owned(),
        value: json!(1),
    };
    ben.request(write()).await.unwrap();
    patch(&lab, &ana, &ben, permissions(nothing)).await.unwrap();
    for round in 0..2 {
        assert_eq!(code(ben.request(write()).await), ErrorCode::Forbidden, "round {round}");
        let refused = ben
            .send_to(&cara.person.address(), &lab.text("no"), Priority::Now)
            .await;
        assert_eq!(code(refused), ErrorCode::Forbidden);
        lab.restart().await;
    }
    let all = Permissions {
        can_send: Some(true),
        can_write_state: Some(true),
        can_invite: Some(true),
        ..Permissions::default()
    };
    patch(&lab, &ana, &ben, permissions(all)).await.unwrap();
    within("the connection", ben.request(write())).await.unwrap();
    let text = lab.text("yes");
    ben.send_text("cara", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&cara).await, text);
    // A member that may invite is not an admin.
    let made = create_invite(&ben, InviteOptions::default()).await.unwrap();
    join(&made.link, "dan", None).await.unwrap();
    let member_id = cara.person.identity.member_id.clone();
    assert_eq!(
        code(ben.request(RemoveMember { member_id }).await),
        ErrorCode::Forbidden
    );

    // The owner makes an admin, who may at once, and unmakes it again.
    patch(&lab, &ana, &ben, permission(Role::Admin)).await.unwrap();
    assert_eq!(
        patch(&lab, &ben, &cara, tag("frontend"))
            .await
            .unwrap()
            .role_tag
            .as_deref(),
        Some("frontend")
    );
    patch(&lab, &ana, &ben, permission(Role::Member)).await.unwrap();
    assert_eq!(code(patch(&lab, &ben, &cara, tag("x")).await), ErrorCode::Forbidden);
    lab.finish().await;
}

pub async fn who_leaves_is_gone_over_http_too(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let (http, mesh) = (lab.http(), ana.person.identity.mesh_id.clone());
    let remove = |by: &Seat, subject: &Seat| {
        let (key, member, mesh) = (
            by.person.identity.member.clone(),
            subject.person.identity.member_id.clone(),
            mesh.clone(),
        );
        let http = lab.http();
        async move { http.remove_member(&key, &mesh, &member).await }
    };
    let olga = lab.mesh("Other", "olga").await;
    assert_eq!(code(remove(&cara, &ben).await), ErrorCode::Forbidden);
    assert_eq!(code(remove(&olga, &ben).await), ErrorCode::Unauthorized);
    let stranger = SecretKey::generate();
    let member_id = &ben.person.identity.member_id;
    assert_eq!(
        code(http.remove_member(&stranger, &mesh, member_id).await),
        ErrorCode::Unauthorized
    );
    assert_eq!(code(remove(&ana, &ana).await), ErrorCode::Forbidden);

    let held = [
        ana.send_text("ben", &lab.text("held"), Priority::Low).await.unwrap(),
        cara.send_text("*", &lab.text("held"), Priority::Low).await.unwrap(),
    ];
    remove(&ben, &ben).await.unwrap();
    assert_eq!(closed(&ben).await.expect("a reason").code(), ErrorCode::Revoked);
    assert_eq!(code(ben.person.builder().connect().await), ErrorCode::Revoked);
    assert_eq!(code(remove(&ben, &ben).await), ErrorCode::Revoked);
    let receipts = all_receipts(&ana, &held[0].message_id).await;
    let last = receipts.last().expect("a receipt");
    assert_eq!((&last.0, last.1), (&ben.key(), DeliveryStage::Revoked));
    assert!(last.2.is_some(), "it says why");
    wait_stage(&cara, &held[1].message_id, &ben.key(), DeliveryStage::Revoked).await;
    wait_stage(&cara, &held[1].message_id, &ana.key(), DeliveryStage::Accepted).await;
    assert_eq!(code(remove(&ana, &ben).await), ErrorCode::NotFound);
    lab.finish().await;
}
