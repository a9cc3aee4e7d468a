//! Invites and their uses.

use super::*;

fn invite(mesh: &MeshId, id: &str, max_uses: u64) -> NewInvite {
    InviteRow {
        id: id.into(),
        mesh_id: mesh.clone(),
        code: format!("code-{id}"),
        token_hash: Some(format!("hash-{id}")),
        canonical_v2: "v=2|…".into(),
        signature: HexSignature("ab".repeat(64)),
        issuer_pubkey: key(0),
        role: Role::Admin,
        max_uses,
        used_count: 0,
        expires_at: at(50_000),
        invite_key: Some(key(900)),
        preset: InvitePreset {
            role_tag: Some("ops".into()),
            ..InvitePreset::default()
        },
        created_by: member_id(mesh, 0),
        created_at: at(1),
        revoked_at: None,
    }
}

pub async fn an_invite_is_used_as_often_as_it_may(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 1).await;
    store.insert_invite(invite(&mesh, "one", 1), None).await.unwrap();
    let claims: Vec<_> = (1..=50)
        .map(|number| {
            let (store, member) = (store.clone(), new_member(&mesh, number));
            let audit = event(&mesh, "member_joined", json!({ "number": number }));
            tokio::spawn(async move {
                store
                    .use_invite_and_insert_member("one", member, at(10), Some(audit))
                    .await
            })
        })
        .collect();
    let mut used = 0;
    for claim in claims {
        match claim.await.unwrap().unwrap() {
            InviteUse::Used => used += 1,
            other => assert_eq!(other, InviteUse::Exhausted),
        }
    }
    assert_eq!(used, 1);
    assert_eq!(store.member_count(&mesh).await.unwrap(), 2);
    assert_eq!(store.audit_query(&mesh, 1, 0, None).await.unwrap().total, 1);
    assert_eq!(store.invite_by_code("code-one").await.unwrap().unwrap().used_count, 1);
    assert!(store.invites(&mesh, at(10)).await.unwrap().is_empty());
}

pub async fn joining_twice_uses_no_invite(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 1).await;
    let other = add_mesh(&store, 1).await;
    for (id, uses) in [("a", 5), ("b", 5), ("c", 5)] {
        store.insert_invite(invite(&mesh, id, uses), None).await.unwrap();
    }
    let error = store.insert_invite(invite(&other, "a", 1), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)));
    assert_eq!(
        store.invite_by_token_hash("hash-a").await.unwrap().unwrap(),
        invite(&mesh, "a", 5)
    );
    let join = |invite: &'static str, member: NewMember, now: i64| {
        let store = store.clone();
        async move {
            store
                .use_invite_and_insert_member(invite, member, at(now), None)
                .await
                .unwrap()
        }
    };
    assert_eq!(join("a", new_member(&mesh, 1), 10).await, InviteUse::Used);
    let again = NewMember {
        id: MemberId("other".into()),
        ..new_member(&mesh, 1)
    };
    let InviteUse::AlreadyMember(known) = join("a", again, 10).await else {
        panic!()
    };
    assert_eq!(known.id, member_id(&mesh, 1));
    assert_eq!(store.invite_by_code("code-a").await.unwrap().unwrap().used_count, 1);
    assert_eq!(join("a", new_member(&mesh, 2), 50_000).await, InviteUse::Expired);
    assert!(store.revoke_invite(&mesh, "b", at(3), None).await.unwrap());
    assert!(!store.revoke_invite(&mesh, "b", at(3), None).await.unwrap());
    assert!(!store.revoke_invite(&other, "c", at(3), None).await.unwrap());
    assert_eq!(join("b", new_member(&mesh, 2), 10).await, InviteUse::Revoked);
    assert_eq!(join("c", new_member(&other, 2), 10).await, InviteUse::NoSuchInvite);
    let usable: Vec<_> = store
        .invites(&mesh, at(10))
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(usable, ["a", "c"]);
}
