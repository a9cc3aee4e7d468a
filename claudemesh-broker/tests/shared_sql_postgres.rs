//! Shared SQL on Postgres: a fresh database for each test. They need `CLAUDEMESH_TEST_POSTGRES_URL`, the address of a database
//! whose user may create others, and run with `--include-ignored`.
#![allow(clippy::unwrap_used)]

mod shared_sql_suite;

use claudemesh_broker::backends::sql::postgres::PostgresSql;
use shared_sql_suite::Lab;
use sqlx::{AssertSqlSafe, Connection as _};
use std::sync::Arc;

async fn lab() -> Lab {
    let server = std::env::var("CLAUDEMESH_TEST_POSTGRES_URL")
        .expect("set CLAUDEMESH_TEST_POSTGRES_URL to the address of a Postgres database whose user may create others");
    sqlx::any::install_default_drivers();
    let name = format!("claudemesh_sql_{}", claudemesh_crypto::random_id().to_lowercase());
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
    let address = url.clone();
    Lab {
        engine: "postgres",
        open: Box::new(move |limits| Arc::new(PostgresSql::new(&address, limits).unwrap())),
        directory: None,
        url: Some(url),
    }
}

/// What the guard is not for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "set CLAUDEMESH_TEST_POSTGRES_URL to run on Postgres"]
async fn usual_statements_work() {
    let lab = lab().await;
    let db = lab.db();
    for sql in [
        "CREATE TABLE team (id SERIAL PRIMARY KEY, name VARCHAR(40) NOT NULL UNIQUE, made TIMESTAMPTZ(3) DEFAULT now())",
        "CREATE TABLE task (id BIGINT GENERATED ALWAYS AS IDENTITY, team INT REFERENCES team (id) ON DELETE CASCADE, \
         title TEXT CHECK (length(title) BETWEEN 1 AND 100), cost NUMERIC(10, 2) DEFAULT 0, tags TEXT[], meta JSONB, \
         words TSVECTOR GENERATED ALWAYS AS (to_tsvector('english', title)) STORED, UNIQUE (team, title))",
        "CREATE INDEX IF NOT EXISTS task_meta ON task USING gin (meta)",
        "CREATE INDEX task_lower ON task (lower(title) DESC) WHERE cost > 0",
        "CREATE OR REPLACE VIEW costly AS SELECT t.*, rank() OVER (PARTITION BY team ORDER BY cost DESC) AS place FROM task t",
        "CREATE SEQUENCE ticket START WITH 10",
        "INSERT INTO team (name) SELECT 'team ' || i FROM generate_series(1, 3) AS g (i)",
        "INSERT INTO task (team, title, cost, tags, meta) VALUES (1, 'write tests', 3.50, ARRAY['a', 'b'], '{\"k\": [1, 2]}'), \
         (1, 'run them', 1, '{c}', NULL), ((SELECT max(id) FROM team), 'it''s done', 2e1, NULL, jsonb_build_object('x', 1))",
        "INSERT INTO team (id, name) VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        "UPDATE task SET cost = cost + 1, meta = jsonb_set(coalesce(meta, '{}'), '{seen}', 'true') WHERE title LIKE ('%s')",
        "MERGE INTO task t USING team m ON t.team = m.id AND m.id = 2 WHEN MATCHED THEN DELETE",
        "WITH gone AS (DELETE FROM task WHERE cost > 100 RETURNING id) UPDATE task SET cost = 0 WHERE id IN (SELECT id FROM gone)",
        "ALTER TABLE task ADD COLUMN IF NOT EXISTS due DATE, ALTER COLUMN cost SET NOT NULL",
        "ALTER SEQUENCE ticket RESTART WITH 5",
    ] {
        db.execute(sql).await;
    }
    for (sql, expected) in [
        (
            "SELECT count(*) FROM team AS a LEFT JOIN task AS b ON (a.id = b.team) WHERE b.id IS NULL",
            "1",
        ),
        (
            "SELECT name FROM team WHERE EXISTS (SELECT 1 FROM task WHERE team = team.id) ORDER BY 1 LIMIT (1)",
            "again",
        ),
        (
            "SELECT string_agg(title, ', ' ORDER BY title) FILTER (WHERE cost > 1) FROM costly",
            "it's done, write tests",
        ),
        ("SELECT meta ->> 'x' FROM task WHERE meta @> '{\"x\": 1}'", "1"),
        ("SELECT meta #>> '{k,1}' FROM task WHERE 'a' = ANY (tags)", "2"),
        (
            "SELECT title FROM task WHERE words @@ plainto_tsquery('english', 'testing')",
            "write tests",
        ),
        (
            "SELECT CASE WHEN EXTRACT(year FROM made) > 2000 THEN 'new' ELSE 'old' END FROM team LIMIT 1",
            "new",
        ),
        (
            "SELECT (date_trunc('day', TIMESTAMP '2026-02-03 04:05:06') + INTERVAL '1 day')::date",
            "2026-02-04",
        ),
        (
            "SELECT sum(n) FROM (VALUES (1), (2), (3)) AS v (n) WHERE n IN (1, 2) AND NOT (n = 2)",
            "1",
        ),
        (
            "SELECT count(*) FROM task GROUP BY GROUPING SETS ((team), ()) HAVING grouping(team) = 1",
            "3",
        ),
        (
            "SELECT substring('abcdef' FROM 2 FOR 3) || overlay('xxx' PLACING 'y' FROM 2) || trim(BOTH ' ' FROM ' z ')",
            "bcdxyxz",
        ),
        (
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY cost) FROM (VALUES (1.0), (3.0)) AS x (cost)",
            "2",
        ),
        (
            "SELECT format('%s-%s', lpad('7', 3, '0'), upper(left('abc', 1)))",
            "007-A",
        ),
        ("SELECT x FROM jsonb_to_recordset('[{\"x\": 5}]') AS r (x int)", "5"),
        ("SELECT array_to_string((ARRAY[1, 2, 3])[2:3], '-')", "2-3"),
        ("TABLE team ORDER BY id LIMIT 1", "1"),
        ("(SELECT 2) UNION ALL (SELECT 1) ORDER BY 1", "1"),
        (
            "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT max(i) FROM n",
            "5",
        ),
        (
            "SELECT 'a' ~ '^[a-c]$' AND 'B' ILIKE 'b' AND 5 % 2 = 1 AND 2 <> 3",
            "true",
        ),
        ("SELECT encode(sha256('x'::bytea), 'hex') LIKE '2d71%'", "true"),
    ] {
        let found = db.query(sql).await;
        let value = serde_json::to_value(&found.rows[0][&found.columns[0]]).unwrap();
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        assert_eq!(value.trim_end_matches(".0"), expected, "{sql}");
    }
    db.execute("TRUNCATE task, team RESTART IDENTITY").await;
    for sql in [
        "DROP VIEW costly",
        "DROP SEQUENCE ticket",
        "DROP TABLE task, team CASCADE",
    ] {
        db.execute(sql).await;
    }
    assert_eq!(db.tables().await, Vec::<String>::new());
}

