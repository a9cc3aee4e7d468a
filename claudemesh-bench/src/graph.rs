//! Three hops in a graph, beside the same in SQLite without anything around it.

use std::time::Instant;

use anyhow::Context as _;
use claudemesh_client::MeshClient;
use claudemesh_client::flows::create_mesh;
use claudemesh_proto::ops::{GraphExecute, GraphQuery};
use hdrhistogram::Histogram;
use serde_json::{Map, Value};

use crate::broker::{Broker, DataDir, StoreKind};
use crate::load::{histogram, record};
use crate::report::{grouped, quantiles, ratio};
use crate::scenarios::Bench;

/// Groups of nodes; each node has an edge to every node of the next group.
const GROUPS: u32 = 1_000;
/// Nodes of a group.
const NODES: u32 = 10;
/// Queries of each kind.
const QUERIES: u32 = 200;

impl Bench {
    /// Three hops over 100,000 edges.
    pub(crate) async fn graph(&mut self) -> anyhow::Result<()> {
        let data = DataDir::new("graph")?;
        let broker = Broker::start(&data, &StoreKind::Sqlite).await?;
        let identity = create_mesh(&broker.url(), "Bench", Some("ana")).await?.identity;
        let client = MeshClient::connect(identity).await?;
        let started = Instant::now();
        for group in 0..GROUPS {
            let cypher = format!("UNWIND range(0, {}) AS i CREATE (:G{group} {{i: i}})", NODES - 1);
            execute(&client, cypher).await.context("making nodes")?;
        }
        for group in 0..GROUPS {
            let next = (group + 1) % GROUPS;
            let cypher = format!("MATCH (a:G{group}), (b:G{next}) CREATE (a)-[:E]->(b)");
            execute(&client, cypher).await.context("making edges")?;
        }
        let edges = f64::from(GROUPS * NODES * NODES);
        let made = edges / started.elapsed().as_secs_f64();
        self.report.fact(
            "edges made, 100 in a change that is on disk",
            format!("{}/s", grouped(made)),
        );
        let (walked, found) = walks(&client).await?;
        client.close().await;
        broker.stop().await?;
        let raw = DataDir::new("graph-raw")?;
        let (joined, expected) = joins(&raw.path().join("raw.db"))?;
        anyhow::ensure!(found == expected, "the graph has {found} paths, SQLite {expected}");
        let paths = f64::from(NODES.pow(3));
        let of = format!("3 hops over {} edges, {} paths", grouped(edges), grouped(paths));
        self.report
            .fact(format!("SQLite alone (two self joins), {of}"), quantiles(&joined));
        self.report.fact(format!("graph_query, {of}"), quantiles(&walked));
        self.report
            .fact("graph_query to SQLite alone, mean", ratio(walked.mean(), joined.mean()));
        Ok(())
    }
}

async fn execute(client: &MeshClient, cypher: String) -> anyhow::Result<()> {
    let params = Map::new();
    client.graph_execute(GraphExecute { cypher, params }).await?;
    Ok(())
}

/// From one node of a group each, one after the other; and how many paths there were.
async fn walks(client: &MeshClient) -> anyhow::Result<(Histogram<u64>, u64)> {
    let mut took = histogram();
    let mut found = 0;
    for number in 0..QUERIES {
        let group = number * (GROUPS / QUERIES);
        let cypher = format!("MATCH (a:G{group} {{i: $i}})-[:E]->()-[:E]->()-[:E]->(d) RETURN count(d) AS n");
        let params = Map::from_iter([("i".to_owned(), Value::from(number % NODES))]);
        let started = Instant::now();
        let result = client.graph_query(GraphQuery { cypher, params }).await?;
        record(&mut took, started.elapsed());
        let first = result.records.first().context("no record")?;
        found += first["n"].as_u64().context("no count")?;
    }
    Ok((took, found))
}

/// The same graph in a table of edges.
fn joins(path: &std::path::Path) -> anyhow::Result<(Histogram<u64>, u64)> {
    let mut connection = rusqlite::Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; CREATE TABLE edge (a INTEGER, b INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID;",
    )?;
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare("INSERT INTO edge (a, b) VALUES (?1, ?2)")?;
        for group in 0..GROUPS {
            let next = (group + 1) % GROUPS;
            for (a, b) in (0..NODES * NODES).map(|pair| (pair / NODES, pair % NODES)) {
                insert.execute([group * NODES + a, next * NODES + b])?;
            }
        }
    }
    transaction.commit()?;
    let mut walk = connection
        .prepare("SELECT count(z.b) FROM edge x JOIN edge y ON y.a = x.b JOIN edge z ON z.a = y.b WHERE x.a = ?1")?;
    let mut took = histogram();
    let mut found = 0;
    for number in 0..QUERIES {
        let group = number * (GROUPS / QUERIES);
        let started = Instant::now();
        let count: i64 = walk.query_row([group * NODES + number % NODES], |row| row.get(0))?;
        record(&mut took, started.elapsed());
        found += u64::try_from(count)?;
    }
    Ok((took, found))
}
