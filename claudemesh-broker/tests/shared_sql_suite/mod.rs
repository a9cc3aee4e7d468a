//! What shared SQL promises, on whatever database.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod hostile;

pub use hostile::defect_028_sub_e_07_08_hostile_statements_reach_nothing;

use claudemesh_broker::backends::sql::{SharedSql, SqlError, SqlLimits, Statement};
use claudemesh_proto::model::{MeshId, SqlValue};
use claudemesh_proto::ops::SqlResult;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Shared databases, and how to open them again.
pub struct Lab {
    pub engine: &'static str,
    pub open: Box<dyn Fn(SqlLimits) -> Arc<dyn SharedSql> + Send + Sync>,
    /// Where the files are.
    pub directory: Option<tempfile::TempDir>,
    /// Address of the database, for a look behind the back.
    pub url: Option<String>,
}

/// The database of one mesh.
#[derive(Clone)]
pub struct Db {
    pub sql: Arc<dyn SharedSql>,
    pub mesh: MeshId,
}

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn patient() -> SqlLimits {
    SqlLimits {
        time: Duration::from_secs(30),
        ..SqlLimits::default()
    }
}

impl Lab {
    pub fn db(&self) -> Db {
        self.db_with(patient())
    }

    pub fn db_with(&self, limits: SqlLimits) -> Db {
        self.mesh((self.open)(limits))
    }

    /// A mesh that nobody has used.
    pub fn mesh(&self, sql: Arc<dyn SharedSql>) -> Db {
        Db {
            sql,
            mesh: MeshId::from(claudemesh_crypto::random_id()),
        }
    }

    fn is_postgres(&self) -> bool {
        self.engine == "postgres"
    }
}

impl Db {
    pub async fn try_query(&self, sql: &str, params: &[SqlValue]) -> Result<SqlResult, SqlError> {
        let done = self.sql.query(&self.mesh, statement(sql, params));
        timeout(PATIENCE, done)
            .await
            .unwrap_or_else(|_| panic!("{sql} does not end"))
    }

    pub async fn try_execute(&self, sql: &str, params: &[SqlValue]) -> Result<SqlResult, SqlError> {
        let done = self.sql.execute(&self.mesh, statement(sql, params));
        timeout(PATIENCE, done)
            .await
            .unwrap_or_else(|_| panic!("{sql} does not end"))
    }

