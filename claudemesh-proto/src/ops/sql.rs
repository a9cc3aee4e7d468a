//! Shared SQL: a database of the mesh's own.

use crate::model::SqlValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Reads from the mesh's shared SQL database with one SELECT. Nothing can be changed with it. `mesh_schema` shows the tables
/// and which database it is (SQLite or PostgreSQL). Gives at most 1,000 rows or 1 MiB; use LIMIT and WHERE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeshQuery {
    /// One SELECT (or WITH … SELECT, VALUES).
    #[schemars(length(min = 1, max = 65_536))]
    pub sql: String,
    /// Values for the parameters `$1`, `$2`, … of the statement. Use them for every value that is not your own text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub params: Vec<SqlValue>,
}

/// Changes the mesh's shared SQL database with one statement: CREATE, ALTER or DROP of tables, indexes and views, INSERT,
/// UPDATE, DELETE. RETURNING gives rows. All members work on the same tables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeshExecute {
    /// One statement.
    #[schemars(length(min = 1, max = 65_536))]
    pub sql: String,
    /// Values for the parameters `$1`, `$2`, … of the statement. Use them for every value that is not your own text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub params: Vec<SqlValue>,
}

/// Rows of the shared SQL database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqlResult {
    /// Names of the columns in their order. A name that comes twice gets a number: `id`, `id_2`.
    pub columns: Vec<String>,
    /// Type of each column, as the database calls it; empty if it has none.
    #[serde(default)]
    pub column_types: Vec<String>,
    /// One object per row.
    pub rows: Vec<BTreeMap<String, SqlValue>>,
    /// Number of rows: those that are shown for a query, those that were changed for a statement.
    pub row_count: u64,
    /// Whether there are more rows than are shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// Lists the tables and views of the mesh's shared SQL database with their columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeshSchema {}

/// The tables of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeshSchemaResult {
    /// Tables and views, by name.
    pub tables: Vec<SqlTable>,
    /// Whose SQL it is: `sqlite` or `postgres`.
    #[serde(default)]
    pub engine: String,
}

/// A table or view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SqlTable {
    /// Its name.
    pub name: String,
    /// Its columns in their order.
    pub columns: Vec<SqlColumn>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SqlColumn {
    /// Its name.
    pub name: String,
    /// Its type, as the database calls it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it may be NULL.
    pub nullable: bool,
}
