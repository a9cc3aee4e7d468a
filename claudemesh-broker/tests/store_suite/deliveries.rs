//! Deliveries: their stages, their end, and what is purged.

use super::*;

pub async fn stages_only_advance(db: &Db) {
    use DeliveryStage::{Accepted, Delivered, Expired, Read, Revoked, Surfaced};
    let store = db.open().await;
    let mesh = add_mesh(&store, 3).await;
    for id in ["m1", "m2"] {
        store
            .insert_message(message(&mesh, 0, &[1, 2], id), None)
            .await
            .unwrap();
    }
    let change = |steps: Vec<StageChange>| {
        let store = store.clone();
        async move {
            let outcomes = store.change_stages(steps).await.unwrap();
            outcomes
                .into_iter()
                .map(|outcome| (outcome.changed, outcome.sender.is_some()))
                .collect::<Vec<_>>()
        }
    };
    let status = |id: &'static str, member: usize| {
        let (store, mesh) = (store.clone(), mesh.clone());
        async move {
            let (_, rows) = store
                .message_status(&mesh, &MessageId(id.into()))
                .await
                .unwrap()
                .unwrap();
            rows.into_iter()
                .find(|row| row.delivery.recipient == member_id(&mesh, member))
                .unwrap()
                .delivery
        }
    };
    // Surfacing fills what was skipped; going back, and again, is nothing new.
    let mut surfaced = step(&mesh, "m1", 1, Surfaced, 10);
    surfaced.adapter = Some("channel".into());
    assert_eq!(change(vec![surfaced]).await, [(true, true)]);
    let again = vec![
        step(&mesh, "m1", 1, Delivered, 11),
        step(&mesh, "m1", 1, Surfaced, 11),
        step(&mesh, "m1", 1, Accepted, 11),
        step(&mesh, "m1", 1, Expired, 11),
        step(&mesh, "m1", 1, Revoked, 11),
        step(&mesh, "none", 1, Delivered, 11),
        step(&mesh, "m1", 0, Delivered, 11),
    ];
    let none = (false, true);
    assert_eq!(
        change(again).await,
        [none, none, none, none, none, (false, false), (false, false)]
    );
    let row = status("m1", 1).await;
    assert_eq!(
        (row.stage, row.delivered_at, row.surfaced_at, row.read_at),
        (Surfaced, Some(at(10)), Some(at(10)), None)
    );
    assert_eq!((row.adapter.as_deref(), row.ended_at), (Some("channel"), None));
    // Several steps of one delivery in one go, mixed with others.
    let steps = vec![
        step(&mesh, "m2", 1, Delivered, 20),
        step(&mesh, "m2", 2, Delivered, 21),
        step(&mesh, "m2", 1, Surfaced, 22),
        step(&mesh, "m2", 1, Surfaced, 23),
        step(&mesh, "m2", 1, Read, 24),
        step(&mesh, "m1", 1, Read, 25),
    ];
    let yes = (true, true);
    assert_eq!(change(steps).await, [yes, yes, yes, none, yes, yes]);
    let row = status("m2", 1).await;
    assert_eq!(
        (row.delivered_at, row.surfaced_at, row.read_at),
        (Some(at(20)), Some(at(22)), Some(at(24)))
    );
    assert_eq!(row.ended_at, Some(at(24)));
    assert_eq!(status("m1", 1).await.adapter.as_deref(), Some("channel"));
    // An end without success is an end.
    let mut expired = step(&mesh, "m1", 2, Expired, 30);
    expired.reason = Some("too late".into());
    assert_eq!(change(vec![expired, step(&mesh, "m1", 2, Read, 31)]).await, [yes, none]);
    let row = status("m1", 2).await;
    assert_eq!(
        (row.stage, row.read_at, row.reason.as_deref()),
        (Expired, None, Some("too late"))
    );
    assert_eq!(waiting_ids(&store, &mesh, 2).await, [""; 0]);
}

