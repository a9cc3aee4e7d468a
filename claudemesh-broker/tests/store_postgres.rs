//! The store's tests on Postgres: a fresh database for each. They need `CLAUDEMESH_TEST_POSTGRES_URL`, the address of a
//! database whose user may create others, and run with `--include-ignored`.
#![allow(clippy::unwrap_used)]

mod store_suite;

use claudemesh_broker::store::{Recorded, StoreError};
use std::time::Duration;
use store_suite::{Db, add_mesh, message};

async fn fresh() -> Db {
    let claudemesh_testkit::postgres::FreshDatabase { url, raw_url } = claudemesh_testkit::postgres::fresh().await;
    Db {
        url,
        raw_url,
        _keep: None,
    }
}

store_suite::suite!([ignore = "set CLAUDEMESH_TEST_POSTGRES_URL to run on Postgres"] fresh);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "set CLAUDEMESH_TEST_POSTGRES_URL to run on Postgres"]
async fn defect_003_sub_e_11_work_goes_on_after_every_connection_broke() {
    let db = fresh().await;
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    store
        .insert_message(message(&mesh, 0, &[1], "before"), None)
        .await
        .unwrap();
    // In the middle of a transaction, too: the write must not be told to have succeeded.
    let broken = tokio::spawn({
        let store = store.clone();
        async move {
            store
                .transaction(None, |connection| {
                    Box::pin(async move {
                        sqlx::query("SELECT pg_sleep(20)::text").fetch_all(connection).await?;
                        Ok(Recorded::silently(()))
                    })
                })
                .await
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    db.raw(
        "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    let error = broken.await.unwrap().unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let mut tries = 0;
    let outcome = loop {
        match store.insert_message(message(&mesh, 0, &[1], "after"), None).await {
            Ok(outcome) => break outcome,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        tries += 1;
        assert!(tries < 50);
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(!outcome.duplicate);
    assert_eq!(outcome.seq, 2);
    store.ping().await.unwrap();
}

#[tokio::test]
#[ignore = "set CLAUDEMESH_TEST_POSTGRES_URL to run on Postgres"]
async fn passwords_are_not_in_errors() {
    let url = "postgres://someone:hunter2@127.0.0.1:1/none?sslmode=nonsense-hunter2";
    for url in [url, &url[..url.find('?').unwrap()]] {
        let error = claudemesh_broker::store::Store::open(url).await.err().unwrap();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(
            matches!(error, StoreError::Config(_) | StoreError::Unavailable(_)),
            "{error:?}"
        );
    }
}

/// A store that was made by one half's migrations must be what the statements expect, which both halves share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "set CLAUDEMESH_TEST_POSTGRES_URL to run on Postgres"]
async fn defect_035_sub_e_10_both_halves_have_the_same_tables_columns_and_indexes() {
    let postgres = fresh().await;
    postgres.open().await.close().await;
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("broker.db").display());
    let sqlite = Db {
        raw_url: url.clone(),
        url,
        _keep: Some(directory),
    };
    sqlite.open().await.close().await;
    // Each engine has its own index of words.
    for (of_postgres, of_sqlite) in [
        (
            "SELECT table_name::text || '.' || column_name::text FROM information_schema.columns \
             WHERE table_schema = 'mesh' AND table_name NOT LIKE '\\_sqlx%' AND table_name NOT LIKE '%\\_words' \
             ORDER BY 1",
            "SELECT m.name || '.' || c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c \
             WHERE m.type = 'table' AND m.name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND m.name NOT LIKE 'sqlite%' \
             AND m.name NOT LIKE '%\\_words%' ESCAPE '\\' ORDER BY 1",
        ),
        (
            "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'mesh' AND indexdef NOT LIKE 'CREATE UNIQUE INDEX %_pkey %' \
             AND indexname NOT LIKE '\\_sqlx%' AND tablename NOT LIKE '%\\_words' ORDER BY 1",
            "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY 1",
        ),
    ] {
        let mut found = [postgres.raw(of_postgres).await, sqlite.raw(of_sqlite).await];
        found.iter_mut().for_each(|names| names.sort());
        assert!(found[0].len() > 5, "{found:?}");
        assert_eq!(found[0], found[1]);
    }
}