/// A password in the log of the server lets nobody in, and a new process makes a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "set CLAUDEMESH_TEST_POSTGRES_URL to run on Postgres"]
async fn two_processes_follow_each_other() {
    let lab = lab().await;
    let first = lab.db();
    first.execute("CREATE TABLE t (a INTEGER)").await;
    let second = shared_sql_suite::Db {
        sql: (lab.open)(Default::default()),
        mesh: first.mesh.clone(),
    };
    second.execute("INSERT INTO t VALUES (1)").await;
    // The connections of the first one are still there, and see it.
    assert_eq!(first.query("SELECT a FROM t").await.row_count, 1);
}

/// Kept connections that the server has ended are replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "set CLAUDEMESH_TEST_POSTGRES_URL to run on Postgres"]
async fn connections_that_broke_are_replaced() {
    let lab = lab().await;
    let db = lab.db();
    db.execute("CREATE TABLE t (a INTEGER)").await;
    let (one, two) = tokio::join!(db.query("SELECT a FROM t"), db.query("SELECT a FROM t"));
    assert_eq!((one.row_count, two.row_count), (0, 0));
    let mut connection = sqlx::AnyConnection::connect(lab.url.as_deref().unwrap()).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'claudemesh shared sql'";
    let ended = sqlx::query(end).fetch_all(&mut connection).await.unwrap();
    assert!(!ended.is_empty());
    assert_eq!(db.execute("INSERT INTO t VALUES (1)").await.row_count, 1);
    assert_eq!(db.query("SELECT a FROM t").await.row_count, 1);
}

shared_sql_suite::suite!([ignore = "set CLAUDEMESH_TEST_POSTGRES_URL to run on Postgres"] lab);