    pub async fn query(&self, sql: &str) -> SqlResult {
        self.try_query(sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    pub async fn execute(&self, sql: &str) -> SqlResult {
        self.try_execute(sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The first value of a query.
    pub async fn value(&self, sql: &str) -> SqlValue {
        let result = self.query(sql).await;
        result.rows[0][&result.columns[0]].clone()
    }

    pub async fn tables(&self) -> Vec<String> {
        let tables = self.sql.schema(&self.mesh).await.unwrap();
        tables.into_iter().map(|table| table.name).collect()
    }
}

fn statement(sql: &str, params: &[SqlValue]) -> Statement {
    Statement {
        sql: sql.to_owned(),
        params: params.to_vec(),
    }
}

fn text(text: &str) -> SqlValue {
    SqlValue::Text(text.to_owned())
}

fn rows(result: &SqlResult) -> Value {
    serde_json::to_value(&result.rows).unwrap()
}

macro_rules! suite {
    ($attributes:tt $lab:ident) => {
        shared_sql_suite::suite! { @all $attributes $lab
            tables_are_made_filled_read_and_listed
            values_come_back_typed_and_exact
            params_are_values_and_nothing_else
            each_call_is_one_statement
            reads_change_nothing
            a_failed_statement_changes_nothing
            what_runs_away_is_stopped_and_others_go_on
            results_are_bounded
            a_database_has_a_quota
            writers_take_turns
            meshes_are_apart
            few_are_open_and_all_is_kept
            defect_028_sub_e_07_08_hostile_statements_reach_nothing
        }
    };
    (@all $attributes:tt $lab:ident $($name:ident)+) => { $( shared_sql_suite::suite!(@one $attributes $lab $name); )+ };
    (@one [$($attribute:meta)?] $lab:ident $name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])?
        async fn $name() {
            shared_sql_suite::$name(&$lab().await).await;
        }
    };
}
pub(crate) use suite;

pub async fn tables_are_made_filled_read_and_listed(lab: &Lab) {
    let db = lab.db();
    assert_eq!(db.sql.engine(), lab.engine);
    assert_eq!(db.tables().await, Vec::<String>::new(), "asking creates nothing");
    assert_eq!(db.value("SELECT 1").await, SqlValue::Integer(1));
    assert_eq!(db.tables().await, Vec::<String>::new());
    let made = db
        .execute("CREATE TABLE build (id INTEGER PRIMARY KEY, name TEXT NOT NULL, state VARCHAR(10), took REAL)")
        .await;
    assert_eq!((made.row_count, made.columns.len(), made.rows.len()), (0, 0, 0));
    let insert = "INSERT INTO build (id, name, state) VALUES (1, 'api', 'green'), (2, 'web', NULL)";
    assert_eq!(db.execute(insert).await.row_count, 2);
    let returned = db
        .execute("INSERT INTO build (id, name) VALUES (3, 'cli') RETURNING id, name")
        .await;
    assert_eq!(
        (returned.row_count, rows(&returned)),
        (1, json!([{ "id": 3, "name": "cli" }]))
    );
    assert_eq!(
        db.execute("UPDATE build SET state = 'red' WHERE id > 1")
            .await
            .row_count,
        2
    );
    assert_eq!(db.execute("DELETE FROM build WHERE id = 9").await.row_count, 0);
    let found = db.query("SELECT name, state FROM build ORDER BY id DESC;  ").await;
    assert_eq!(found.columns, ["name", "state"]);
    assert_eq!(found.column_types.len(), 2);
    assert_eq!((found.row_count, found.truncated), (3, false));
    assert_eq!(
        rows(&found),
        json!([
            { "name": "cli", "state": "red" }, { "name": "web", "state": "red" }, { "name": "api", "state": "green" },
        ])
    );
    let none = db.query("SELECT id FROM build WHERE id > 100").await;
    assert_eq!((none.columns, none.row_count), (vec!["id".to_owned()], 0));
    for sql in [
        "CREATE UNIQUE INDEX build_name ON build (name)",
        "CREATE VIEW red AS SELECT name FROM build WHERE state = 'red'",
        "ALTER TABLE build ADD COLUMN note TEXT DEFAULT 'none'",
        "ALTER TABLE build RENAME COLUMN took TO seconds",
        "-- a comment\nCREATE TABLE IF NOT EXISTS other (a INTEGER /* and another */)",
    ] {
        db.execute(sql).await;
    }
    let counted = db
        .query("WITH r AS (SELECT * FROM red) SELECT count(*) AS n, max(lower(name)) AS last FROM r")
        .await;
    assert_eq!(rows(&counted), json!([{ "n": 2, "last": "web" }]));
    let tables = db.sql.schema(&db.mesh).await.unwrap();
    let build = &tables[0];
    let columns: Vec<_> = build
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.nullable))
        .collect();
    assert_eq!(build.name, "build");
    assert_eq!(
        columns,
        [
            ("id", false),
            ("name", false),
            ("state", true),
            ("seconds", true),
            ("note", true)
        ]
    );
    assert!(build.columns.iter().all(|column| !column.kind.is_empty()));
    assert_eq!(db.tables().await, ["build", "other", "red"]);
    for sql in [
        "DROP VIEW red",
        "DROP INDEX build_name",
        "DROP TABLE other",
        "DROP TABLE build",
    ] {
        db.execute(sql).await;
    }
    assert_eq!(db.tables().await, Vec::<String>::new());
}

