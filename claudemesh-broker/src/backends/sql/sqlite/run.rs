//! One statement.

use claudemesh_crypto::{decode_base64, encode_base64};
use claudemesh_proto::model::SqlValue;
use claudemesh_proto::ops::{SqlColumn, SqlResult, SqlTable};
use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};

use super::connection::Guarded;
use crate::backends::sql::rows::Rows;
use crate::backends::sql::{SqlError, Statement};

/// What is wrong with a statement before SQLite has a say, or while its rows are read.
enum Outcome {
    Done(SqlResult),
    Refused(SqlError),
}

/// Runs a statement that reads.
pub(super) fn query(connection: &Guarded, statement: &Statement) -> Result<SqlResult, SqlError> {
    let limits = connection.limits();
    let done = connection.guarded(|raw| {
        let mut prepared = raw.prepare(&statement.sql)?;
        if !prepared.readonly() {
            return Ok(Outcome::Refused(SqlError::Forbidden(
                "mesh_query only reads; use mesh_execute for changes".to_owned(),
            )));
        }
        if prepared.column_count() == 0 {
            return Ok(Outcome::Refused(empty()));
        }
        if let Err(error) = bind(&mut prepared, &statement.params)? {
            return Ok(Outcome::Refused(error));
        }
        let mut rows = Rows::new(columns(&prepared), limits);
        let count = prepared.column_count();
        let mut cursor = prepared.raw_query();
        while let Some(row) = cursor.next()? {
            match rows.push(values(row, count)?) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Ok(Outcome::Refused(error)),
            }
        }
        drop(cursor);
        Ok(Outcome::Done(rows.shown()))
    })?;
    settle(done)
}

/// Runs a statement that changes something.
pub(super) fn execute(connection: &Guarded, statement: &Statement) -> Result<SqlResult, SqlError> {
    let limits = connection.limits();
    let done = connection.guarded(|raw| {
        let mut prepared = raw.prepare(&statement.sql)?;
        let count = prepared.column_count();
        if prepared.readonly() && count > 0 {
            return Ok(Outcome::Refused(SqlError::Statement(
                "this statement changes nothing; use mesh_query for reading".to_owned(),
            )));
        }
        if statement.sql.trim().is_empty() {
            return Ok(Outcome::Refused(empty()));
        }
        if let Err(error) = bind(&mut prepared, &statement.params)? {
            return Ok(Outcome::Refused(error));
        }
        let before = total_changes(raw);
        let mut rows = Rows::new(columns(&prepared), limits);
        let mut problem = None;
        let mut cursor = prepared.raw_query();
        // To the end: the statement is done only then. SQLite makes all changes before it gives the first row.
        while let Some(row) = cursor.next()? {
            if problem.is_none()
                && let Err(error) = rows.push(values(row, count)?)
            {
                problem = Some(error);
            }
        }
        drop(cursor);
        let changed = if total_changes(raw) == before { 0 } else { raw.changes() };
        match problem {
            // The change stands; what does not fit is only not shown.
            Some(_) => Ok(Outcome::Done(SqlResult {
                truncated: true,
                ..rows.changed(changed)
            })),
            None => Ok(Outcome::Done(rows.changed(changed))),
        }
    })?;
    settle(done)
}

fn settle(outcome: Outcome) -> Result<SqlResult, SqlError> {
    match outcome {
        Outcome::Done(result) => Ok(result),
        Outcome::Refused(error) => Err(error),
    }
}

fn empty() -> SqlError {
    SqlError::Statement("there is no statement".to_owned())
}

fn total_changes(connection: &Connection) -> u64 {
    connection.total_changes()
}

fn columns(prepared: &rusqlite::Statement<'_>) -> Vec<(String, String)> {
    let columns = prepared.columns();
    let columns = columns.iter().map(|column| {
        let kind = column.decl_type().unwrap_or_default();
        (column.name().to_owned(), kind.to_owned())
    });
    columns.collect()
}

/// Binds `$1`, `$2`, … by their number, and `?` by position.
fn bind(prepared: &mut rusqlite::Statement<'_>, params: &[SqlValue]) -> rusqlite::Result<Result<(), SqlError>> {
    let mut used = vec![false; params.len()];
    for index in 1..=prepared.parameter_count() {
        let number = match prepared.parameter_name(index) {
            None => index,
            Some(name) => match name[1..].parse::<usize>() {
                Ok(number) if name.starts_with(['$', '?']) && number > 0 => number,
                _ => {
                    let text = format!("the parameter {name} has a name; parameters are $1, $2, …");
                    return Ok(Err(SqlError::Statement(text)));
                }
            },
        };
        let Some(param) = params.get(number - 1) else {
            return Ok(Err(missing(number, params.len())));
        };
        used[number - 1] = true;
        let value = match sqlite_value(param) {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        };
        prepared.raw_bind_parameter(index, value)?;
    }
    Ok(match used.iter().position(|used| !used) {
        Some(unused) => Err(SqlError::Statement(format!(
            "there are {} params, and the statement has no ${}",
            params.len(),
            unused + 1
        ))),
        None => Ok(()),
    })
}

fn missing(number: usize, given: usize) -> SqlError {
    SqlError::Statement(format!(
        "the statement has a parameter ${number}, and there are {given} params"
    ))
}

fn sqlite_value(param: &SqlValue) -> Result<Value, SqlError> {
    Ok(match param {
        SqlValue::Null => Value::Null,
        SqlValue::Bool(value) => Value::Integer(i64::from(*value)),
        SqlValue::Integer(value) => Value::Integer(*value),
        SqlValue::Real(value) => Value::Real(*value),
        SqlValue::Text(value) => Value::Text(value.clone()),
        SqlValue::Blob(value) => match decode_base64(value.as_str()) {
            Some(bytes) => Value::Blob(bytes),
            None => return Err(SqlError::Statement("a $base64 param is not base64".to_owned())),
        },
    })
}

fn values(row: &rusqlite::Row<'_>, count: usize) -> rusqlite::Result<Vec<SqlValue>> {
    (0..count)
        .map(|index| {
            Ok(match row.get_ref(index)? {
                ValueRef::Null => SqlValue::Null,
                ValueRef::Integer(value) => SqlValue::Integer(value),
                ValueRef::Real(value) => SqlValue::Real(value),
                ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                    Ok(text) => SqlValue::Text(text.to_owned()),
                    // A text made from bytes that are none.
                    Err(_) => SqlValue::Blob(encode_base64(bytes).into()),
                },
                ValueRef::Blob(bytes) => SqlValue::Blob(encode_base64(bytes).into()),
            })
        })
        .collect()
}

/// The tables and views, by name.
pub(super) fn schema(connection: &Guarded) -> Result<Vec<SqlTable>, SqlError> {
    connection.trusted(|raw| {
        let mut tables = raw.prepare(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
             ORDER BY name",
        )?;
        let names = tables.query_map([], |row| row.get::<_, String>(0))?;
        let mut tables = Vec::new();
        for name in names {
            let name = name?;
            let mut columns =
                raw.prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo($1) ORDER BY cid")?;
            let columns = columns.query_map([&name], |row| {
                Ok(SqlColumn {
                    name: row.get(0)?,
                    kind: row.get(1)?,
                    nullable: row.get::<_, i64>(2)? == 0 && row.get::<_, i64>(3)? == 0,
                })
            })?;
            // A view whose table is gone has no columns.
            let columns = columns.collect::<rusqlite::Result<Vec<_>>>().unwrap_or_default();
            tables.push(SqlTable { name, columns });
        }
        Ok(tables)
    })
}
