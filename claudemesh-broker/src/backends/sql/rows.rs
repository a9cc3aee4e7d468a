//! Collecting a result within its bounds.

use std::collections::{BTreeMap, HashSet};

use claudemesh_proto::model::SqlValue;
use claudemesh_proto::ops::SqlResult;

use super::{SqlError, SqlLimits};

/// A result that grows up to its bounds.
#[derive(Debug)]
pub(super) struct Rows {
    result: SqlResult,
    bytes: usize,
    seen: u64,
    limits: SqlLimits,
}

impl Rows {
    /// A result with these columns: name and type.
    pub(super) fn new(columns: impl IntoIterator<Item = (String, String)>, limits: SqlLimits) -> Self {
        let (names, column_types): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let result = SqlResult {
            columns: distinct(names),
            column_types,
            ..SqlResult::default()
        };
        Self {
            result,
            bytes: 0,
            seen: 0,
            limits,
        }
    }

    /// Adds a row. `false`: it has no place any more, and no further row has.
    ///
    /// # Errors
    /// [`SqlError::TooLarge`] if not even the first row has a place.
    pub(super) fn push(&mut self, values: Vec<SqlValue>) -> Result<bool, SqlError> {
        self.seen += 1;
        let row: BTreeMap<_, _> = self.result.columns.iter().cloned().zip(values).collect();
        let size = serde_json::to_vec(&row).map(|text| text.len()).unwrap_or(usize::MAX);
        let has_room =
            self.result.rows.len() < self.limits.rows && size <= self.limits.bytes.saturating_sub(self.bytes);
        if has_room && !self.result.truncated {
            self.bytes += size;
            self.result.rows.push(row);
            return Ok(true);
        }
        if self.result.rows.is_empty() {
            return Err(row_too_large(self.limits.bytes));
        }
        self.result.truncated = true;
        Ok(false)
    }

    /// How many rows were there, shown or not.
    pub(super) fn counted(&self) -> u64 {
        self.seen
    }

    /// The result of a query.
    pub(super) fn shown(mut self) -> SqlResult {
        self.result.row_count = u64::try_from(self.result.rows.len()).unwrap_or(u64::MAX);
        self.result
    }

    /// The result of a statement that changed so many rows.
    pub(super) fn changed(mut self, rows: u64) -> SqlResult {
        self.result.row_count = rows;
        self.result
    }
}

/// That a single row has no place.
pub(super) fn row_too_large(limit: usize) -> SqlError {
    SqlError::TooLarge(format!(
        "a row of the result has more than {limit} bytes; select fewer columns, or parts of them with substr"
    ))
}

/// The names, with a number where one comes again.
fn distinct(names: Vec<String>) -> Vec<String> {
    let mut taken: HashSet<String> = HashSet::new();
    let mut distinct = Vec::with_capacity(names.len());
    for name in &names {
        let mut candidate = name.clone();
        let mut number = 2;
        while taken.contains(&candidate) || (candidate != *name && names.contains(&candidate)) {
            candidate = format!("{name}_{number}");
            number += 1;
        }
        taken.insert(candidate.clone());
        distinct.push(candidate);
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Vec<SqlValue> {
        vec![SqlValue::Text("x".repeat(length))]
    }

    #[test]
    fn columns_have_names_of_their_own() {
        let names = ["a", "a", "a_2", "a", "b"].map(str::to_owned).to_vec();
        assert_eq!(distinct(names), ["a", "a_3", "a_2", "a_4", "b"]);
    }

    #[test]
    fn a_result_ends_at_its_bounds() {
        let limits = SqlLimits {
            rows: 3,
            bytes: 100,
            ..SqlLimits::default()
        };
        let new = || Rows::new([("a".to_owned(), String::new())], limits);
        let mut rows = new();
        let kept: Vec<_> = (0..4).map(|_| rows.push(text(1)).unwrap()).collect();
        assert_eq!(kept, [true, true, true, false]);
        let result = rows.shown();
        assert_eq!((result.row_count, result.truncated), (3, true));
        let mut rows = new();
        assert!(rows.push(text(50)).unwrap() && !rows.push(text(50)).unwrap());
        assert!(
            !rows.push(text(1)).unwrap(),
            "what follows a row that is left out is left out too"
        );
        assert!(matches!(new().push(text(200)), Err(SqlError::TooLarge(_))));
    }
}