pub async fn values_come_back_typed_and_exact(lab: &Lab) {
    let db = lab.db();
    let blob = if lab.is_postgres() { "BYTEA" } else { "BLOB" };
    db.execute(&format!(
        "CREATE TABLE v (small INTEGER, big BIGINT, real DOUBLE PRECISION, word TEXT, bytes {blob}, absent TEXT)"
    ))
    .await;
    let bytes = claudemesh_crypto::encode_base64(&[0, 1, 254, 255]);
    let params = [
        SqlValue::Integer(-7),
        SqlValue::Integer(i64::MAX),
        SqlValue::Real(0.1),
        text("it's \"ünï\" \\ $1 -- /* 🦀"),
        SqlValue::Blob(bytes.clone().into()),
        SqlValue::Null,
    ];
    db.try_execute("INSERT INTO v VALUES ($1, $2, $3, $4, $5, $6)", &params)
        .await
        .unwrap();
    let found = db.query("SELECT small, big, real, word, bytes, absent FROM v").await;
    let row: Vec<_> = found
        .columns
        .iter()
        .map(|column| found.rows[0][column].clone())
        .collect();
    assert_eq!(row, params);
    assert_eq!(
        rows(&found),
        json!([{
            "small": -7, "big": { "$bigint": "9223372036854775807" }, "real": 0.1,
            "word": "it's \"ünï\" \\ $1 -- /* 🦀", "bytes": { "$base64": bytes }, "absent": null,
        }])
    );
    // A name that comes twice, and an expression.
    let twice = db.query("SELECT 1 AS a, 2 AS a, small + 1 AS b FROM v").await;
    assert_eq!(twice.columns, ["a", "a_2", "b"]);
    assert_eq!(rows(&twice), json!([{ "a": 1, "a_2": 2, "b": -6 }]));
    if lab.is_postgres() {
        let sql = "SELECT true AS b, 1.50::numeric AS n, DATE '2026-02-03' AS d, '{\"a\":[1]}'::jsonb AS j, ARRAY[1,2] AS l, \
                   'NaN'::float8 AS f, NULL AS x, 3::int2 AS s";
        let found = db.query(sql).await;
        assert_eq!(
            rows(&found),
            json!([{
                "b": true, "n": "1.50", "d": "2026-02-03", "j": "{\"a\": [1]}", "l": "{1,2}", "f": "NaN", "x": null, "s": 3,
            }])
        );
        assert_eq!(
            found.column_types,
            ["bool", "numeric", "date", "jsonb", "int4[]", "float8", "text", "int2"]
        );
    } else {
        let found = db
            .query("SELECT typeof(small) AS t, 9e999 AS inf, json_array(1, 'a') AS j FROM v")
            .await;
        assert_eq!(
            rows(&found),
            json!([{ "t": "integer", "inf": "Infinity", "j": "[1,\"a\"]" }])
        );
    }
}

