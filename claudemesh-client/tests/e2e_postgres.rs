//! The end-to-end suite on Postgres: a fresh database for each test. They need `CLAUDEMESH_TEST_POSTGRES_URL`, the address
//! of a database whose user may create others, and run with `--include-ignored`.
#![allow(clippy::unwrap_used)]

mod e2e;

use sqlx::{AssertSqlSafe, Connection as _};

async fn fresh() -> e2e::kit::Database {
    let server = std::env::var("CLAUDEMESH_TEST_POSTGRES_URL")
        .expect("set CLAUDEMESH_TEST_POSTGRES_URL to the address of a Postgres database whose user may create others");
    sqlx::any::install_default_drivers();
    let name = format!("claudemesh_e2e_{}", claudemesh_crypto::random_id().to_lowercase());
    let mut connection = sqlx::AnyConnection::connect(&server).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let (address, query) = match server.split_once('?') {
        Some((address, query)) => (address, format!("?{query}")),
        None => (server.as_str(), String::new()),
    };
    let base = address.rsplit_once('/').unwrap().0;
    let url = format!("{base}/{name}{query}");
    e2e::kit::Database {
        raw_url: Some(url.clone()),
        url: Some(url),
    }
}

e2e::suite!([ignore = "set CLAUDEMESH_TEST_POSTGRES_URL to run on Postgres"] fresh);
