//! A Postgres database of a test's own on the server that the environment names.

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

/// Creates a database, runs the test on it, and drops it.
pub(crate) async fn with_database<F: Future>(test: impl FnOnce(String) -> F) -> F::Output {
    let server = std::env::var("CLAUDEMESH_TEST_POSTGRES_URL").expect("set CLAUDEMESH_TEST_POSTGRES_URL");
    sqlx::any::install_default_drivers();
    let name = format!("claudemesh_faults_{}", claudemesh_crypto::random_id().to_lowercase());
    let mut connection = AnyConnection::connect(&server).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .unwrap();
    let (address, query) = server
        .split_once('?')
        .map_or((server.as_str(), String::new()), |(address, query)| {
            (address, format!("?{query}"))
        });
    let base = address.rsplit_once('/').unwrap().0;
    let result = test(format!("{base}/{name}{query}")).await;
    sqlx::query(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)")))
        .execute(&mut connection)
        .await
        .unwrap();
    result
}