pub async fn params_are_values_and_nothing_else(lab: &Lab) {
    let db = lab.db();
    db.execute("CREATE TABLE t (id INTEGER, name TEXT)").await;
    let hostile = [
        "'; DROP TABLE t; --",
        "\\'; DROP TABLE t; --",
        "$1",
        "$2",
        "/*",
        "--",
        "''",
        "\\",
        "'' OR 1=1",
        "\u{2019}",
        "E'",
        "$$",
    ];
    for (id, name) in hostile.iter().enumerate() {
        let id = SqlValue::Integer(i64::try_from(id).unwrap());
        let insert = "INSERT INTO t (name, id) VALUES ($2, $1)";
        assert_eq!(
            db.try_execute(insert, &[id.clone(), text(name)])
                .await
                .unwrap()
                .row_count,
            1
        );
        let found = db
            .try_query(
                "SELECT id, name FROM t WHERE name = $1 AND (name = $1 OR id = $2)",
                &[text(name), id.clone()],
            )
            .await
            .unwrap();
        assert_eq!(found.rows.len(), 1, "{name}");
        assert_eq!((&found.rows[0]["id"], &found.rows[0]["name"]), (&id, &text(name)));
    }
    for (sql, params, expected) in [
        ("SELECT $1", vec![], "parameter $1"),
        ("SELECT $2", vec![text("a")], "parameter $2"),
        ("SELECT 1", vec![text("a")], "no $1"),
        ("SELECT $1", vec![text("a"), text("b")], "no $2"),
    ] {
        match db.try_query(sql, &params).await {
            Err(SqlError::Statement(problem)) => assert!(problem.contains(expected), "{sql}: {problem}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    let bad = SqlValue::Blob("not base64".to_owned().into());
    assert!(matches!(
        db.try_query("SELECT $1", &[bad]).await,
        Err(SqlError::Statement(_))
    ));
    // In a text, `$1` is text.
    assert_eq!(db.value("SELECT '$1' AS a").await, text("$1"));
    let minus = db
        .try_query("SELECT 5-$1 AS a", &[SqlValue::Integer(-3)])
        .await
        .unwrap();
    assert_eq!(rows(&minus), json!([{ "a": 8 }]));
}

pub async fn each_call_is_one_statement(lab: &Lab) {
    let db = lab.db();
    db.execute("CREATE TABLE t (a INTEGER)").await;
    for sql in [
        "SELECT 1; SELECT 2",
        "SELECT 1;;SELECT 2",
        "SELECT 1 /* ; */; --\nDROP TABLE t",
        "SELECT 1; DROP TABLE t",
        "SELECT ';'; DROP TABLE t",
        "SELECT 1; /* x */ ; garbage",
        ";SELECT 1; SELECT 2",
        "SELECT 1\n;\nCOMMIT",
    ] {
        let refused = db.try_query(sql, &[]).await;
        assert!(
            matches!(refused, Err(SqlError::Statement(_) | SqlError::Forbidden(_))),
            "{sql}: {refused:?}"
        );
    }
    for sql in [
        "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)",
        "INSERT INTO t VALUES (1);DROP TABLE t;",
        "CREATE TABLE x (a INTEGER);CREATE TABLE y (a INTEGER)",
        "DELETE FROM t; COMMIT; DROP TABLE t",
    ] {
        let refused = db.try_execute(sql, &[]).await;
        assert!(
            matches!(refused, Err(SqlError::Statement(_) | SqlError::Forbidden(_))),
            "{sql}: {refused:?}"
        );
    }
    for sql in ["", " ", "-- nothing", "/* nothing */", ";", ";;"] {
        assert!(db.try_query(sql, &[]).await.is_err(), "{sql}");
        assert!(db.try_execute(sql, &[]).await.is_err(), "{sql}");
    }
    assert_eq!(db.value("SELECT count(*) FROM t;").await, SqlValue::Integer(0));
    assert_eq!(db.tables().await, ["t"]);
    // What only reads is for mesh_query.
    assert!(matches!(
        db.try_execute("SELECT * FROM t", &[]).await,
        Err(SqlError::Statement(_))
    ));
}

pub async fn reads_change_nothing(lab: &Lab) {
    let db = lab.db();
    db.execute("CREATE TABLE t (a INTEGER)").await;
    db.execute("INSERT INTO t VALUES (1)").await;
    let mut writes = vec![
        "INSERT INTO t VALUES (2)",
        "UPDATE t SET a = 2",
        "DELETE FROM t",
        "DROP TABLE t",
        "CREATE TABLE u (a INTEGER)",
        "ALTER TABLE t ADD COLUMN b INTEGER",
        "CREATE INDEX i ON t (a)",
        "CREATE VIEW v AS SELECT 1",
        "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
        "WITH x AS (SELECT 1 AS a) DELETE FROM t",
        "INSERT INTO t VALUES (3) RETURNING a",
        "DELETE FROM t RETURNING a",
        "REINDEX t",
        "ANALYZE t",
        "VACUUM",
        "/* SELECT */ DELETE FROM t",
        "--SELECT\nDELETE FROM t",
    ];
    if lab.is_postgres() {
        writes.extend([
            "WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x",
            "WITH x AS (INSERT INTO t VALUES (2) RETURNING a) SELECT * FROM x",
            "WITH x AS (UPDATE t SET a = 5 RETURNING a) SELECT count(*) FROM x",
            "SELECT * FROM (WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x) y",
            "SELECT a INTO u FROM t",
            "SELECT * INTO TEMP u FROM t",
            "SELECT a FROM t FOR UPDATE",
            "TRUNCATE t",
            "SELECT 1) AS q (c0); DELETE FROM t; SELECT (1",
            "SELECT 1) AS q (c0) LIMIT 0 --",
            "(SELECT 1)) AS q; DELETE FROM t; SELECT * FROM ((SELECT 1)",
        ]);
    }
    for sql in writes {
        let refused = db.try_query(sql, &[]).await;
        assert!(
            matches!(refused, Err(SqlError::Forbidden(_) | SqlError::Statement(_))),
            "{sql}: {refused:?}"
        );
    }
    assert_eq!(rows(&db.query("SELECT a FROM t").await), json!([{ "a": 1 }]));
    assert_eq!(db.tables().await, ["t"]);
}

pub async fn a_failed_statement_changes_nothing(lab: &Lab) {
    let db = lab.db();
    db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT CHECK (b <> 'bad'))")
        .await;
    for sql in [
        "INSERT INTO t VALUES (1, 'x'), (2, 'y'), (1, 'z')",
        "INSERT INTO t VALUES (1, 'x'), (2, 'bad')",
        "INSERT INTO t VALUES (1, 'x') RETURNING nothing",
        "INSERT INTO none VALUES (1)",
        "UPDATE t SET none = 1",
        "CREATE TABLE t (a INTEGER)",
        "DROP TABLE none",
        "INSERT INTO t VALUE (1)",
    ] {
        match db.try_execute(sql, &[]).await {
            Err(SqlError::Statement(problem)) => assert!(problem.len() > 5, "{problem}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    assert!(matches!(
        db.try_query("SELECT * FROM none", &[]).await,
        Err(SqlError::Statement(_))
    ));
    assert!(matches!(
        db.try_query("SELEC 1", &[]).await,
        Err(SqlError::Statement(_) | SqlError::Forbidden(_))
    ));
    assert_eq!(db.value("SELECT count(*) FROM t").await, SqlValue::Integer(0));
    assert_eq!(db.execute("INSERT INTO t VALUES (1, 'good')").await.row_count, 1);
}

pub async fn what_runs_away_is_stopped_and_others_go_on(lab: &Lab) {
    let limits = SqlLimits {
        time: Duration::from_secs(5),
        ..SqlLimits::default()
    };
    let db = lab.db_with(limits);
    let other = lab.mesh(db.sql.clone());
    db.execute("CREATE TABLE t (a BIGINT)").await;
    other.execute("CREATE TABLE t (a BIGINT)").await;
    let forever = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";
    let read = format!("{forever} SELECT count(*) FROM n");
    let write = match lab.is_postgres() {
        true => format!("INSERT INTO t {forever} SELECT i FROM n WHERE i < 0"),
        false => format!("{forever} INSERT INTO t SELECT i FROM n WHERE i < 0"),
    };
    let running = [
        tokio::spawn({
            let db = db.clone();
            async move { db.try_query(&read, &[]).await }
        }),
        tokio::spawn({
            let db = db.clone();
            async move { db.try_execute(&write, &[]).await }
        }),
    ];
    // Another mesh, and reads of the same one, go on meanwhile.
    for number in 0..5 {
        assert_eq!(
            other
                .execute(&format!("INSERT INTO t VALUES ({number})"))
                .await
                .row_count,
            1
        );
        assert_eq!(db.value("SELECT count(*) FROM t").await, SqlValue::Integer(0));
    }
    for statement in running {
        let ended = statement.await.unwrap();
        assert!(matches!(ended, Err(SqlError::Timeout(_))), "{ended:?}");
    }
    assert_eq!(db.execute("INSERT INTO t VALUES (1)").await.row_count, 1);
    assert_eq!(db.value("SELECT a FROM t").await, SqlValue::Integer(1));
}

pub async fn results_are_bounded(lab: &Lab) {
    let db = lab.db();
    let numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)";
    let many = db.query(&format!("{numbers} SELECT i FROM n")).await;
    assert_eq!((many.rows.len(), many.row_count, many.truncated), (1_000, 1_000, true));
    assert_eq!(many.rows[999]["i"], SqlValue::Integer(1_000));
    let exact = db.query(&format!("{numbers} SELECT i FROM n LIMIT 1000")).await;
    assert_eq!((exact.rows.len(), exact.truncated), (1_000, false));
    // No row is kept out of memory by the database alone: 5,000 rows of 100 KB.
    let long = if lab.is_postgres() {
        "repeat('x', 100000)"
    } else {
        "hex(zeroblob(50000))"
    };
    let large = db.query(&format!("{numbers} SELECT i, {long} AS x FROM n")).await;
    assert_eq!((large.rows.len(), large.truncated), (10, true));
    assert_eq!(
        db.value("SELECT 1").await,
        SqlValue::Integer(1),
        "the connection is as it was"
    );
    let huge = if lab.is_postgres() {
        "repeat('x', 100000000)"
    } else {
        "hex(zeroblob(524287)) || hex(zeroblob(10))"
    };
    for sql in [
        format!("SELECT {huge} AS x"),
        format!("SELECT 1 AS a, {huge} AS x, 2 AS b"),
    ] {
        let refused = db.try_query(&sql, &[]).await;
        assert!(matches!(refused, Err(SqlError::TooLarge(_))), "{refused:?}");
    }
    // Changed rows are all counted, shown or not.
    db.execute("CREATE TABLE t (i INTEGER)").await;
    let insert = match lab.is_postgres() {
        true => format!("INSERT INTO t {numbers} SELECT i FROM n RETURNING i"),
        false => format!("{numbers} INSERT INTO t SELECT i FROM n RETURNING i"),
    };
    let inserted = db.execute(&insert).await;
    assert_eq!(
        (inserted.rows.len(), inserted.row_count, inserted.truncated),
        (1_000, 5_000, true)
    );
    assert_eq!(db.value("SELECT count(*) FROM t").await, SqlValue::Integer(5_000));
    // Statements and values that are too large are refused.
    let wide = (0..300)
        .map(|column| format!("1 AS c{column}"))
        .collect::<Vec<_>>()
        .join(", ");
    assert!(db.try_query(&format!("SELECT {wide}"), &[]).await.is_err());
    let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    // Whether that is too deep is for the database to say; nothing breaks.
    let _either = db.try_query(&deep, &[]).await;
    assert_eq!(db.value("SELECT 1").await, SqlValue::Integer(1));
}

pub async fn a_database_has_a_quota(lab: &Lab) {
    let limits = SqlLimits {
        quota: 2 * 1024 * 1024,
        ..patient()
    };
    let db = lab.db_with(limits);
    db.execute("CREATE TABLE t (x TEXT)").await;
    let piece: String = (0..100_000_u32)
        .map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 26))
        .collect();
    let mut stored = 0;
    let refused = loop {
        match db.try_execute("INSERT INTO t VALUES ($1)", &[text(&piece)]).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "there is a limit");
    };
    assert_eq!(refused, SqlError::Full(2 * 1024 * 1024));
    assert!(stored >= 5, "{stored}");
    // Reading and deleting still work.
    assert_eq!(db.value("SELECT count(*) FROM t").await, SqlValue::Integer(stored));
    assert_eq!(
        db.execute("DELETE FROM t").await.row_count,
        u64::try_from(stored).unwrap()
    );
    if lab.is_postgres() {
        db.execute("TRUNCATE t").await;
    }
    assert_eq!(
        db.try_execute("INSERT INTO t VALUES ($1)", &[text(&piece)])
            .await
            .unwrap()
            .row_count,
        1
    );
    // Another mesh has a quota of its own.
    let other = lab.mesh(db.sql.clone());
    other.execute("CREATE TABLE t (x TEXT)").await;
    other
        .try_execute("INSERT INTO t VALUES ($1)", &[text(&piece)])
        .await
        .unwrap();
}

