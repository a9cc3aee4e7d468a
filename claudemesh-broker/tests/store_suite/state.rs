//! Shared state, and statuses that wait for their session.

use super::*;

pub async fn state_counts_writes(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 1).await;
    let write = |key: &str, value: serde_json::Value| StateWrite {
        key: key.into(),
        value,
        by_member: member_id(&mesh, 0),
        by_name: "member 0".into(),
        at: at(3),
    };
    for (key, value, version) in [
        ("b", json!(null), 1),
        ("b", json!({ "x": [1, "é"] }), 2),
        ("B", json!(1), 1),
    ] {
        assert_eq!(
            store
                .set_state(&mesh, write(key, value), 2, None, |_| {})
                .await
                .unwrap(),
            version
        );
    }
    let error = store
        .set_state(&mesh, write("c", json!(1)), 2, None, |_| {})
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Limit(_)) && !error.is_retryable(),
        "{error:?}"
    );
    assert_eq!(
        store
            .set_state(&mesh, write("b", json!(2)), 2, None, |_| {})
            .await
            .unwrap(),
        3
    );
    assert_eq!(store.state_count(&mesh).await.unwrap(), 2);
    let rows = store.list_state(&mesh).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["B", "b"]);
    let row = store.get_state(&mesh, "b").await.unwrap().unwrap();
    assert_eq!(
        row,
        StateRow {
            key: "b".into(),
            value: json!(2),
            version: 3,
            updated_by_member: member_id(&mesh, 0),
            updated_by_name: "member 0".into(),
            updated_at: at(3),
        }
    );
    assert!(store.delete_state(&mesh, "b", None, |_| {}).await.unwrap());
    assert!(store.get_state(&mesh, "b").await.unwrap().is_none());
    // Writers at once lose nothing.
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let (store, mesh, write) = (store.clone(), mesh.clone(), write("n", json!(number)));
            tokio::spawn(async move { store.set_state(&mesh, write, 10, None, |_| {}).await.unwrap() })
        })
        .collect();
    let mut versions = Vec::new();
    for task in tasks {
        versions.push(task.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=20).collect::<Vec<_>>());
}

pub async fn statuses_wait_for_their_session(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let status = |status: PeerStatus, pid: i64, session: Option<&str>, ms: i64| PendingStatus {
        mesh_id: mesh.clone(),
        member_id: member_id(&mesh, 0),
        pid,
        cwd: "/work".into(),
        session_id: session.map(str::to_owned),
        status,
        created_at: at(ms),
    };
    let take = |member: usize, session: &'static str, pid: i64, since: i64| {
        let (store, mesh) = (store.clone(), mesh.clone());
        async move {
            let member = member_id(&mesh, member);
            store
                .take_pending_status(&mesh, &member, session, pid, "/work", at(since))
                .await
                .unwrap()
        }
    };
    store
        .insert_pending_status(status(PeerStatus::Idle, 7, None, 20))
        .await
        .unwrap();
    store
        .insert_pending_status(status(PeerStatus::Working, 7, None, 10))
        .await
        .unwrap();
    assert_eq!(take(1, "", 7, 0).await, None);
    assert_eq!(take(0, "", 8, 0).await, None);
    assert_eq!(take(0, "", 7, 30).await, None);
    assert_eq!(take(0, "", 7, 0).await, Some(PeerStatus::Idle));
    assert_eq!(take(0, "", 7, 0).await, None);
    store
        .insert_pending_status(status(PeerStatus::Dnd, 9, Some("s1"), 20))
        .await
        .unwrap();
    assert_eq!(take(0, "s1", 1, 0).await, Some(PeerStatus::Dnd));
    store
        .insert_pending_status(status(PeerStatus::Dnd, 9, None, 20))
        .await
        .unwrap();
    assert_eq!(store.sweep_pending_status(at(21)).await.unwrap(), 1);
}
