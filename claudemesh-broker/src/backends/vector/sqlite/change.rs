//! What changes a mesh's file: each change is one transaction.

use rusqlite::{Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::file::{CollectionRow, MeshFile, as_json, explained, find_collection, find_vector};
use super::matrix::row_bytes;
use crate::backends::vector::{Actor, NewVector, VectorError, VectorLimits};

/// What a store has changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredRow {
    /// The vector's row.
    pub(super) row: i64,
    /// Whether there was one with its id.
    pub(super) replaced: bool,
}

/// What a delete has changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeletedRow {
    /// The vector's row.
    pub(super) row: i64,
    /// Whether it was the collection's last one, so that the collection is gone.
    pub(super) was_last: bool,
}

impl MeshFile {
    /// Stores a vector, and its collection if it is the first. All of it or nothing.
    pub(super) fn store(
        &mut self,
        name: &str,
        new: &NewVector,
        actor: &Actor,
        limits: &VectorLimits,
    ) -> Result<StoredRow, VectorError> {
        let explain = |error| explained(error, limits);
        let metadata = as_json(&new.metadata)?;
        let dimensions = new.vector.dimensions();
        let transaction = self
            .0
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(explain)?;
        let collection = match find_collection(&transaction, name).map_err(explain)? {
            Some(row) if row.dimensions != dimensions => {
                return Err(VectorError::Dimension {
                    collection: name.to_owned(),
                    expected: row.dimensions,
                    found: dimensions,
                });
            }
            Some(row) => row,
            None => create(&transaction, name, dimensions, limits)?,
        };
        let existing = match new.is_chosen {
            true => find_vector(&transaction, collection.id, new.id).map_err(explain)?,
            false => None,
        };
        let replaced = existing.is_some();
        let row = match existing {
            Some((row, author, author_name)) => {
                actor.may_change(&author, &author_name).map_err(VectorError::taken)?;
                replace(&transaction, row, &metadata, new, actor).map_err(explain)?;
                row
            }
            None => {
                check_room(&transaction, &collection, limits)?;
                insert(&transaction, &collection, &metadata, new, actor).map_err(explain)?
            }
        };
        write_numbers(&transaction, collection.id, row, new).map_err(explain)?;
        transaction.commit().map_err(explain)?;
        Ok(StoredRow { row, replaced })
    }

    /// Deletes a vector, and its collection if it is the last.
    pub(super) fn delete(
        &mut self,
        name: &str,
        id: Uuid,
        actor: &Actor,
        limits: &VectorLimits,
    ) -> Result<DeletedRow, VectorError> {
        let explain = |error| explained(error, limits);
        let transaction = self
            .0
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(explain)?;
        let collection = find_collection(&transaction, name)
            .map_err(explain)?
            .ok_or_else(|| VectorError::NoCollection(name.to_owned()))?;
        let (row, author, author_name) = find_vector(&transaction, collection.id, id)
            .map_err(explain)?
            .ok_or(VectorError::NoVector)?;
        actor.may_change(&author, &author_name)?;
        let was_last = collection.vectors <= 1;
        let remove = || -> rusqlite::Result<()> {
            // Its numbers and tags go with it.
            transaction.execute("DELETE FROM vector WHERE row = ?1", [row])?;
            let counted = match was_last {
                true => "DELETE FROM collection WHERE id = ?1",
                false => "UPDATE collection SET vectors = vectors - 1 WHERE id = ?1",
            };
            transaction.execute(counted, [collection.id])?;
            Ok(())
        };
        remove().map_err(explain)?;
        transaction.commit().map_err(explain)?;
        Ok(DeletedRow { row, was_last })
    }
}

fn create(
    transaction: &Transaction<'_>,
    name: &str,
    dimensions: usize,
    limits: &VectorLimits,
) -> Result<CollectionRow, VectorError> {
    let explain = |error| explained(error, limits);
    let count: u64 = transaction
        .query_row("SELECT count(*) FROM collection", [], |row| row.get(0))
        .map_err(explain)?;
    if count >= limits.mesh_collections {
        return Err(VectorError::too_many_collections(limits));
    }
    transaction
        .execute(
            "INSERT INTO collection (name, dimensions, vectors) VALUES (?1, ?2, 0)",
            params![name, dimensions],
        )
        .map_err(explain)?;
    Ok(CollectionRow {
        id: transaction.last_insert_rowid(),
        dimensions,
        vectors: 0,
    })
}

/// Whether one more vector fits.
fn check_room(
    transaction: &Transaction<'_>,
    collection: &CollectionRow,
    limits: &VectorLimits,
) -> Result<(), VectorError> {
    let total: u64 = transaction
        .query_row("SELECT coalesce(sum(vectors), 0) FROM collection", [], |row| row.get(0))
        .map_err(|error| explained(error, limits))?;
    if total >= limits.mesh_vectors {
        return Err(VectorError::too_many_vectors(limits));
    }
    if (collection.vectors + 1).saturating_mul(row_bytes(collection.dimensions)) > limits.memory {
        return Err(VectorError::Limit(format!(
            "the collection has reached the broker's memory for vectors of {} MiB; use several collections, or ask the \
             operator to raise VECTOR_MEMORY_MB or to set QDRANT_URL",
            limits.memory / 1024 / 1024
        )));
    }
    Ok(())
}

fn insert(
    transaction: &Transaction<'_>,
    collection: &CollectionRow,
    metadata: &str,
    new: &NewVector,
    actor: &Actor,
) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached(
            "INSERT INTO vector (collection, id, text, metadata, by_member, by_name, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            collection.id,
            new.id.as_bytes(),
            new.text,
            metadata,
            actor.member.as_str(),
            new.by_name,
            new.at.as_ms()
        ])?;
    let row = transaction.last_insert_rowid();
    transaction
        .prepare_cached("UPDATE collection SET vectors = vectors + 1 WHERE id = ?1")?
        .execute([collection.id])?;
    Ok(row)
}

fn replace(
    transaction: &Transaction<'_>,
    row: i64,
    metadata: &str,
    new: &NewVector,
    actor: &Actor,
) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE vector SET text = ?2, metadata = ?3, by_member = ?4, by_name = ?5, at = ?6 WHERE row = ?1",
        params![
            row,
            new.text,
            metadata,
            actor.member.as_str(),
            new.by_name,
            new.at.as_ms()
        ],
    )?;
    transaction.execute("DELETE FROM tag WHERE row = ?1", [row])?;
    Ok(())
}

fn write_numbers(transaction: &Transaction<'_>, collection: i64, row: i64, new: &NewVector) -> rusqlite::Result<()> {
    let bytes: Vec<u8> = new
        .vector
        .as_slice()
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    transaction
        .prepare_cached("INSERT OR REPLACE INTO embedding (row, numbers) VALUES (?1, ?2)")?
        .execute(params![row, bytes])?;
    let mut tag = transaction.prepare_cached("INSERT INTO tag (collection, tag, row) VALUES (?1, ?2, ?3)")?;
    for text in &new.tags {
        tag.execute(params![collection, text, row])?;
    }
    Ok(())
}
