//! Meshes, members and their sessions.

use super::*;

pub async fn members_come_and_go(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 3).await;
    let error = store
        .insert_member(
            NewMember {
                id: MemberId("x".into()),
                ..new_member(&mesh, 1)
            },
            None,
        )
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)));
    let error = store
        .insert_member(new_member(&MeshId("nowhere".into()), 1), None)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");

    let patch = MemberPatch {
        display_name: Some("Ünal".into()),
        role: Some(Role::Admin),
        role_tag: Some(Some("ops".into())),
        default_groups: Some(vec![Group {
            name: GroupName::new("a/b"),
            role: Some("lead".into()),
        }]),
        message_mode: Some(MessageMode::Inbox),
        permissions: Some(Permissions {
            can_send: Some(false),
            ..Permissions::default()
        }),
        dashboard_user_id: None,
    };
    let member = store
        .update_member(&mesh, &member_id(&mesh, 1), patch, None)
        .await
        .unwrap();
    assert_eq!(
        (member.display_name.as_str(), member.role, member.role_tag.as_deref()),
        ("Ünal", Role::Admin, Some("ops"))
    );
    assert_eq!(
        (member.message_mode, member.permissions.can_send),
        (MessageMode::Inbox, Some(false))
    );
    let clear = MemberPatch {
        role_tag: Some(None),
        ..MemberPatch::default()
    };
    let cleared = store
        .update_member(&mesh, &member_id(&mesh, 1), clear, None)
        .await
        .unwrap();
    assert_eq!(
        cleared,
        MemberRow {
            role_tag: None,
            ..member
        }
    );
    let grants = PeerGrants::from([(key(2), vec![Capability::Dm]), (key(0), vec![])]);
    let change = |entries: &[(KeyHex, Option<Vec<Capability>>)]| {
        let (store, mesh, change) = (store.clone(), mesh.clone(), entries.iter().cloned().collect());
        async move {
            store
                .change_grants(&mesh, &member_id(&mesh, 1), change, None, |_| {})
                .await
        }
    };
    let (one, other) = (
        [(key(2), Some(vec![Capability::Dm]))],
        [(key(0), Some(vec![])), (key(3), None)],
    );
    let (first, second) = tokio::join!(change(&one), change(&other));
    assert_eq!(
        (first.unwrap().len(), second.unwrap()),
        (1, grants.clone()),
        "changes add up"
    );
    assert_eq!(
        store
            .member(&mesh, &member_id(&mesh, 1))
            .await
            .unwrap()
            .unwrap()
            .peer_grants,
        grants
    );

    store
        .insert_message(message(&mesh, 0, &[1, 2], "m1"), None)
        .await
        .unwrap();
    store.insert_message(message(&mesh, 0, &[1], "m2"), None).await.unwrap();
    store
        .change_stages(vec![step(&mesh, "m1", 1, DeliveryStage::Delivered, 5)])
        .await
        .unwrap();
    let ended = store
        .revoke_member(&mesh, &member_id(&mesh, 1), at(50), None)
        .await
        .unwrap()
        .unwrap()
        .ended;
    assert_eq!(ended.len(), 1);
    assert_eq!(
        (ended[0].message_id.as_str(), &ended[0].sender),
        ("m2", &member_id(&mesh, 0))
    );
    assert!(
        store
            .revoke_member(&mesh, &member_id(&mesh, 1), at(50), None)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        store.member_by_key(&mesh, &key(1)).await.unwrap().unwrap().revoked_at,
        Some(at(50))
    );
    assert!(matches!(
        store
            .update_member(&mesh, &member_id(&mesh, 1), MemberPatch::default(), None)
            .await,
        Err(StoreError::NotFound(_))
    ));
    // The key may join again, as a new member.
    let again = NewMember {
        id: MemberId(format!("{mesh}-again")),
        ..new_member(&mesh, 1)
    };
    store.insert_member(again, None).await.unwrap();
    let live = store.member_by_key(&mesh, &key(1)).await.unwrap().unwrap();
    assert_eq!((live.id.0, live.revoked_at), (format!("{mesh}-again"), None));
    let ids: Vec<_> = store
        .members(&mesh)
        .await
        .unwrap()
        .into_iter()
        .map(|member| member.id.0)
        .collect();
    assert_eq!(ids, [format!("{mesh}-0"), format!("{mesh}-again"), format!("{mesh}-2")]);

    let state = PeerStateRow {
        mesh_id: mesh.clone(),
        member_id: member_id(&mesh, 2),
        groups: vec![Group {
            name: GroupName::new("ops"),
            role: None,
        }],
        profile: Profile {
            title: Some("Lead".into()),
            ..Profile::default()
        },
        visible: false,
        last_summary: Some("working".into()),
        last_display_name: None,
        stats: Stats {
            messages_in: u64::from(u32::MAX) * 9,
            ..Stats::default()
        },
        last_seen_at: at(60),
    };
    let before = PeerStateRow {
        visible: true,
        last_summary: None,
        ..state.clone()
    };
    store.save_peer_state(|| Some(before)).await.unwrap();
    let saved = state.clone();
    store.save_peer_state(|| Some(saved)).await.unwrap();
    store.save_peer_state(|| None).await.unwrap();
    let loaded = store.load_mesh(&mesh).await.unwrap().unwrap();
    assert_eq!(loaded.peer_states, [state]);
    assert_eq!(loaded.members[2].last_seen_at, Some(at(60)));
    assert!(loaded.members[0].is_owner && loaded.group_head.is_none());
    assert!(!format!("{loaded:?}").contains("sealed\""), "the root key is printed");
}