pub async fn writers_take_turns(lab: &Lab) {
    let db = lab.db();
    db.execute("CREATE TABLE c (n INTEGER)").await;
    db.execute("INSERT INTO c VALUES (0)").await;
    let writers: Vec<_> = (0..10)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    let done = db.execute("UPDATE c SET n = n + 1 RETURNING n").await;
                    assert_eq!(done.row_count, 1);
                    db.query("SELECT n FROM c").await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(db.value("SELECT n FROM c").await, SqlValue::Integer(100));
}

pub async fn meshes_are_apart(lab: &Lab) {
    let ana = lab.db();
    let ben = lab.mesh(ana.sql.clone());
    ana.execute("CREATE TABLE secret_of_ana (x TEXT)").await;
    ana.execute("INSERT INTO secret_of_ana VALUES ('hunter2')").await;
    ben.execute("CREATE TABLE t (x TEXT)").await;
    assert_eq!(ben.tables().await, ["t"]);
    assert_eq!(ana.tables().await, ["secret_of_ana"]);
    assert!(ben.try_query("SELECT * FROM secret_of_ana", &[]).await.is_err());
    // The same name twice.
    ben.execute("CREATE TABLE secret_of_ana (y INTEGER)").await;
    assert_eq!(ben.query("SELECT * FROM secret_of_ana").await.columns, ["y"]);
    ben.execute("DROP TABLE secret_of_ana").await;
    assert_eq!(ana.value("SELECT x FROM secret_of_ana").await, text("hunter2"));
}

