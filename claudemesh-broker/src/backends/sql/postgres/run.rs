//! One statement in a transaction of its own.

use std::collections::HashSet;
use std::time::Duration;

use claudemesh_crypto::decode_base64;
use claudemesh_proto::model::SqlValue;
use claudemesh_proto::ops::SqlResult;
use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Column as _, Executor as _, PgConnection, Row as _, SqlSafeStr as _, Statement as _, TypeInfo as _,
};
use tokio::time::{Instant, timeout_at};

use super::guard::{self, Kind, Rules};
use super::lexer::{self, Token};
use super::unavailable;
use crate::backends::sql::rows::{Rows, row_too_large};
use crate::backends::sql::{SqlError, SqlLimits, Statement};

/// Most columns of a result.
const MAX_COLUMNS: usize = 200;
/// How much longer than the statement's own limit is waited for the server.
const PATIENCE: Duration = Duration::from_secs(2);

/// A result or an error, and whether the connection can be used again.
pub(super) type Ran = Result<(SqlResult, bool), (SqlError, bool)>;

/// The text of a statement of `mesh_query` for the server.
pub(super) fn read_only(statement: &Statement, functions: &HashSet<String>, schema: &str) -> Result<String, SqlError> {
    let mut tokens = lexer::read(&statement.sql)?;
    guard::trim(&mut tokens);
    Rules { functions, schema }.reads(&tokens)?;
    text(&tokens, &statement.params)
}

/// The text of a statement of `mesh_execute` for the server, and what it is.
pub(super) fn changing(
    statement: &Statement,
    functions: &HashSet<String>,
    schema: &str,
) -> Result<(String, Kind), SqlError> {
    let mut tokens = lexer::read(&statement.sql)?;
    guard::trim(&mut tokens);
    let kind = Rules { functions, schema }.changes(&tokens)?;
    Ok((text(&tokens, &statement.params)?, kind))
}

/// The statement with its parameters in place, as literals whose type the server finds out.
fn text(tokens: &[Token], params: &[SqlValue]) -> Result<String, SqlError> {
    let mut used = vec![false; params.len()];
    let sql = lexer::write(tokens, |number| {
        let Some(param) = params.get(number - 1) else {
            return Err(SqlError::Statement(format!(
                "the statement has a parameter ${number}, and there are {} params",
                params.len()
            )));
        };
        used[number - 1] = true;
        value(param)
    })?;
    match used.iter().position(|used| !used) {
        Some(unused) => Err(SqlError::Statement(format!(
            "there are {} params, and the statement has no ${}",
            params.len(),
            unused + 1
        ))),
        None => Ok(sql),
    }
}

fn value(param: &SqlValue) -> Result<String, SqlError> {
    Ok(match param {
        SqlValue::Null => "NULL".to_owned(),
        SqlValue::Bool(true) => "TRUE".to_owned(),
        SqlValue::Bool(false) => "FALSE".to_owned(),
        // In brackets: a sign must not join an operator.
        SqlValue::Integer(number) => format!("({number})"),
        SqlValue::Real(number) if number.is_finite() => format!("({number:e})"),
        SqlValue::Real(number) => format!("'{number}'::float8"),
        SqlValue::Text(text) if text.contains('\0') => {
            return Err(SqlError::Statement("a text holds a NUL character".to_owned()));
        }
        SqlValue::Text(text) => lexer::literal(text),
        SqlValue::Blob(bytes) => {
            let bytes = decode_base64(bytes.as_str())
                .ok_or_else(|| SqlError::Statement("a $base64 param is not base64".to_owned()))?;
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("'\\x{digits}'::bytea")
        }
    })
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    ReadOnly,
    ReadWrite,
}

/// Runs a statement that reads, in a transaction that was begun for it.
pub(super) async fn query(connection: &mut PgConnection, sql: &str, limits: SqlLimits) -> Ran {
    let deadline = Instant::now() + limits.time + PATIENCE;
    let work = async {
        let Some(columns) = describe(connection, sql).await? else {
            return Err(SqlError::Statement("select at least one column".to_owned()));
        };
        let wrapped = wrap(
            &format!("FROM ({sql}) AS q"),
            "",
            &columns,
            limits,
            Some(limits.rows + 1),
        );
        fetch(connection, wrapped, columns, limits, true).await
    };
    let done = timeout_at(deadline, work).await;
    match done {
        Err(_) => Err((SqlError::Timeout(limits.time), false)),
        Ok(Err(error)) => Err(roll_back(connection, error).await),
        // The rest of the rows is still on its way: the connection is closed with it.
        Ok(Ok((rows, false))) => Ok((rows.shown(), false)),
        Ok(Ok((rows, true))) => {
            let is_clean = sqlx::raw_sql("ROLLBACK").execute(connection).await.is_ok();
            Ok((rows.shown(), is_clean))
        }
    }
}

