//! Writes that share a transaction.

use super::*;

pub async fn completions_come_in_submit_order(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    for number in 0..500 {
        let kind = if number % 5 == 3 {
            WriteKind::Stages([step(&mesh, &format!("{}", number - 1), 1, DeliveryStage::Delivered, 5)].into())
        } else {
            WriteKind::Message(message(&mesh, 0, &[1], &format!("{number}")))
        };
        let order = Arc::clone(&order);
        let done = Box::new(move |outcome: Result<Outcome, StoreError>| {
            let seq = match outcome {
                Ok(Outcome::Message(outcome)) => Some(outcome.seq),
                Ok(_) => None,
                Err(error) => panic!("{error}"),
            };
            order.lock().unwrap().push((number, seq));
        });
        store.committer().submit(Write::new(kind), done).unwrap();
    }
    store.close().await;
    let order = order.lock().unwrap();
    assert_eq!(
        order.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        (0..500).collect::<Vec<_>>()
    );
    assert!(order.iter().filter_map(|(_, seq)| *seq).is_sorted());
}

pub async fn a_guilty_write_fails_alone(db: &Db) {
    let largest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&largest);
    let on_commit: CommitObserver = Arc::new(move |stats: &CommitStats| {
        seen.fetch_max(stats.writes, Ordering::Relaxed);
    });
    let store = Store::open_with(
        &db.url,
        StoreOptions {
            on_commit: Some(on_commit),
            ..StoreOptions::default()
        },
    )
    .await
    .unwrap();
    let mesh = add_mesh(&store, 3).await;
    let release = hold(&store);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut writes = Vec::new();
    for number in 0..20 {
        let id = format!("{number:02}");
        // One recipient twice: the statement for the deliveries of all twenty fails.
        let to: &[usize] = if number == 7 { &[1, 1] } else { &[1] };
        let write = Write {
            kind: WriteKind::Message(message(&mesh, 0, to, &id)),
            audit: vec![event(&mesh, "message_sent", json!({ "id": id }))],
        };
        let (store, failing) = (store.clone(), number == 7);
        writes.push(tokio::spawn(
            async move { (failing, store.committer().write(write).await) },
        ));
        tokio::task::yield_now().await;
    }
    let failing = store.transaction(None, |connection| {
        Box::pin(async move {
            sqlx::query(
                "INSERT INTO state (mesh_id, key, value, version, updated_by_member, updated_by_name, updated_at) \
                         VALUES ('nowhere', 'k', '1', 1, 'm', 'n', 1)",
            )
            .execute(connection)
            .await?;
            Ok(Recorded::silently(()))
        })
    });
    let (store2, mesh2) = (store.clone(), mesh.clone());
    let last = tokio::spawn(async move { store2.insert_message(message(&mesh2, 0, &[1], "last"), None).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    release.send(()).unwrap();
    let error = failing.await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    for write in writes {
        let (failing, outcome) = write.await.unwrap();
        assert_eq!(outcome.is_err(), failing);
        if let Err(error) = outcome {
            assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
        }
    }
    last.await.unwrap().unwrap();
    assert!(largest.load(Ordering::Relaxed) >= 20);
    let ids: HashSet<_> = waiting_ids(&store, &mesh, 1).await.into_iter().collect();
    assert_eq!(ids.len(), 20);
    assert!(!ids.contains("07"));
    assert!(
        store
            .message_status(&mesh, &MessageId("07".into()))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(store.audit_query(&mesh, 100, 0, None).await.unwrap().total, 19);
    assert_eq!(
        store.audit_verify(&mesh).await.unwrap(),
        AuditVerdict {
            checked: 19,
            broken_at: None
        }
    );
}

pub async fn a_panicking_write_fails_alone(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let panicking = store.transaction::<(), _>(None, |_| Box::pin(async { panic!("on purpose") }));
    assert!(panicking.await.is_err());
    let write = Write::new(WriteKind::Message(message(&mesh, 0, &[1], "m1")));
    store
        .committer()
        .submit(write, Box::new(|_| panic!("on purpose")))
        .unwrap();
    store.insert_message(message(&mesh, 0, &[1], "m2"), None).await.unwrap();
    assert_eq!(waiting_ids(&store, &mesh, 1).await, ["m1", "m2"]);
    // It is counted once its completion is through.
    while store.committer().waiting() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn a_full_queue_says_so(db: &Db) {
    let options = StoreOptions {
        queue_writes: 4,
        queue_bytes: 10_000,
        ..StoreOptions::default()
    };
    let store = Store::open_with(&db.url, options).await.unwrap();
    let mesh = add_mesh(&store, 2).await;
    let release = hold(&store);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let submit = |id: &str, bytes: usize| {
        let new = edit(message(&mesh, 0, &[1], id), |row| {
            row.ciphertext = Base64("x".repeat(bytes))
        });
        store
            .committer()
            .submit(Write::new(WriteKind::Message(new)), Box::new(|_| {}))
    };
    let error = submit("large", 20_000).unwrap_err();
    assert!(matches!(error, StoreError::QueueFull) && error.is_retryable());
    for id in ["1", "2", "3", "4"] {
        submit(id, 10).unwrap();
    }
    assert!(matches!(submit("5", 10).unwrap_err(), StoreError::QueueFull));
    assert_eq!(store.committer().waiting(), 5);
    release.send(()).unwrap();
    store.insert_message(message(&mesh, 0, &[1], "wait"), None).await.ok();
    while store.committer().waiting() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What is larger than the queue goes through when nothing else waits.
    submit("large", 20_000).unwrap();
    store.close().await;
    assert!(matches!(submit("late", 10).unwrap_err(), StoreError::Closed));
}
