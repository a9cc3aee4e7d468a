//! The end-to-end suite on SQLite.

mod e2e;

async fn fresh() -> e2e::kit::Database {
    e2e::kit::Database::default()
}

e2e::suite!([] fresh);