/// Runs a statement that changes something, in a transaction that was begun for it.
pub(super) async fn execute(
    connection: &mut PgConnection,
    sql: &str,
    kind: Kind,
    schema: &str,
    limits: SqlLimits,
) -> Ran {
    let deadline = Instant::now() + limits.time + PATIENCE;
    let work = async {
        if kind == Kind::Grow {
            check_quota(connection, schema, limits).await?;
        }
        let result = match describe(connection, sql).await? {
            None => {
                let done = sqlx::query(AssertSqlSafe(sql))
                    .persistent(false)
                    .execute(&mut *connection)
                    .await;
                let changed = done.map_err(|error| explain(&error, limits))?.rows_affected();
                Rows::new([], limits).changed(changed)
            }
            Some(columns) => {
                let with = format!("WITH q ({}) AS ({sql})", names(columns.len()));
                let wrapped = wrap("FROM q", &with, &columns, limits, None);
                let (rows, _) = fetch(connection, wrapped, columns, limits, false).await?;
                let changed = rows.counted();
                rows.changed(changed)
            }
        };
        if kind == Kind::Grow {
            check_quota(connection, schema, limits).await?;
        }
        let committed = sqlx::raw_sql("COMMIT").execute(&mut *connection).await;
        committed.map_err(|error| explain(&error, limits))?;
        Ok(result)
    };
    match timeout_at(deadline, work).await {
        Err(_) => Err((SqlError::Timeout(limits.time), false)),
        Ok(Ok(result)) => Ok((result, true)),
        Ok(Err(error)) => Err(roll_back(connection, error).await),
    }
}

async fn roll_back(connection: &mut PgConnection, error: SqlError) -> (SqlError, bool) {
    let rolled_back = timeout_at(Instant::now() + PATIENCE, sqlx::raw_sql("ROLLBACK").execute(connection)).await;
    (error, matches!(rolled_back, Ok(Ok(_))))
}

/// Begins a transaction.
pub(super) async fn begin(connection: &mut PgConnection, mode: Mode, limits: SqlLimits) -> Result<(), SqlError> {
    let ms = limits.time.as_millis().max(1);
    let mode = match mode {
        Mode::ReadOnly => "READ ONLY",
        Mode::ReadWrite => "READ WRITE",
    };
    // One message: the settings are the transaction's own, and end with it.
    let sql = format!(
        "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED, {mode}; SET LOCAL statement_timeout = {ms}; \
         SET LOCAL lock_timeout = {ms}; SET LOCAL idle_in_transaction_session_timeout = {}",
        ms + PATIENCE.as_millis()
    );
    let begun = timeout_at(
        Instant::now() + limits.time + PATIENCE,
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection),
    );
    match begun.await {
        Ok(begun) => begun.map(|_| ()).map_err(|error| explain(&error, limits)),
        Err(_) => Err(SqlError::Busy),
    }
}

/// Names and types of the statement's columns; `None` if it gives no rows. A text with several statements is refused by the
/// server here.
async fn describe(connection: &mut PgConnection, sql: &str) -> Result<Option<Vec<(String, String)>>, SqlError> {
    let prepared = connection.prepare(AssertSqlSafe(sql).into_sql_str()).await;
    let prepared = prepared.map_err(|error| explain(&error, SqlLimits::default()))?;
    let columns: Vec<_> = prepared
        .columns()
        .iter()
        .map(|column| (column.name().to_owned(), column.type_info().name().to_lowercase()))
        .collect();
    // Tables may change before the same text comes again.
    let cleared = sqlx::Connection::clear_cached_statements(connection).await;
    cleared.map_err(|error| unavailable(&error))?;
    if columns.len() > MAX_COLUMNS {
        return Err(SqlError::TooLarge(format!(
            "a result has at most {MAX_COLUMNS} columns"
        )));
    }
    Ok((!columns.is_empty()).then_some(columns))
}

