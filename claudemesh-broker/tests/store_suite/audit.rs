//! The audit chain.

use super::*;

pub async fn defect_033_034_sub_e_09_the_audit_chain_holds_and_shows_changes(db: &Db) {
    let store = db.open().await;
    let meshes = [add_mesh(&store, 2).await, add_mesh(&store, 2).await];
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let (store, mesh) = (store.clone(), meshes[number % 2].clone());
            tokio::spawn(async move {
                let audit = event(
                    &mesh,
                    "message_sent",
                    json!({ "z": number, "a": { "y": 1.5, "b": [null, "ü"] } }),
                );
                store
                    .insert_message(message(&mesh, 0, &[1], &format!("{number}")), Some(audit))
                    .await
                    .unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut system = event(&meshes[0], "started", json!({}));
    system.actor_member_id = None;
    system.actor_name = None;
    store
        .transaction(Some(system), |_| Box::pin(async { Ok(Recorded::audited(())) }))
        .await
        .unwrap();
    let whole = |checked| AuditVerdict {
        checked,
        broken_at: None,
    };
    assert_eq!(store.audit_verify(&meshes[0]).await.unwrap(), whole(101));
    assert_eq!(store.audit_verify(&meshes[1]).await.unwrap(), whole(100));
    let page = store.audit_query(&meshes[0], 3, 1, Some("message_sent")).await.unwrap();
    assert_eq!((page.rows.len(), page.total), (3, 100));
    assert_eq!(page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [99, 98, 97]);
    assert_eq!(page.rows[0].payload["a"]["b"], json!([null, "ü"]));
    let page = store.audit_query(&meshes[0], 3, 0, Some("started")).await.unwrap();
    assert_eq!((page.rows.len(), page.total, page.rows[0].id), (1, 1, 101));
    let page = store.audit_query(&meshes[0], 2, 1, None).await.unwrap();
    assert_eq!((page.rows[0].id, page.rows[1].id, page.total), (100, 99, 101));
    for (kind, mesh) in [("never", &meshes[0]), ("started", &meshes[1])] {
        let page = store.audit_query(mesh, 3, 0, Some(kind)).await.unwrap();
        assert_eq!((page.rows.len(), page.total), (0, 0));
    }
    // The chain goes on after a restart.
    store.close().await;
    let store = db.open().await;
    let audit = event(&meshes[1], "message_sent", json!({}));
    store
        .insert_message(message(&meshes[1], 0, &[1], "more"), Some(audit))
        .await
        .unwrap();
    assert_eq!(store.audit_verify(&meshes[1]).await.unwrap(), whole(101));
    db.raw(&format!(
        "UPDATE audit_log SET payload = '{{}}' WHERE mesh_id = '{}' AND id = 50",
        meshes[0]
    ))
    .await;
    assert_eq!(store.audit_verify(&meshes[0]).await.unwrap().broken_at, Some(50));
    db.raw(&format!(
        "DELETE FROM audit_log WHERE mesh_id = '{}' AND id = 7",
        meshes[1]
    ))
    .await;
    assert_eq!(store.audit_verify(&meshes[1]).await.unwrap().broken_at, Some(8));
}

pub async fn audit_is_undone_with_its_write(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let failing = store.transaction::<(), _>(Some(event(&mesh, "failed", json!({}))), |connection| {
        Box::pin(async move {
            sqlx::query("DELETE FROM member").execute(connection).await?;
            Err(StoreError::NotFound("thing"))
        })
    });
    assert!(matches!(failing.await, Err(StoreError::NotFound("thing"))));
    assert_eq!(store.member_count(&mesh).await.unwrap(), 2);
    assert!(
        !store
            .delete_state(&mesh, "none", Some(event(&mesh, "state_deleted", json!({}))), |_| {})
            .await
            .unwrap()
    );
    assert_eq!(store.audit_query(&mesh, 10, 0, None).await.unwrap().total, 0);
}
