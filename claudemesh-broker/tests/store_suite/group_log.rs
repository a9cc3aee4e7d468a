//! The group log, seals, grants and requests.

use super::*;

fn head(index: u64, hash: &str) -> EpochHead {
    EpochHead {
        generation: 0,
        index,
        epoch: index,
        hash: HexHash(hash.into()),
    }
}

fn append(expected: Option<EpochHead>, index: u64, hash: &str) -> AppendGroup {
    AppendGroup {
        expected,
        entries: vec![GroupEntryRow {
            generation: 0,
            index,
            epoch: index,
            hash: HexHash(hash.into()),
            author: key(0),
            body: json!({ "hash": hash }),
        }],
        seals: vec![SealRecord {
            generation: 0,
            epoch: index,
            to: key(1),
            seal: json!({ "of": hash }),
        }],
        new_head: head(index, hash),
        new_state: format!("state {hash}"),
    }
}

pub async fn the_group_log_has_one_end(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let mut expected = None;
    for index in 0..5 {
        let tasks: Vec<_> = (0..8)
            .map(|author| {
                let (store, mesh) = (store.clone(), mesh.clone());
                let new = append(expected.clone(), index, &format!("{index}-{author}"));
                tokio::spawn(async move { store.append_group(&mesh, new, None).await.unwrap() })
            })
            .collect();
        let mut winners = Vec::new();
        let mut stale = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Appended::Ok(head) => winners.push(head),
                Appended::Stale(head) => stale.push(head),
            }
        }
        assert_eq!((winners.len(), stale.len()), (1, 7));
        assert!(stale.iter().all(|head| head.as_ref() == Some(&winners[0])));
        expected = winners.pop();
    }
    let row = store.group_head(&mesh).await.unwrap().unwrap();
    assert_eq!(Some(&row.head), expected.as_ref());
    assert_eq!(row.state, format!("state {}", row.head.hash));
    let entries = store.group_entries(&mesh, 0, 1, 3).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), [1, 2, 3]);
    let seals = store
        .group_seals(&mesh, &[key(9), key(1)], SealFilter::All)
        .await
        .unwrap();
    assert_eq!(seals.iter().map(|seal| seal.epoch).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(seals[4].seal, json!({ "of": row.head.hash }));
    let filter = SealFilter::Epochs {
        generation: 0,
        from: 2,
        to: 3,
    };
    assert_eq!(store.group_seals(&mesh, &[key(1)], filter).await.unwrap().len(), 2);
    // A place that is taken is not overwritten, whatever the head says.
    let error = store
        .append_group(&mesh, append(expected, 2, "again"), None)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    assert_eq!(store.group_head(&mesh).await.unwrap().unwrap(), row);
}

pub async fn group_leftovers_are_kept(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 1).await;
    let other = add_mesh(&store, 1).await;
    for number in 0..5 {
        store
            .put_grant(&mesh, &key(1), &json!(number), at(number), 3)
            .await
            .unwrap();
    }
    assert!(store.take_grants(&other, &key(1)).await.unwrap().is_empty());
    let grants = store.take_grants(&mesh, &key(1)).await.unwrap();
    assert_eq!(
        grants.iter().map(|grant| grant.grant.clone()).collect::<Vec<_>>(),
        [json!(2), json!(3), json!(4)]
    );
    assert!(store.take_grants(&mesh, &key(1)).await.unwrap().is_empty());
    store
        .put_key_request(&mesh, &key(1), &json!({ "n": 1 }), at(1))
        .await
        .unwrap();
    store
        .put_key_request(&mesh, &key(1), &json!({ "n": 2 }), at(2))
        .await
        .unwrap();
    store
        .put_key_request(&mesh, &key(2), &json!({ "n": 3 }), at(1))
        .await
        .unwrap();
    let requests = store.key_requests(&mesh).await.unwrap();
    assert_eq!(
        requests.iter().map(|row| row.request["n"].clone()).collect::<Vec<_>>(),
        [json!(3), json!(2)]
    );
    assert!(!store.delete_key_request(&other, &key(1)).await.unwrap());
    assert!(store.delete_key_request(&mesh, &key(1)).await.unwrap());
    assert!(!store.delete_key_request(&mesh, &key(1)).await.unwrap());
    for (index, problem) in [(1, Some("fork")), (2, None)] {
        let cursor = GroupCursor {
            device: key(1),
            head: head(index, "h"),
            problem: problem.map(str::to_owned),
            updated_at: at(1),
        };
        store.set_group_cursor(&mesh, cursor.clone()).await.unwrap();
        assert_eq!(store.group_cursors(&mesh).await.unwrap(), [cursor]);
    }
    let seal = |text: &str| SealRecord {
        generation: 0,
        epoch: 1,
        to: key(1),
        seal: json!(text),
    };
    store.put_seals(&mesh, vec![seal("first")]).await.unwrap();
    store.put_seals(&mesh, vec![seal("second")]).await.unwrap();
    assert_eq!(
        store.group_seals(&mesh, &[key(1)], SealFilter::All).await.unwrap(),
        [seal("first")]
    );
}
