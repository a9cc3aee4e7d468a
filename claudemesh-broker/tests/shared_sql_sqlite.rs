//! Shared SQL in SQLite files.
#![allow(clippy::unwrap_used)]

mod shared_sql_suite;

use claudemesh_broker::backends::sql::sqlite::SqliteSql;
use shared_sql_suite::Lab;
use std::sync::Arc;

async fn lab() -> Lab {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sql");
    Lab {
        engine: "sqlite",
        open: Box::new(move |limits| Arc::new(SqliteSql::new(&path, limits).unwrap())),
        directory: Some(directory),
        url: None,
    }
}

shared_sql_suite::suite!([] lab);
