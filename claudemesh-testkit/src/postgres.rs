//! Fresh databases on a Postgres server that tests may use.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

/// Names the server: the address of a database whose user may create others. `cargo xtask test` sets it.
pub const SERVER: &str = "CLAUDEMESH_TEST_POSTGRES_URL";

/// A database of its own, empty. It stays behind: the server of `cargo xtask test` goes with everything in it.
#[derive(Clone, Debug)]
pub struct FreshDatabase {
    /// For a store or a broker.
    pub url: String,
    /// For looking at the broker's tables, which are in the schema `mesh`.
    pub raw_url: String,
}

/// Creates a database on the server that [`SERVER`] names.
///
/// # Panics
/// If the variable is not set or the server does not do it: the tests that call this are ignored unless asked for.
pub async fn fresh() -> FreshDatabase {
    let server = std::env::var(SERVER)
        .unwrap_or_else(|_| panic!("set {SERVER} to the address of a Postgres database whose user may create others"));
    fresh_on(&server).await
}

/// Creates a database on this server.
///
/// # Panics
/// If the server does not do it.
pub async fn fresh_on(server: &str) -> FreshDatabase {
    sqlx::any::install_default_drivers();
    let name = unique_name();
    let mut connection = AnyConnection::connect(server)
        .await
        .unwrap_or_else(|error| panic!("connecting to the Postgres server for tests: {error}"));
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .unwrap_or_else(|error| panic!("creating a database on the Postgres server for tests: {error}"));
    let _closed = connection.close().await;
    let (address, query) = server.split_once('?').unwrap_or((server, ""));
    let base = address.rsplit_once('/').map_or(address, |(base, _)| base);
    let with = |more: &str| {
        let all: Vec<&str> = [query, more].into_iter().filter(|part| !part.is_empty()).collect();
        match all.is_empty() {
            true => format!("{base}/{name}"),
            false => format!("{base}/{name}?{}", all.join("&")),
        }
    };
    FreshDatabase {
        url: with(""),
        raw_url: with("options=-c%20search_path%3Dmesh"),
    }
}

/// No other test has it: the process and the time in nanoseconds are in it, and a counter for those of one moment.
fn unique_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    format!("claudemesh_test_{}_{now}_{count}", std::process::id())
}
