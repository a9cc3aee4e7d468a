//! A mesh's file: what is true of its vectors. What is in memory is made from it.

use std::path::Path;
use std::time::Duration;

use claudemesh_proto::model::{MemberId, Timestamp};
use claudemesh_proto::ops::VectorCollection;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, TransactionBehavior, params};
use uuid::Uuid;

use super::matrix::{Matrix, Reservation};
use crate::backends::vector::{Filter, Hit, VectorError, VectorLimits};

/// Bytes of a page: two vectors of the usual 768 numbers fit into one.
const PAGE: u64 = 8192;
/// How long a connection waits for the other ones to the same file.
const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE collection (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        dimensions INTEGER NOT NULL,
        vectors INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE vector (
        row INTEGER PRIMARY KEY,
        collection INTEGER NOT NULL REFERENCES collection (id),
        id BLOB NOT NULL,
        text TEXT NOT NULL,
        metadata TEXT NOT NULL,
        by_member TEXT NOT NULL,
        by_name TEXT NOT NULL,
        at INTEGER NOT NULL,
        UNIQUE (collection, id)
    ) STRICT;
    CREATE INDEX vector_author ON vector (collection, by_member);
    -- Apart from the texts, so that each can be read without the other.
    CREATE TABLE embedding (
        row INTEGER PRIMARY KEY REFERENCES vector (row) ON DELETE CASCADE,
        numbers BLOB NOT NULL
    ) STRICT;
    CREATE TABLE tag (
        collection INTEGER NOT NULL,
        tag TEXT NOT NULL,
        row INTEGER NOT NULL REFERENCES vector (row) ON DELETE CASCADE,
        PRIMARY KEY (collection, tag, row)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tag_row ON tag (row);
    PRAGMA user_version = 1;";

/// A connection to a mesh's file.
#[derive(Debug)]
pub(super) struct MeshFile(pub(super) Connection);

/// A collection's row.
#[derive(Clone, Copy, Debug)]
pub(super) struct CollectionRow {
    /// Its id in the file.
    pub(super) id: i64,
    /// Length of its vectors.
    pub(super) dimensions: usize,
    /// How many there are.
    pub(super) vectors: u64,
}

/// What the file's errors mean to a caller.
pub(super) fn explained(error: rusqlite::Error, limits: &VectorLimits) -> VectorError {
    if let rusqlite::Error::SqliteFailure(code, _) = &error {
        match code.code {
            ErrorCode::DiskFull => {
                return VectorError::Limit(format!(
                    "the mesh's vectors have reached their limit of {} MiB on disk, or the disk is full; delete what is not needed",
                    limits.quota / 1024 / 1024
                ));
            }
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => return VectorError::Busy,
            _ => {}
        }
    }
    VectorError::Unavailable(error.to_string())
}

fn collection_row(row: &Row<'_>) -> rusqlite::Result<CollectionRow> {
    Ok(CollectionRow {
        id: row.get(0)?,
        dimensions: row.get(1)?,
        vectors: row.get(2)?,
    })
}

pub(super) fn find_collection(connection: &Connection, name: &str) -> rusqlite::Result<Option<CollectionRow>> {
    connection
        .prepare_cached("SELECT id, dimensions, vectors FROM collection WHERE name = ?1")?
        .query_row([name], collection_row)
        .optional()
}

/// The row of a vector, its author, and the author's name.
pub(super) fn find_vector(
    connection: &Connection,
    collection: i64,
    id: Uuid,
) -> rusqlite::Result<Option<(i64, MemberId, String)>> {
    connection
        .prepare_cached("SELECT row, by_member, by_name FROM vector WHERE collection = ?1 AND id = ?2")?
        .query_row(params![collection, id.as_bytes()], |row| {
            Ok((row.get(0)?, MemberId::from(row.get::<_, String>(1)?), row.get(2)?))
        })
        .optional()
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

pub(super) fn as_json(value: &impl serde::Serialize) -> Result<String, VectorError> {
    serde_json::to_string(value).map_err(|error| VectorError::Unavailable(error.to_string()))
}

impl MeshFile {
    /// Opens a mesh's file, and creates it.
    pub(super) fn open(path: &Path, limits: &VectorLimits) -> Result<Self, VectorError> {
        Self::try_open(path, limits).map_err(|error| explained(error, limits))
    }

    fn try_open(path: &Path, limits: &VectorLimits) -> rusqlite::Result<Self> {
        // No URI: a path is a path.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "page_size", PAGE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        connection.pragma_update(None, "journal_size_limit", 16 * 1024 * 1024)?;
        let pages = i64::try_from((limits.quota / PAGE).max(1)).unwrap_or(i64::MAX);
        connection.pragma_update(None, "max_page_count", pages)?;
        let version = |connection: &Connection| -> rusqlite::Result<i64> {
            connection.pragma_query_value(None, "user_version", |row| row.get(0))
        };
        if version(&connection)? == 0 {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Another connection may have been first.
            if version(&transaction)? == 0 {
                transaction.execute_batch(TABLES)?;
            }
            transaction.commit()?;
        }
        Ok(Self(connection))
    }

    /// The collection of this name.
    pub(super) fn collection(&self, name: &str, limits: &VectorLimits) -> Result<Option<CollectionRow>, VectorError> {
        find_collection(&self.0, name).map_err(|error| explained(error, limits))
    }

    /// All vectors of a collection, for which memory is reserved.
    pub(super) fn load(
        &self,
        collection: &CollectionRow,
        reserved: Reservation,
        limits: &VectorLimits,
    ) -> Result<Matrix, VectorError> {
        let mut matrix = Matrix::new(collection.dimensions, reserved);
        let mut read = || -> rusqlite::Result<()> {
            let mut select = self.0.prepare_cached(
                "SELECT embedding.row, embedding.numbers FROM vector JOIN embedding ON embedding.row = vector.row \
                 WHERE vector.collection = ?1",
            )?;
            let mut rows = select.query([collection.id])?;
            let mut vector = Vec::with_capacity(collection.dimensions);
            while let Some(row) = rows.next()? {
                vector.clear();
                vector.extend(numbers(row.get_ref(1)?.as_blob()?));
                if vector.len() == collection.dimensions {
                    matrix.put_reserved(row.get(0)?, &vector);
                }
            }
            Ok(())
        };
        read().map_err(|error| explained(error, limits))?;
        Ok(matrix)
    }

    /// The rows of a collection that pass the filter and are of nobody who is hidden.
    pub(super) fn matching(
        &self,
        collection: i64,
        filter: &Filter,
        hidden: &[MemberId],
        limits: &VectorLimits,
    ) -> Result<Vec<i64>, VectorError> {
        use std::fmt::Write as _;
        let mut sql = "SELECT row FROM vector WHERE collection = ?1".to_owned();
        let mut values = Vec::new();
        if !hidden.is_empty() {
            values.push(as_json(&hidden)?);
            sql.push_str(" AND by_member NOT IN (SELECT value FROM json_each(?2))");
        }
        for any in &filter.all {
            values.push(as_json(any)?);
            let number = values.len() + 1;
            // Writing to a string cannot fail.
            let _ = write!(
                sql,
                " AND row IN (SELECT row FROM tag WHERE collection = ?1 AND tag IN (SELECT value FROM json_each(?{number})))"
            );
        }
        let read = || -> rusqlite::Result<Vec<i64>> {
            let mut select = self.0.prepare_cached(&sql)?;
            select.raw_bind_parameter(1, collection)?;
            for (index, value) in values.iter().enumerate() {
                select.raw_bind_parameter(index + 2, value)?;
            }
            let mut found = Vec::new();
            let mut rows = select.raw_query();
            while let Some(row) = rows.next()? {
                found.push(row.get(0)?);
            }
            Ok(found)
        };
        read().map_err(|error| explained(error, limits))
    }

    /// What belongs to these rows.
    pub(super) fn hits(&self, rows: &[(i64, f32)], limits: &VectorLimits) -> Result<Vec<Hit>, VectorError> {
        let read = || -> rusqlite::Result<Vec<(Hit, String)>> {
            let mut select = self
                .0
                .prepare_cached("SELECT id, text, metadata, by_member, by_name, at FROM vector WHERE row = ?1")?;
            let hits = rows.iter().filter_map(|(row, score)| {
                let hit = select.query_row([row], |row| {
                    let hit = Hit {
                        id: Uuid::from_bytes(row.get(0)?),
                        score: *score,
                        text: row.get(1)?,
                        metadata: Default::default(),
                        by_member: MemberId::from(row.get::<_, String>(3)?),
                        by_name: row.get(4)?,
                        at: Timestamp::from_ms(row.get(5)?),
                    };
                    Ok((hit, row.get::<_, String>(2)?))
                });
                hit.optional().transpose()
            });
            hits.collect()
        };
        let hits = read().map_err(|error| explained(error, limits))?;
        let hits = hits.into_iter().map(|(mut hit, metadata)| {
            hit.metadata =
                serde_json::from_str(&metadata).map_err(|error| VectorError::Unavailable(error.to_string()))?;
            Ok(hit)
        });
        hits.collect()
    }

    /// The collections with vectors of members that are not hidden, by name.
    pub(super) fn collections(
        &self,
        hidden: &[MemberId],
        limits: &VectorLimits,
    ) -> Result<Vec<VectorCollection>, VectorError> {
        let hidden_json = as_json(&hidden)?;
        let sql = match hidden.is_empty() {
            true => "SELECT name, dimensions, vectors FROM collection WHERE ?1 <> '' ORDER BY name",
            false => {
                "SELECT * FROM (SELECT name, dimensions, (SELECT count(*) FROM vector WHERE collection = collection.id \
                 AND by_member NOT IN (SELECT value FROM json_each(?1))) AS seen FROM collection) WHERE seen > 0 ORDER BY name"
            }
        };
        let read = || -> rusqlite::Result<Vec<VectorCollection>> {
            let mut select = self.0.prepare_cached(sql)?;
            let rows = select.query_map([hidden_json], |row| {
                Ok(VectorCollection {
                    name: row.get(0)?,
                    dimensions: row.get(1)?,
                    vectors: row.get(2)?,
                })
            })?;
            rows.collect()
        };
        read().map_err(|error| explained(error, limits))
    }
}
