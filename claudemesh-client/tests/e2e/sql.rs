//! Shared SQL: a database of the mesh's own.

use super::enrolment::{patch, permissions};
use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{Permissions, SqlValue};
use claudemesh_client::proto::ops::{
    AuditQuery, MeshExecute, MeshInfo, MeshQuery, MeshSchema, RemoveMember, SqlResult,
};
use claudemesh_client::{ClientError, MeshClient};
use serde_json::{Value, json};
use std::time::Duration;

async fn query(client: &MeshClient, sql: &str) -> Result<SqlResult, ClientError> {
    let sql = sql.to_owned();
    client.request(MeshQuery { sql, params: Vec::new() }).await
}

async fn execute(client: &MeshClient, sql: &str) -> Result<SqlResult, ClientError> {
    let sql = sql.to_owned();
    client.request(MeshExecute { sql, params: Vec::new() }).await
}

pub async fn members_share_tables_and_see_nothing_else(database: Database) {
    let engine = if database.url.is_some() { "postgres" } else { "sqlite" };
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let schema = ana.request(MeshSchema {}).await.unwrap();
    assert_eq!((schema.engine.as_str(), schema.tables.len()), (engine, 0));
    execute(&ana, "CREATE TABLE build (id INTEGER PRIMARY KEY, state TEXT NOT NULL)").await.unwrap();
    let insert = MeshExecute {
        sql: "INSERT INTO build (id, state) VALUES ($1, $2)".to_owned(),
        params: vec![SqlValue::Integer(1), SqlValue::Text("it's green".to_owned())],
    };
    assert_eq!(ben.request(insert).await.unwrap().row_count, 1);
    let tool = json!({ "sql": "SELECT id, state FROM build WHERE state = $1", "params": ["it's green"] });
    let found = cara.call_tool("mesh_query", tool.clone()).await.unwrap();
    assert_eq!(
        (&found["columns"], &found["rows"], &found["rowCount"]),
        (&json!(["id", "state"]), &json!([{ "id": 1, "state": "it's green" }]), &json!(1))
    );
    // Both at once, without losing anything.
    let add = |client: &MeshClient, from: u32| {
        let client = client.clone();
        tokio::spawn(async move {
            for id in from..from + 20 {
                execute(&client, &format!("INSERT INTO build VALUES ({id}, 'x')")).await.unwrap();
            }
        })
    };
    let (one, two) = (add(&ana, 100), add(&ben, 200));
    within("the inserts", one).await.unwrap();
    within("the inserts", two).await.unwrap();
    lab.restart().await;
    let count = query(&cara, "SELECT count(*) AS n FROM build").await.unwrap();
    assert_eq!(count.rows[0]["n"], SqlValue::Integer(41));
    assert_eq!(cara.request(MeshInfo {}).await.unwrap().tables, ["build"]);
    let schema = cara.request(MeshSchema {}).await.unwrap();
    let columns: Vec<_> = schema.tables[0].columns.iter().map(|column| (column.name.as_str(), column.nullable)).collect();
    assert_eq!(columns, [("id", false), ("state", false)]);

    // Another mesh has tables of its own, and nobody has the broker's.
    let olga = lab.mesh("Other", "olga").await;
    assert_eq!(olga.request(MeshInfo {}).await.unwrap().tables, Vec::<String>::new());
    assert_eq!(code(query(&olga, "SELECT * FROM build").await), ErrorCode::QueryError);
    for table in ["member", "mesh.member", "main.member", "message"] {
        let code = code(query(&olga, &format!("SELECT * FROM {table}")).await);
        assert!(matches!(code, ErrorCode::QueryError | ErrorCode::Forbidden), "{table}: {code}");
    }
    lab.finish().await;
}

