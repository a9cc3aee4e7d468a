//! The store as a whole.

use super::*;

pub async fn data_survives_a_restart(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    store.insert_message(message(&mesh, 0, &[1], "m1"), None).await.unwrap();
    // What was submitted before is written before the store is closed.
    let late = store.clone();
    let write = Write::new(WriteKind::Message(message(&mesh, 0, &[1], "m2")));
    late.committer()
        .submit(write, Box::new(|outcome| assert!(outcome.is_ok())))
        .unwrap();
    store.close().await;
    assert!(matches!(
        store.insert_message(message(&mesh, 0, &[1], "m3"), None).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(store.mesh(&mesh).await, Err(StoreError::Closed)));
    store.close().await;
    let store = db.open().await;
    assert_eq!(waiting_ids(&store, &mesh, 1).await, ["m1", "m2"]);
    assert_eq!(
        store
            .insert_message(message(&mesh, 0, &[1], "m3"), None)
            .await
            .unwrap()
            .seq,
        3
    );
    assert!(
        store
            .insert_message(message(&mesh, 0, &[1], "m1"), None)
            .await
            .unwrap()
            .duplicate
    );
}

pub async fn a_second_broker_is_refused(db: &Db) {
    let store = db.open().await;
    let error = Store::open(&db.url).await.err().unwrap();
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
    assert!(error.to_string().contains("another broker"), "{error}");
    // The first one is not disturbed.
    store.ping().await.unwrap();
    add_mesh(&store, 1).await;
    store.close().await;
    db.open().await.ping().await.unwrap();
}

pub async fn meshes_are_apart(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let other = add_mesh(&store, 2).await;
    store.insert_message(message(&mesh, 0, &[1], "m1"), None).await.unwrap();
    assert!(
        store
            .message_status(&other, &MessageId("m1".into()))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .pending(&other, &member_id(&mesh, 1), Priority::Next, 0, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.member(&other, &member_id(&mesh, 1)).await.unwrap().is_none());
    assert!(
        store
            .revoke_member(&other, &member_id(&mesh, 1), at(1), None)
            .await
            .unwrap()
            .is_none()
    );
    let row = store.mesh(&mesh).await.unwrap().unwrap();
    assert_eq!(store.mesh_by_slug(&row.slug).await.unwrap(), Some(row.clone()));
    assert_eq!(store.members_with_key(&key(1)).await.unwrap().len(), 2);
    let same_slug = |id: &str| NewMesh {
        id: MeshId(id.into()),
        name: "n".into(),
        slug: row.slug.clone(),
        owner_pubkey: key(0),
        root_key: SecretText("k".into()),
        policy: MeshPolicy::default(),
        created_at: at(0),
        owner: new_member(&MeshId(id.into()), 0),
    };
    assert!(matches!(
        store.create_mesh(same_slug("third"), None).await,
        Err(StoreError::Conflict(_))
    ));
    assert!(store.archive_mesh(&mesh, at(5), None).await.unwrap());
    assert!(!store.archive_mesh(&mesh, at(6), None).await.unwrap());
    assert_eq!(store.mesh(&mesh).await.unwrap().unwrap().archived_at, Some(at(5)));
    assert_eq!(store.members_with_key(&key(1)).await.unwrap().len(), 1);
    store.create_mesh(same_slug("third"), None).await.unwrap();
    assert_eq!(store.mesh_count().await.unwrap(), 2);
    assert_eq!(store.meshes().await.unwrap().len(), 2);
    let policy = MeshPolicy {
        self_editable: SelfEditable {
            groups: false,
            ..SelfEditable::default()
        },
    };
    store.update_policy(&other, policy, None).await.unwrap();
    assert_eq!(store.mesh(&other).await.unwrap().unwrap().policy, policy);
    assert!(store.update_policy(&MeshId("none".into()), policy, None).await.is_err());
    let _: BTreeMap<KeyHex, Vec<Capability>> = PeerGrants::new();
}
