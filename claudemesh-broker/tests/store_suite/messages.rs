//! Messages: what is stored once, comes back whole, in order, and fast.

use super::*;

pub async fn defect_078_repeated_sends_store_nothing(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 4).await;
    let mut new = message(&mesh, 0, &[1, 2, 3], "m1");
    new.recipients[2].refused = Some("no dm grant".into());
    let first = store
        .insert_message(new.clone(), Some(event(&mesh, "message_sent", json!({}))))
        .await
        .unwrap();
    assert_eq!((first.duplicate, first.recipients, first.refused), (false, 2, 1));
    // Later, with another id and recipient, and twice at once.
    let again = edit(message(&mesh, 0, &[1], "m1"), |row| row.id = MessageId("m2".into()));
    let audit = || Some(event(&mesh, "message_sent", json!({})));
    let (second, third) = tokio::join!(
        store.insert_message(again.clone(), audit()),
        store.insert_message(again, audit())
    );
    for repeated in [second.unwrap(), third.unwrap()] {
        assert_eq!(
            repeated,
            MessageOutcome {
                duplicate: true,
                ..first.clone()
            }
        );
    }
    assert_eq!(waiting_ids(&store, &mesh, 1).await, ["m1"]);
    assert_eq!(waiting_ids(&store, &mesh, 3).await, [""; 0]);
    assert_eq!(store.audit_query(&mesh, 10, 0, None).await.unwrap().total, 1);
    // Without an idempotency key nothing is a repetition.
    for id in ["a", "b"] {
        let new = edit(message(&mesh, 0, &[2], id), |row| row.client_id = None);
        assert!(!store.insert_message(new, None).await.unwrap().duplicate);
    }
    let (_, recipients) = store
        .message_status(&mesh, &MessageId("m1".into()))
        .await
        .unwrap()
        .unwrap();
    let refused = &recipients[2].delivery;
    assert_eq!(
        (refused.stage, refused.reason.as_deref()),
        (DeliveryStage::Refused, Some("no dm grant"))
    );
    assert_eq!(refused.ended_at, Some(at(1_000)));
    assert_eq!(
        (recipients[0].name.as_str(), &recipients[0].pubkey),
        ("member 1", &key(1))
    );
}

pub async fn an_id_belongs_to_one_sender(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 3).await;
    store.insert_message(message(&mesh, 0, &[1], "m1"), None).await.unwrap();
    let error = store
        .insert_message(message(&mesh, 1, &[2], "m1"), None)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    assert_eq!(waiting_ids(&store, &mesh, 2).await, [""; 0]);
    // Another mesh is another world.
    let other = add_mesh(&store, 3).await;
    assert!(
        !store
            .insert_message(message(&other, 1, &[2], "m1"), None)
            .await
            .unwrap()
            .duplicate
    );
}

pub async fn one_key_in_two_forms_is_one_key(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    // Protocol 2 sends its id as the key; for protocol 1 the broker makes the id.
    let old = |id: &str, key: &str| edit(message(&mesh, 0, &[1], key), |row| row.id = MessageId(id.into()));
    let new = |key: &str| message(&mesh, 0, &[1], key);
    let id = |outcome: Result<MessageOutcome, StoreError>| {
        let outcome = outcome.unwrap();
        (outcome.message_id.0, outcome.duplicate)
    };
    let told = |id: &str, duplicate: bool| (id.to_owned(), duplicate);
    assert_eq!(id(store.insert_message(new("a"), None).await), told("a", false));
    assert_eq!(id(store.insert_message(old("x1", "a"), None).await), told("a", true));
    assert_eq!(id(store.insert_message(old("x2", "b"), None).await), told("x2", false));
    assert_eq!(id(store.insert_message(new("b"), None).await), told("x2", true));
    assert_eq!(id(store.insert_message(old("x3", "b"), None).await), told("x2", true));
    // Known after a restart, too.
    store.close().await;
    let store = db.open().await;
    assert_eq!(id(store.insert_message(new("b"), None).await), told("x2", true));
    // All in one transaction.
    let release = hold(&store);
    let (first, second, third, fourth, ()) = tokio::join!(
        store.insert_message(old("x4", "c"), None),
        store.insert_message(new("c"), None),
        store.insert_message(old("x5", "c"), None),
        store.insert_message(new("d"), None),
        async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            release.send(()).unwrap();
        }
    );
    assert_eq!(id(first), told("x4", false));
    assert_eq!((id(second), id(third)), (told("x4", true), told("x4", true)));
    assert_eq!(id(fourth), told("d", false));
    // An id that is taken is a conflict where it is not the key.
    let error = store.insert_message(old("a", "e"), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    assert_eq!(waiting_ids(&store, &mesh, 1).await, ["a", "x2", "x4", "d"]);
}

