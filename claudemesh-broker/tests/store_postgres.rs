//! The store's tests on Postgres: a fresh database for each. They need `CLAUDEMESH_TEST_POSTGRES_URL`, the address of a
//! database whose user may create others, and run with `--include-ignored`.
#![allow(clippy::unwrap_used)]

mod store_suite;

use claudemesh_broker::store::{Recorded, StoreError};
use sqlx::{AssertSqlSafe, Connection as _};
use std::time::Duration;
use store_suite::{Db, add_mesh, message};

async fn fresh() -> Db {
    let server = std::env::var("CLAUDEMESH_TEST_POSTGRES_URL")
        .expect("set CLAUDEMESH_TEST_POSTGRES_URL to the address of a Postgres database whose user may create others");
    sqlx::any::install_default_drivers();
    let name = format!("claudemesh_test_{}", claudemesh_crypto::random_id().to_lowercase());
    let mut connection = sqlx::AnyConnection::connect(&server).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let (address, query) = match server.split_once('?') {
        Some((address, query)) => (address, format!("?{query}&")),
        None => (server.as_str(), "?".to_owned()),
    };
    let base = address.rsplit_once('/').unwrap().0;
    let query = query.trim_end_matches(['?', '&']);
    let url = format!("{base}/{name}{query}");
    let joint = if query.is_empty() { '?' } else { '&' };
    Db {
        raw_url: format!("{url}{joint}options=-c%20search_path%3Dmesh"),
        url,
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
