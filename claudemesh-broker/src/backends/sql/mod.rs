//! Shared SQL: a database for each mesh.
//!
//! | | SQLite | Postgres |
//! |---|---|---|
//! | a mesh has | a file | a schema, and a role with its own connections |
//! | reads | a connection that is opened read-only, with `query_only` and an authorizer | a `READ ONLY` transaction |
//! | what is out of reach | the authorizer allows what is listed, nothing else | the role has rights in its schema only; [`postgres`] has what rights cannot forbid |
//!
//! Both keep to the same [`SqlLimits`] and the same tests.

mod error;
pub mod postgres;
mod rows;
pub mod sqlite;

pub use error::SqlError;

use std::fmt;
use std::time::Duration;

use claudemesh_proto::limits::{MAX_SQL_RESULT_BYTES, MAX_SQL_ROWS};
use claudemesh_proto::model::{MeshId, SqlValue};
use claudemesh_proto::ops::{SqlResult, SqlTable};
use futures_util::future::BoxFuture;

/// Bounds of every statement and database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlLimits {
    /// How long a statement may run, and how long it may wait for its turn before.
    pub time: Duration,
    /// Most rows of a result.
    pub rows: usize,
    /// Most bytes of a result's rows as JSON, and about the largest value that can be read or written.
    pub bytes: usize,
    /// Most bytes of a mesh's database.
    pub quota: u64,
    /// Most databases (SQLite) or connections (Postgres) that are kept open.
    pub open: usize,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            // Original clients wait five seconds.
            time: Duration::from_secs(4),
            rows: MAX_SQL_ROWS,
            bytes: MAX_SQL_RESULT_BYTES,
            quota: 256 * 1024 * 1024,
            open: 32,
        }
    }
}

/// A statement of a member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statement {
    /// Its text.
    pub sql: String,
    /// Values of `$1`, `$2`, …
    pub params: Vec<SqlValue>,
}

/// The shared databases of all meshes.
///
/// A mesh reaches its own tables and nothing else. Statements that change something run one at a time for a mesh; meshes do
/// not wait for each other, as long as not too many work at once.
pub trait SharedSql: fmt::Debug + Send + Sync {
    /// Whose SQL it is: `sqlite` or `postgres`.
    fn engine(&self) -> &'static str;

    /// Runs one statement that only reads. That is enforced by the database.
    fn query<'a>(&'a self, mesh: &'a MeshId, statement: Statement) -> BoxFuture<'a, Result<SqlResult, SqlError>>;

    /// Runs one statement that changes data or tables; all of it or nothing.
    fn execute<'a>(&'a self, mesh: &'a MeshId, statement: Statement) -> BoxFuture<'a, Result<SqlResult, SqlError>>;

    /// The tables and views of a mesh, by name. Empty for a mesh that has never used its database; creates nothing.
    fn schema<'a>(&'a self, mesh: &'a MeshId) -> BoxFuture<'a, Result<Vec<SqlTable>, SqlError>>;

    /// Closes what is open.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Name of the mesh's part of the database: a schema, a role, a file. As the original names it.
#[must_use]
pub fn schema_name(mesh: &MeshId) -> String {
    let id = mesh.as_str().to_lowercase();
    let id = id.chars().map(|c| {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '_'
        }
    });
    format!("meshdb_{}", id.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_originals() {
        let name = |id: &str| schema_name(&MeshId::from(id));
        assert_eq!(
            name("mSh0000000000000000000000000001A"),
            "meshdb_msh0000000000000000000000000001a"
        );
        assert_eq!(name("aBc_D-e.9"), "meshdb_abc_d_e_9");
        assert_eq!(name("../\"; é"), "meshdb________");
    }
}
