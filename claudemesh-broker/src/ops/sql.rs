//! Shared SQL: a database of the mesh's own.

use claudemesh_proto::ops::{MeshExecute, MeshQuery, MeshSchema, MeshSchemaResult, SqlResult};
use claudemesh_proto::{ErrorCode, ErrorFrame};
use serde_json::json;

use crate::Broker;
use crate::backends::sql::Statement;
use crate::context::{Context, Handle};

impl Handle<MeshQuery> for Broker {
    async fn handle(cx: Context, request: MeshQuery) -> Result<SqlResult, ErrorFrame> {
        let MeshQuery { sql, params } = request;
        let done = cx.broker.sql.query(cx.session.mesh_id(), Statement { sql, params });
        done.await.map_err(|error| error.to_frame(ErrorCode::QueryError))
    }
}

impl Handle<MeshExecute> for Broker {
    async fn handle(cx: Context, request: MeshExecute) -> Result<SqlResult, ErrorFrame> {
        let MeshExecute { sql, params } = request;
        let kind = first_words(&sql);
        let done = cx.broker.sql.execute(cx.session.mesh_id(), Statement { sql, params });
        let result = done.await.map_err(|error| error.to_frame(ErrorCode::ExecuteError))?;
        // Metadata only: the statement may hold anything, and the log is for ever.
        let payload = json!({ "statement": kind, "rows": result.row_count });
        cx.record(cx.audit_event::<MeshExecute>(payload)).await?;
        Ok(result)
    }
}

impl Handle<MeshSchema> for Broker {
    async fn handle(cx: Context, _: MeshSchema) -> Result<MeshSchemaResult, ErrorFrame> {
        let sql = &cx.broker.sql;
        let tables = sql.schema(cx.session.mesh_id()).await;
        Ok(MeshSchemaResult {
            tables: tables.map_err(|error| error.to_frame(ErrorCode::QueryError))?,
            engine: sql.engine().to_owned(),
        })
    }
}

/// What kind of statement it is: `CREATE TABLE`, `INSERT`.
fn first_words(sql: &str) -> String {
    const KNOWN: [&str; 13] = [
        "CREATE", "ALTER", "DROP", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "TRUNCATE", "WITH", "REINDEX",
        "ANALYZE", "VALUES",
    ];
    const OBJECTS: [&str; 4] = ["TABLE", "INDEX", "VIEW", "SEQUENCE"];
    let mut words = sql.split_ascii_whitespace().map(str::to_ascii_uppercase);
    let Some(first) = words.next().filter(|word| KNOWN.contains(&word.as_str())) else {
        return "other".to_owned();
    };
    match words.next().filter(|word| OBJECTS.contains(&word.as_str())) {
        Some(object) => format!("{first} {object}"),
        None => first,
    }
}