pub async fn defect_020_104_105_who_may_not_is_refused_and_everybody_is_told(database: Database) {
    let limits = |config: &mut claudemesh_broker::config::Config| {
        config.shared_sql_limits.time = Duration::from_secs(2);
    };
    let (lab, Three { ana, ben, cara }) = Lab::with_three_and(database, limits).await;
    execute(&ana, "CREATE TABLE t (a INTEGER)").await.unwrap();
    let (code_, field) = refusal(execute(&ana, "INSERT INTO none VALUES (1)").await);
    assert_eq!((code_, field.as_deref()), (ErrorCode::ExecuteError, Some("/sql")));
    assert_eq!(code(query(&ana, "SELECT * FROM none").await), ErrorCode::QueryError);
    assert_eq!(code(query(&ana, "DELETE FROM t").await), ErrorCode::Forbidden);
    assert_eq!(code(execute(&ana, "ATTACH 'x' AS y").await), ErrorCode::Forbidden);
    let bad = ana.call_tool("mesh_query", json!({ "sql": "SELECT $1", "params": [[1]] })).await;
    assert_eq!(code(bad), ErrorCode::InvalidRequest);
    for sql in [String::new(), "x".repeat(65_537)] {
        assert_eq!(code(query(&ana, &sql).await), ErrorCode::InvalidRequest);
    }
    // What runs away holds up neither messages nor others.
    let forever = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let running = tokio::spawn({
        let ana = ana.client.clone();
        async move { query(&ana, forever).await }
    });
    let text = lab.text("meanwhile");
    ana.send_text("ben", &text, Default::default()).await.unwrap();
    assert_eq!(recv_text(&ben).await, text);
    assert_eq!(query(&ben, "SELECT a FROM t").await.unwrap().row_count, 0);
    let ended = within("the end of the statement", running).await.unwrap();
    let Err(ClientError::Refused(frame)) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!((frame.code, frame.retryable), (ErrorCode::Timeout, false));

    // Who may not write may read.
    let nothing = Permissions {
        can_write_state: Some(false),
        ..Permissions::default()
    };
    patch(&lab, &ana, &ben, permissions(nothing)).await.unwrap();
    assert_eq!(code(execute(&ben, "INSERT INTO t VALUES (1)").await), ErrorCode::Forbidden);
    assert_eq!(query(&ben, "SELECT a FROM t").await.unwrap().row_count, 0);
    let member_id = cara.person.identity.member_id.clone();
    ana.request(RemoveMember { member_id }).await.unwrap();
    assert!(query(&cara, "SELECT a FROM t").await.is_err());
    // Only what was done is on record, without the statement.
    let audited = AuditQuery {
        event_type: Some("sql_executed".to_owned()),
        ..AuditQuery::default()
    };
    let entries = ana.request(audited).await.unwrap().entries;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].payload, json!({ "statement": "CREATE TABLE", "rows": 0 }));
    lab.finish().await;
}

pub async fn original_clients_use_shared_sql_as_before(database: Database) {
    let (lab, Three { ana, ben, cara: _cara }) = Lab::with_three(database).await;
    let (mut old, _) = Socket::v1(&lab, &ben.person, None).await;
    // Not answered: an answer without an id would pass for that of a query.
    old.send(&json!({ "type": "mesh_execute", "sql": "CREATE TABLE t (a INTEGER)" })).await;
    eventually("the table", || async {
        (ana.request(MeshInfo {}).await.unwrap().tables == ["t"]).then_some(())
    })
    .await;
    assert_eq!(old.drained().await, Vec::<Value>::new());
    let (done, _) = old.ask(json!({ "type": "mesh_execute", "sql": "INSERT INTO t VALUES (1)" })).await;
    assert_eq!((&done["type"], &done["rowCount"]), (&json!("mesh_query_result"), &json!(1)));
    old.send(&json!({ "type": "mesh_query", "sql": "SELECT a FROM t" })).await;
    let found = old.next_of("mesh_query_result").await;
    assert_eq!(
        (&found["columns"], &found["rows"], &found["rowCount"]),
        (&json!(["a"]), &json!([{ "a": 1 }]), &json!(1))
    );
    old.send(&json!({ "type": "mesh_schema" })).await;
    let schema = old.next_of("mesh_schema_result").await;
    let column = &schema["tables"][0]["columns"][0];
    assert_eq!((&schema["tables"][0]["name"], &column["name"]), (&json!("t"), &json!("a")));
    assert_eq!(column["type"].as_str().unwrap().to_lowercase(), "integer");
    assert_eq!(column["nullable"], true);
    lab.finish().await;
}
