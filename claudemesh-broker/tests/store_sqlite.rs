//! The store's tests on SQLite.
#![allow(clippy::unwrap_used)]

mod store_suite;

use store_suite::Db;

async fn fresh() -> Db {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a broker's.db");
    Db {
        url: format!("sqlite:{}", path.display()),
        raw_url: format!("sqlite:{}", path.display()),
        _keep: Some(dir),
    }
}

store_suite::suite!([] fresh);

#[tokio::test]
async fn only_a_file_is_taken() {
    for url in ["sqlite::memory:", "", "mysql://localhost/x"] {
        let error = claudemesh_broker::store::Store::open(url).await.err().unwrap();
        assert!(
            matches!(error, claudemesh_broker::store::StoreError::Config(_)),
            "{url}: {error}"
        );
    }
}

#[tokio::test]
async fn a_plain_path_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broker.db");
    let store = claudemesh_broker::store::Store::open(path.to_str().unwrap())
        .await
        .unwrap();
    store.ping().await.unwrap();
    assert!(path.exists());
}

#[tokio::test]
async fn tables_of_a_newer_broker_are_refused() {
    let db = fresh().await;
    db.open().await.close().await;
    db.raw("UPDATE _sqlx_migrations SET version = 900 WHERE version = 1")
        .await;
    let error = claudemesh_broker::store::Store::open(&db.url).await.err().unwrap();
    assert!(error.to_string().contains("newer broker"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broker.db");
    std::fs::write(
        &path,
        "this is not a database, but it is longer than a hundred bytes, so that it is looked at. ".repeat(9),
    )
    .unwrap();
    let error = claudemesh_broker::store::Store::open(path.to_str().unwrap())
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, claudemesh_broker::store::StoreError::Corrupt(_)),
        "{error}"
    );
}