fn names(count: usize) -> String {
    (0..count)
        .map(|index| format!("c{index}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The statement around a statement: every value as text, and rows that are too large without their values, so that the broker
/// never takes more than it shows. The last column is the size of the row.
fn wrap(from: &str, with: &str, columns: &[(String, String)], limits: SqlLimits, most: Option<usize>) -> String {
    let bytes = limits.bytes;
    let aliased = match with {
        "" => format!("{from} ({})", names(columns.len())),
        _ => from.to_owned(),
    };
    let texts: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(index, (_, kind))| match kind.as_str() {
            // One more than fits tells that it does not.
            "bytea" => format!(
                "encode(substring(q.c{index} FROM 1 FOR {}), 'hex') AS t{index}",
                bytes / 2 + 1
            ),
            _ => format!("left(q.c{index}::text, {}) AS t{index}", bytes + 1),
        })
        .collect();
    let sizes: Vec<_> = (0..columns.len())
        .map(|index| format!("coalesce(octet_length(r.t{index}), 0)"))
        .collect();
    let shown: Vec<_> = (0..columns.len())
        .map(|index| format!("CASE WHEN s.size <= {bytes} THEN s.t{index} END"))
        .collect();
    let limit = most.map(|most| format!(" LIMIT {most}")).unwrap_or_default();
    format!(
        "{with} SELECT {}, s.size FROM (SELECT r.*, {} AS size FROM (SELECT {} {aliased}{limit}) AS r OFFSET 0) AS s",
        shown.join(", "),
        sizes.join(" + "),
        texts.join(", ")
    )
}

/// Collects the rows. Tells whether all rows were read, so that the connection has nothing left to say.
async fn fetch(
    connection: &mut PgConnection,
    sql: String,
    columns: Vec<(String, String)>,
    limits: SqlLimits,
    may_stop: bool,
) -> Result<(Rows, bool), SqlError> {
    let kinds: Vec<_> = columns.iter().map(|(_, kind)| kind.clone()).collect();
    let mut rows = Rows::new(columns, limits);
    let query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    let mut stream = query.fetch(connection);
    while let Some(row) = stream.try_next().await.map_err(|error| explain(&error, limits))? {
        let size: i32 = row.try_get(kinds.len()).map_err(|error| unavailable(&error))?;
        if usize::try_from(size).is_ok_and(|size| size > limits.bytes) {
            return Err(row_too_large(limits.bytes));
        }
        let values = kinds
            .iter()
            .enumerate()
            .map(|(index, kind)| {
                let text: Option<String> = row.try_get(index).map_err(|error| unavailable(&error))?;
                Ok(text.map_or(SqlValue::Null, |text| typed(kind, text)))
            })
            .collect::<Result<Vec<_>, SqlError>>()?;
        if !rows.push(values)? && may_stop {
            return Ok((rows, false));
        }
    }
    Ok((rows, true))
}

/// A value from its text form.
fn typed(kind: &str, text: String) -> SqlValue {
    match kind {
        "int2" | "int4" | "int8" | "oid" => text.parse().map_or(SqlValue::Text(text), SqlValue::Integer),
        "float4" | "float8" => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => SqlValue::Real(value),
            _ => SqlValue::Text(text),
        },
        "bool" => SqlValue::Bool(text == "true" || text == "t"),
        "bytea" => match from_hex(&text) {
            Some(bytes) => SqlValue::Blob(claudemesh_crypto::encode_base64(&bytes).into()),
            None => SqlValue::Text(text),
        },
        _ => SqlValue::Text(text),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes().chunks(2);
    bytes
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// That the mesh's tables are within their quota.
async fn check_quota(connection: &mut PgConnection, schema: &str, limits: SqlLimits) -> Result<(), SqlError> {
    let sql = "SELECT coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::int8 AS bytes \
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relkind IN ('r', 'm', 'S')";
    let row = sqlx::query(sql)
        .persistent(false)
        .bind(schema)
        .fetch_one(connection)
        .await;
    let row = row.map_err(|error| explain(&error, limits))?;
    let bytes: i64 = row.try_get("bytes").map_err(|error| unavailable(&error))?;
    match u64::try_from(bytes).is_ok_and(|bytes| bytes > limits.quota) {
        true => Err(SqlError::Full(limits.quota)),
        false => Ok(()),
    }
}

/// An error of a statement, as its author may know it.
fn explain(error: &sqlx::Error, limits: SqlLimits) -> SqlError {
    let sqlx::Error::Database(refused) = error else {
        return unavailable(error);
    };
    let code = refused.code().unwrap_or_default();
    match code.as_ref() {
        "57014" => SqlError::Timeout(limits.time),
        "25006" => SqlError::Forbidden("mesh_query only reads; use mesh_execute for changes".to_owned()),
        // The server's text names what the mesh must not know of.
        "42501" | "3F000" => SqlError::Forbidden(
            "only the mesh's own tables can be reached; write their names without a schema".to_owned(),
        ),
        "55P03" | "40001" | "40P01" => SqlError::Busy,
        "53100" => SqlError::Full(limits.quota),
        "54000" | "54001" | "54011" | "54023" | "53200" => SqlError::TooLarge(refused.message().to_owned()),
        code if ["08", "53", "57", "58", "XX"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            unavailable(error)
        }
        _ => SqlError::Statement(refused.message().to_owned()),
    }
}
