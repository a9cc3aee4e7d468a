//! The end-to-end suite on Postgres: a fresh database for each test. They need `CLAUDEMESH_TEST_POSTGRES_URL`, the address
//! of a database whose user may create others, and run with `--include-ignored`.
#![allow(clippy::unwrap_used)]

mod e2e;

async fn fresh() -> e2e::kit::Database {
    let fresh = claudemesh_testkit::postgres::fresh().await;
    e2e::kit::Database {
        url: Some(fresh.url),
        raw_url: Some(fresh.raw_url),
    }
}

e2e::suite!([ignore = "set CLAUDEMESH_TEST_POSTGRES_URL to run on Postgres"] fresh);