pub async fn defect_035_sub_e_10_every_column_comes_back(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let new = edit(message(&mesh, 0, &[1], "m1"), |row| {
        row.client_id = Some("own".into());
        row.sender_session_pubkey = Some(key(77));
        row.target = Target {
            kind: TargetKind::Group,
            spec: "@ops \"' ; $1 \u{1F980}".into(),
        };
        row.priority = Priority::Low;
        row.meta = Some(SealedMeta {
            nonce: Base64("n".into()),
            ciphertext: Base64("c".into()),
        });
        row.sealed = Some(GroupSeal {
            scheme: "epoch/1".into(),
            generation: 1,
            epoch: 2,
            label: "group:ops".into(),
            key_id: "abcd".into(),
            device: key(5),
            session: key(6),
            seq: 9,
        });
        row.subtype = Some("ping".into());
        row.session_hint = Some(key(78));
    });
    let outcome = store.insert_message(new.clone(), None).await.unwrap();
    let pending = store
        .pending(&mesh, &member_id(&mesh, 1), Priority::Low, 0, 10)
        .await
        .unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!(
        pending[0],
        StoredMessage {
            seq: outcome.seq,
            row: new.message
        }
    );
    let waiting = store
        .waiting_counts(&mesh, &member_id(&mesh, 1), at(2_000))
        .await
        .unwrap();
    assert_eq!((waiting.now, waiting.next, waiting.low), (0, 0, 1));
    assert_eq!(
        store
            .waiting_counts(&mesh, &member_id(&mesh, 1), at(100_000))
            .await
            .unwrap()
            .total(),
        0
    );
    assert_eq!(store.queue_depth().await.unwrap().low, 1);
}

pub async fn messages_stay_in_order(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 9).await;
    let tasks: Vec<_> = (1..9)
        .map(|sender| {
            let (store, mesh) = (store.clone(), mesh.clone());
            tokio::spawn(async move {
                let mut seqs = Vec::new();
                for number in 0..40 {
                    let id = format!("{sender}-{number:03}");
                    seqs.push(
                        store
                            .insert_message(message(&mesh, sender, &[0], &id), None)
                            .await
                            .unwrap()
                            .seq,
                    );
                }
                assert!(seqs.is_sorted());
                seqs
            })
        })
        .collect();
    let mut all = HashSet::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    assert_eq!(all.len(), 320);
    let ids = waiting_ids(&store, &mesh, 0).await;
    assert_eq!(ids.len(), 320);
    for sender in 1..9 {
        let prefix = format!("{sender}-");
        let own: Vec<_> = ids.iter().filter(|id| id.starts_with(&prefix)).collect();
        assert!(own.is_sorted());
        assert_eq!(own.len(), 40);
    }
    // Page by page gives the same.
    let mut paged = Vec::new();
    let mut after = 0;
    loop {
        let page = store
            .pending(&mesh, &member_id(&mesh, 0), Priority::Next, after, 37)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        paged.extend(page.iter().map(|message| message.id.0.clone()));
    }
    assert_eq!(paged, ids);
}

pub async fn defect_065_history_does_not_slow_the_queue(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let series = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)";
    db.raw(&format!(
        "INSERT INTO message (seq, id, mesh_id, sender_member_id, sender_name, sender_pubkey, target_kind, target_spec, \
         priority, nonce, ciphertext, created_at, expires_at) {series} SELECT i, 'old' || i, '{mesh}', '{mesh}-0', 'n', \
         'k', 0, 's', 1, '', 'c', i, 1 FROM n"
    ))
    .await;
    db.raw(&format!(
        "INSERT INTO delivery (mesh_id, message_id, recipient_member_id, sender_member_id, seq, priority, stage, \
         created_at, expires_at) {series} SELECT '{mesh}', 'old' || i, '{mesh}-1', '{mesh}-0', i, 1, 1, i, 1 FROM n"
    ))
    .await;
    // And a queue of others.
    db.raw(&format!(
        "INSERT INTO delivery (mesh_id, message_id, recipient_member_id, sender_member_id, seq, priority, stage, \
         created_at, expires_at) {} SELECT '{mesh}', 'old' || i, 'other' || i % 100, '{mesh}-0', i, 1, 0, i, {} + i FROM n",
        series.replace("100000", "20000"),
        at(0).as_ms(),
    ))
    .await;
    store.close().await;
    let store = db.open().await;
    for id in ["a", "b", "c"] {
        assert!(
            store
                .insert_message(message(&mesh, 0, &[1], id), None)
                .await
                .unwrap()
                .seq
                > 100_000
        );
    }
    assert_eq!(waiting_ids(&store, &mesh, 1).await, ["a", "b", "c"]);
    db.raw("ANALYZE").await;
    let explain = if db.url.starts_with("sqlite:") {
        "EXPLAIN QUERY PLAN"
    } else {
        "EXPLAIN"
    };
    let pending = PENDING_SQL
        .replace("$1", &format!("'{mesh}'"))
        .replace("$2", &format!("'{mesh}-1'"))
        .replace("$3", "1")
        .replace("$4", "0")
        .replace("$5", "100");
    let due = "SELECT message_id FROM delivery WHERE stage = 0 AND expires_at <= 5 ORDER BY expires_at LIMIT 10";
    // What is due is looked for in all that waits, and in nothing else.
    for (sql, is_walked) in [(pending.as_str(), false), (due, true)] {
        let mut connection = sqlx::AnyConnection::connect(&db.raw_url).await.unwrap();
        let rows = sqlx::query(AssertSqlSafe(format!("{explain} {sql}")))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let column = if db.url.starts_with("sqlite:") { 3 } else { 0 };
        let plan: Vec<String> = rows.iter().map(|row| row.get(column)).collect();
        assert!(plan.iter().any(|line| line.contains("delivery_pending")), "{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("Seq Scan")), "{plan:#?}");
        assert!(
            is_walked || !plan.iter().any(|line| line.starts_with("SCAN ")),
            "{plan:#?}"
        );
    }
    assert_eq!(store.purge(at(0), 1_000).await.unwrap(), 1_000);
}