/// Deliveries whose place the caller knows take another way to the same end.
pub async fn marks_by_place_are_the_same(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let mut places = std::collections::HashMap::new();
    for id in ["a", "b", "c"] {
        let outcome = store.insert_message(message(&mesh, 0, &[1], id), None).await.unwrap();
        places.insert(id, outcome.seq);
    }
    let placed = |id: &'static str, ms: i64| StageChange {
        place: Some(DeliveryPlace {
            seq: places[id],
            sender: member_id(&mesh, 0),
        }),
        ..step(&mesh, id, 1, DeliveryStage::Delivered, ms)
    };
    let change = async |steps: Vec<StageChange>| {
        let outcomes = store.change_stages(steps).await.unwrap();
        let told = outcomes
            .into_iter()
            .map(|outcome| (outcome.changed, outcome.sender.is_some()));
        told.collect::<Vec<_>>()
    };
    assert_eq!(change(vec![placed("a", 10)]).await, [(true, true)]);
    // One that repeats makes the whole batch go the careful way.
    assert_eq!(
        change(vec![placed("a", 11), placed("b", 11)]).await,
        [(false, true), (true, true)]
    );
    let mut surfaced = step(&mesh, "c", 1, DeliveryStage::Surfaced, 12);
    surfaced.adapter = Some("channel".into());
    let steps = vec![placed("c", 12), surfaced.clone(), placed("c", 13)];
    assert_eq!(change(steps).await, [(true, true), (true, true), (false, true)]);
    for (id, ms) in [("a", 10), ("b", 11), ("c", 12)] {
        let (_, rows) = store
            .message_status(&mesh, &MessageId(id.into()))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(rows[0].delivery.delivered_at, Some(at(ms)), "{id}");
    }
    assert!(waiting_ids(&store, &mesh, 1).await.is_empty());
}

pub async fn defect_065_due_messages_expire_and_old_ones_go(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 3).await;
    for (id, expires) in [("late", 30), ("early", 10), ("middle", 20), ("long", 9_000)] {
        let new = edit(message(&mesh, 0, &[1, 2], id), |row| row.expires_at = at(expires));
        store.insert_message(new, None).await.unwrap();
    }
    store
        .change_stages(vec![step(&mesh, "early", 2, DeliveryStage::Delivered, 1)])
        .await
        .unwrap();
    let first = store.expire_due(at(20), 1).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(
        (first[0].message_id.as_str(), &first[0].recipient),
        ("early", &member_id(&mesh, 1))
    );
    assert_eq!((&first[0].sender, first[0].seq), (&member_id(&mesh, 0), 2));
    let next = store.expire_due(at(20), 100).await.unwrap();
    assert_eq!(
        next.iter().map(|ended| ended.message_id.as_str()).collect::<Vec<_>>(),
        ["middle", "middle"]
    );
    assert!(store.expire_due(at(20), 100).await.unwrap().is_empty());
    let (_, rows) = store
        .message_status(&mesh, &MessageId("middle".into()))
        .await
        .unwrap()
        .unwrap();
    assert!(
        rows.iter()
            .all(|row| row.delivery.stage == DeliveryStage::Expired && row.delivery.ended_at == Some(at(20)))
    );
    // All were accepted at 1000. "late" and "long" still wait.
    assert_eq!(store.purge(at(1_000), 100).await.unwrap(), 0);
    assert_eq!(store.purge(at(1_001), 1).await.unwrap(), 1);
    assert_eq!(store.purge(at(1_001), 100).await.unwrap(), 1);
    assert_eq!(store.purge(at(1_001), 100).await.unwrap(), 0);
    assert_eq!(waiting_ids(&store, &mesh, 1).await, ["late", "long"]);
    for gone in ["early", "middle"] {
        assert!(
            store
                .message_status(&mesh, &MessageId(gone.into()))
                .await
                .unwrap()
                .is_none()
        );
    }
    let rows = db.raw("SELECT message_id FROM delivery").await;
    assert_eq!(rows.len(), 4);
}