pub async fn few_are_open_and_all_is_kept(lab: &Lab) {
    let limits = SqlLimits { open: 4, ..patient() };
    let sql = (lab.open)(limits);
    let meshes: Vec<_> = (0..10).map(|_| lab.mesh(sql.clone())).collect();
    for round in 0..2 {
        for (number, db) in meshes.iter().enumerate() {
            if round == 0 {
                db.execute("CREATE TABLE t (a INTEGER)").await;
            }
            db.execute(&format!("INSERT INTO t VALUES ({number})")).await;
            db.query("SELECT * FROM t").await;
        }
    }
    if let Some(directory) = &lab.directory
        && let Ok(open) = std::fs::read_dir("/proc/self/fd")
    {
        let files = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let databases = files
            .filter(|path| path.starts_with(directory.path()) && path.extension().is_some_and(|end| end == "db"))
            .count();
        // A writer and a reader for each.
        assert!(databases <= 8, "{databases}");
    }
    // All at once: more than are kept open.
    let sums = meshes.iter().map(|db| db.value("SELECT sum(a) FROM t"));
    let sums = futures_util::future::join_all(sums).await;
    sql.close().await;
    let again = (lab.open)(limits);
    for (number, (sum, db)) in sums.into_iter().zip(&meshes).enumerate() {
        assert_eq!(sum, SqlValue::Integer(2 * i64::try_from(number).unwrap()));
        let db = Db {
            sql: again.clone(),
            mesh: db.mesh.clone(),
        };
        assert_eq!(
            db.value("SELECT count(*) FROM t").await,
            SqlValue::Integer(2),
            "after a restart"
        );
        db.execute("INSERT INTO t VALUES (1)").await;
    }
}
