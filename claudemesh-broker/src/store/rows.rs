//! Between Rust values and columns.

use super::StoreError;
use claudemesh_proto::model::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::{Any, AnyRow};
use sqlx::{AnyConnection, Decode, Row as _, Type};

/// The column, as `T`.
pub(super) fn get<'r, T>(row: &'r AnyRow, column: &str) -> Result<T, StoreError>
where
    T: Decode<'r, Any> + Type<Any>,
{
    Ok(row.try_get(column)?)
}

/// A text column, as one of the identifier types.
pub(super) fn text<T: From<String>>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    Ok(T::from(get::<String>(row, column)?))
}

/// A text column that may be null.
pub(super) fn text_opt<T: From<String>>(row: &AnyRow, column: &str) -> Result<Option<T>, StoreError> {
    Ok(get::<Option<String>>(row, column)?.map(T::from))
}

/// A JSON column.
pub(super) fn json<T: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    from_json(get::<&str>(row, column)?, column)
}

/// A JSON column that may be null.
pub(super) fn json_opt<T: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<Option<T>, StoreError> {
    get::<Option<&str>>(row, column)?
        .map(|text| from_json(text, column))
        .transpose()
}

/// An enum that is stored as its wire text without quotes.
pub(super) fn word<T: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    let text = get::<String>(row, column)?;
    serde_json::from_value(serde_json::Value::String(text))
        .map_err(|_| StoreError::Corrupt(format!("column {column} holds an unknown word")))
}

/// The wire text of an enum.
pub(super) fn to_word<T: Serialize>(value: &T) -> Result<String, StoreError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => Ok(text),
        _ => Err(StoreError::Database("a value has no text form".into())),
    }
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str, column: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt(format!("column {column} holds no such JSON")))
}

pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Database("a value has no JSON form".into()))
}

pub(super) fn to_json_opt<T: Serialize>(value: Option<&T>) -> Result<Option<String>, StoreError> {
    value.map(to_json).transpose()
}

pub(super) fn time(row: &AnyRow, column: &str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_ms(get(row, column)?))
}

pub(super) fn time_opt(row: &AnyRow, column: &str) -> Result<Option<Timestamp>, StoreError> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_ms))
}

pub(super) fn flag(row: &AnyRow, column: &str) -> Result<bool, StoreError> {
    Ok(get::<i64>(row, column)? != 0)
}

/// A count or position, which is never negative.
pub(super) fn count(row: &AnyRow, column: &str) -> Result<u64, StoreError> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| StoreError::Corrupt(format!("column {column} is negative")))
}

/// A position or number that the database can hold.
pub(super) fn to_i64(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Limit("a number is too large".into()))
}

/// A row limit.
pub(super) fn limit(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// ` AND column NOT IN ($3, $4)`: a condition that leaves rows of these members out; `first` is the number of the first
/// parameter. Empty without members.
pub(super) fn not_of(column: &str, members: usize, first: usize) -> String {
    if members == 0 {
        return String::new();
    }
    let places: Vec<_> = (first..first + members).map(|place| format!("${place}")).collect();
    format!(" AND {column} NOT IN ({})", places.join(", "))
}

/// `%part%` for `LIKE … ESCAPE '!'`. (A backslash is no good: Postgres has it as its own escape in some settings.)
pub(super) fn like(part: &str) -> String {
    let mut pattern = String::from("%");
    for c in part.chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// `($1,$2),($3,$4)`: the values of a statement with this many rows and no other parameters. On SQLite `(?,?),(?,?)`:
/// it looks numbered parameters up in a list, and with a thousand of them that took a fifth of the committer's time.
pub(super) fn push_values(connection: &AnyConnection, sql: &mut String, rows: usize, columns: usize) {
    use std::fmt::Write as _;
    let numbered = connection.backend_name() != "SQLite";
    let mut parameter = 0;
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..columns {
            parameter += 1;
            let comma = if column == 0 { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = if numbered {
                write!(sql, "{comma}${parameter}")
            } else {
                write!(sql, "{comma}?")
            };
        }
        sql.push(')');
    }
}

/// Sizes to cut `rows` into. Only powers of two, so that the connection's cache of prepared statements is hit.
pub(super) fn chunks<T>(rows: &[T], largest: usize) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let fits = rest.len().min(largest);
        let size = 1 << fits.ilog2();
        let (chunk, tail) = rest.split_at(size);
        rest = tail;
        Some(chunk)
    })
}
