//! Queries of the shared SQL database through the broker, beside the same query in SQLite without anything around it.

use std::time::Instant;

use claudemesh_client::MeshClient;
use claudemesh_client::flows::create_mesh;
use claudemesh_proto::model::SqlValue;
use claudemesh_proto::ops::{MeshExecute, MeshQuery};

use crate::broker::{Broker, DataDir, StoreKind};
use crate::load::{histogram, record};
use crate::report::{quantiles, ratio};
use crate::scenarios::Bench;

/// Rows of the table.
const ROWS: u32 = 10_000;
/// Queries, one after the other.
const QUERIES: u32 = 2_000;

const TABLE: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL)";
const FILL: &str = "INSERT INTO item (id, name, size) WITH RECURSIVE n (i) AS \
                    (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) SELECT i, 'item ' || i, i * 7 FROM n";
const QUERY: &str = "SELECT id, name, size FROM item WHERE id = $1";

/// Ids that look like chance.
fn ids() -> impl Iterator<Item = u32> {
    (0..QUERIES).map(|number| number * 7_919 % ROWS + 1)
}

impl Bench {
    /// One row by its key.
    pub(crate) async fn shared_sql(&mut self) -> anyhow::Result<()> {
        let data = DataDir::new("shared-sql")?;
        let broker = Broker::start(&data, &StoreKind::Sqlite).await?;
        let identity = create_mesh(&broker.url(), "Bench", Some("ana")).await?.identity;
        let client = MeshClient::connect(identity).await?;
        for sql in [TABLE, FILL] {
            let request = MeshExecute {
                sql: sql.to_owned(),
                params: Vec::new(),
            };
            client.mesh_execute(request).await?;
        }
        let mut through = histogram();
        for id in ids() {
            let request = MeshQuery {
                sql: QUERY.to_owned(),
                params: vec![SqlValue::Integer(i64::from(id))],
            };
            let started = Instant::now();
            let result = client.mesh_query(request).await?;
            record(&mut through, started.elapsed());
            anyhow::ensure!(result.row_count == 1, "item {id} was not found");
        }
        client.close().await;
        broker.stop().await?;

        let raw = DataDir::new("shared-sql-raw")?;
        let connection = rusqlite::Connection::open(raw.path().join("raw.db"))?;
        connection.execute(TABLE, [])?;
        connection.execute(FILL, [])?;
        let mut alone = histogram();
        for id in ids() {
            let started = Instant::now();
            // Prepared each time, as a statement that comes from a member is.
            let mut query = connection.prepare(QUERY)?;
            let name: String = query.query_row([id], |row| row.get(1))?;
            record(&mut alone, started.elapsed());
            anyhow::ensure!(!name.is_empty(), "item {id} has no name");
        }
        self.report.fact("SQL, one row by key, SQLite alone", quantiles(&alone));
        self.report.fact("SQL, one row by key, mesh_query", quantiles(&through));
        let trip = self.references.echo.mean() + alone.mean();
        self.report.fact(
            "mesh_query to SQLite alone plus an echo round trip, mean",
            ratio(through.mean(), trip),
        );
        Ok(())
    }
}
