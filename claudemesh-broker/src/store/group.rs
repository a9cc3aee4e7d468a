//! The group log: ordered entries, sealed keys, and requests for them. All of it is opaque to the broker's database.

use super::committer::Recorded;
use super::rows::{chunks, count, from_json, get, json, limit, push_values, text, time, to_i64, to_json};
use super::{AuditEvent, Store, StoreError};
use claudemesh_crypto::random_id;
use claudemesh_proto::model::{EpochHead, HexHash, KeyHex, MeshId, Timestamp};
use claudemesh_proto::ops::SealRecord;
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};

/// End of a mesh's group log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupHeadRow {
    /// The newest entry.
    pub head: EpochHead,
    /// What the broker knows of the log there, as the caller wrote it.
    pub state: String,
}

/// One entry of a mesh's group log.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupEntryRow {
    /// Generation of the log.
    pub generation: u64,
    /// Place in the generation.
    pub index: u64,
    /// Number of the key after it.
    pub epoch: u64,
    /// Its hash.
    pub hash: HexHash,
    /// Device that signed it.
    pub author: KeyHex,
    /// The signed entry.
    pub body: Value,
}

/// Entries to be appended, all or none.
#[derive(Clone, Debug)]
pub struct AppendGroup {
    /// The head that they continue; `None` for the first entry.
    pub expected: Option<EpochHead>,
    /// The entries.
    pub entries: Vec<GroupEntryRow>,
    /// Sealed keys that belong to them. One that exists already stays as it is.
    pub seals: Vec<SealRecord>,
    /// The head after them.
    pub new_head: EpochHead,
    /// What the broker knows of the log after them.
    pub new_state: String,
}

/// What became of an [`AppendGroup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The entries are part of the log.
    Ok(EpochHead),
    /// The log does not end where they begin; where it ends now.
    Stale(Option<EpochHead>),
}

/// Which sealed keys to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealFilter {
    /// All that the broker has.
    All,
    /// Those of these epochs of one generation, both ends included.
    Epochs {
        /// The generation.
        generation: u64,
        /// First epoch.
        from: u64,
        /// Last epoch.
        to: u64,
    },
}

/// How far a device has followed the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCursor {
    /// The device.
    pub device: KeyHex,
    /// Its head.
    pub head: EpochHead,
    /// Why it cannot follow further.
    pub problem: Option<String>,
    /// When it said so.
    pub updated_at: Timestamp,
}

/// An answer to a key request that waits for its device.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredGrant {
    /// The signed grant.
    pub grant: Value,
    /// When it came.
    pub created_at: Timestamp,
}

/// A key request that was not answered yet.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyRequestRow {
    /// The device that asks.
    pub device: KeyHex,
    /// The signed request.
    pub request: Value,
    /// When it came.
    pub created_at: Timestamp,
}

fn head(row: &AnyRow) -> Result<EpochHead, StoreError> {
    Ok(EpochHead {
        generation: count(row, "generation")?,
        index: count(row, "idx")?,
        epoch: count(row, "epoch")?,
        hash: text(row, "hash")?,
    })
}

fn entry(row: &AnyRow) -> Result<GroupEntryRow, StoreError> {
    Ok(GroupEntryRow {
        generation: count(row, "generation")?,
        index: count(row, "idx")?,
        epoch: count(row, "epoch")?,
        hash: text(row, "hash")?,
        author: text(row, "author")?,
        body: json(row, "body")?,
    })
}

fn seal(row: &AnyRow) -> Result<SealRecord, StoreError> {
    Ok(SealRecord {
        generation: count(row, "generation")?,
        epoch: count(row, "epoch")?,
        to: text(row, "recipient")?,
        seal: json(row, "seal")?,
    })
}

async fn current_head(connection: &mut AnyConnection, mesh: &MeshId) -> Result<Option<EpochHead>, StoreError> {
    let row = sqlx::query("SELECT * FROM group_head WHERE mesh_id = $1")
        .bind(mesh.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(head).transpose()
}

async fn append(connection: &mut AnyConnection, mesh: &MeshId, append: &AppendGroup) -> Result<Appended, StoreError> {
    let current = current_head(connection, mesh).await?;
    if current != append.expected {
        return Ok(Appended::Stale(current));
    }
    let new = &append.new_head;
    sqlx::query(
        "INSERT INTO group_head (mesh_id, generation, idx, epoch, hash, state) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (mesh_id) DO UPDATE SET generation = excluded.generation, idx = excluded.idx, \
         epoch = excluded.epoch, hash = excluded.hash, state = excluded.state",
    )
    .bind(mesh.as_str())
    .bind(to_i64(new.generation)?)
    .bind(to_i64(new.index)?)
    .bind(to_i64(new.epoch)?)
    .bind(new.hash.as_str())
    .bind(append.new_state.as_str())
    .execute(&mut *connection)
    .await?;
    for chunk in chunks(&append.entries, 64) {
        let mut sql =
            String::from("INSERT INTO group_entry (mesh_id, generation, idx, epoch, hash, author, body) VALUES ");
        push_values(connection, &mut sql, chunk.len(), 7);
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for entry in chunk {
            query = query
                .bind(mesh.as_str())
                .bind(to_i64(entry.generation)?)
                .bind(to_i64(entry.index)?)
                .bind(to_i64(entry.epoch)?)
                .bind(entry.hash.as_str())
                .bind(entry.author.as_str())
                .bind(to_json(&entry.body)?);
        }
        query.execute(&mut *connection).await?;
    }
    insert_seals(connection, mesh, &append.seals).await?;
    Ok(Appended::Ok(new.clone()))
}

async fn insert_seals(connection: &mut AnyConnection, mesh: &MeshId, seals: &[SealRecord]) -> Result<(), StoreError> {
    for chunk in chunks(seals, 128) {
        let mut sql = String::from("INSERT INTO group_seal (mesh_id, recipient, generation, epoch, seal) VALUES ");
        push_values(connection, &mut sql, chunk.len(), 5);
        // The first is the one that the epoch's entry commits to.
        sql.push_str(" ON CONFLICT DO NOTHING");
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for record in chunk {
            query = query
                .bind(mesh.as_str())
                .bind(record.to.as_str())
                .bind(to_i64(record.generation)?)
                .bind(to_i64(record.epoch)?)
                .bind(to_json(&record.seal)?);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

impl Store {
    /// End of a mesh's group log.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn group_head(&self, mesh: &MeshId) -> Result<Option<GroupHeadRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM group_head WHERE mesh_id = $1")
            .bind(mesh.as_str())
            .fetch_optional(self.pool())
            .await?;
        row.as_ref()
            .map(|row| {
                Ok(GroupHeadRow {
                    head: head(row)?,
                    state: get(row, "state")?,
                })
            })
            .transpose()
    }

    /// Appends entries if the log still ends where they begin.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is no such mesh or an entry's place is taken.
    pub async fn append_group(
        &self,
        mesh: &MeshId,
        new: AppendGroup,
        audit: Option<AuditEvent>,
    ) -> Result<Appended, StoreError> {
        let mesh = mesh.clone();
        self.transaction(audit, move |connection| {
            Box::pin(async move {
                let appended = append(connection, &mesh, &new).await?;
                Ok(Recorded {
                    audit: matches!(appended, Appended::Ok(_)),
                    value: appended,
                })
            })
        })
        .await
    }

    /// At most `most` entries of a generation from `from` on.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn group_entries(
        &self,
        mesh: &MeshId,
        generation: u64,
        from: u64,
        most: usize,
    ) -> Result<Vec<GroupEntryRow>, StoreError> {
        sqlx::query(
            "SELECT * FROM group_entry WHERE mesh_id = $1 AND generation = $2 AND idx >= $3 ORDER BY idx LIMIT $4",
        )
        .bind(mesh.as_str())
        .bind(to_i64(generation)?)
        .bind(to_i64(from)?)
        .bind(limit(most))
        .fetch_all(self.pool())
        .await?
        .iter()
        .map(entry)
        .collect()
    }

    /// Sealed keys for these devices and invites, by generation and epoch.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn group_seals(
        &self,
        mesh: &MeshId,
        recipients: &[KeyHex],
        filter: SealFilter,
    ) -> Result<Vec<SealRecord>, StoreError> {
        let mut seals = Vec::new();
        for recipient in recipients {
            let rows = match filter {
                SealFilter::All => {
                    sqlx::query(
                        "SELECT * FROM group_seal WHERE mesh_id = $1 AND recipient = $2 ORDER BY generation, epoch",
                    )
                    .bind(mesh.as_str())
                    .bind(recipient.as_str())
                    .fetch_all(self.pool())
                    .await?
                }
                SealFilter::Epochs { generation, from, to } => {
                    sqlx::query(
                        "SELECT * FROM group_seal WHERE mesh_id = $1 AND recipient = $2 AND generation = $3 \
                         AND epoch >= $4 AND epoch <= $5 ORDER BY epoch",
                    )
                    .bind(mesh.as_str())
                    .bind(recipient.as_str())
                    .bind(to_i64(generation)?)
                    .bind(to_i64(from)?)
                    .bind(to_i64(to)?)
                    .fetch_all(self.pool())
                    .await?
                }
            };
            for row in &rows {
                seals.push(seal(row)?);
            }
        }
        Ok(seals)
    }

    /// Adds sealed keys later than their epoch. One that exists already stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is no such mesh.
    pub async fn put_seals(&self, mesh: &MeshId, seals: Vec<SealRecord>) -> Result<(), StoreError> {
        let mesh = mesh.clone();
        self.transaction(None, move |connection| {
            Box::pin(async move {
                insert_seals(connection, &mesh, &seals).await?;
                Ok(Recorded::silently(()))
            })
        })
        .await
    }

    /// Notes how far a device has followed the log.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is no such mesh.
    pub async fn set_group_cursor(&self, mesh: &MeshId, cursor: GroupCursor) -> Result<(), StoreError> {
        let mesh = mesh.clone();
        let head = cursor.head;
        let (generation, index, epoch) = (to_i64(head.generation)?, to_i64(head.index)?, to_i64(head.epoch)?);
        self.transaction(None, move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO group_cursor (mesh_id, device, generation, idx, epoch, hash, problem, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (mesh_id, device) DO UPDATE SET \
                     generation = excluded.generation, idx = excluded.idx, epoch = excluded.epoch, \
                     hash = excluded.hash, problem = excluded.problem, updated_at = excluded.updated_at",
                )
                .bind(mesh.as_str())
                .bind(cursor.device.as_str())
                .bind(generation)
                .bind(index)
                .bind(epoch)
                .bind(head.hash.as_str())
                .bind(cursor.problem.as_deref())
                .bind(cursor.updated_at.as_ms())
                .execute(connection)
                .await?;
                Ok(Recorded::silently(()))
            })
        })
        .await
    }

    /// How far the devices of a mesh have followed the log.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn group_cursors(&self, mesh: &MeshId) -> Result<Vec<GroupCursor>, StoreError> {
        sqlx::query("SELECT * FROM group_cursor WHERE mesh_id = $1 ORDER BY device")
            .bind(mesh.as_str())
            .fetch_all(self.pool())
            .await?
            .iter()
            .map(|row| {
                Ok(GroupCursor {
                    device: text(row, "device")?,
                    head: head(row)?,
                    problem: get(row, "problem")?,
                    updated_at: time(row, "updated_at")?,
                })
            })
            .collect()
    }

    /// Keeps a grant until its device connects. At most `most` are kept for a device: the oldest go.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is no such mesh.
    pub async fn put_grant(
        &self,
        mesh: &MeshId,
        to: &KeyHex,
        grant: &Value,
        at: Timestamp,
        most: usize,
    ) -> Result<(), StoreError> {
        let (mesh, to, grant) = (mesh.clone(), to.clone(), to_json(grant)?);
        self.transaction(None, move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO group_grant (mesh_id, id, recipient, grant_json, created_at) VALUES ($1, $2, $3, $4, $5)",
                )
                .bind(mesh.as_str())
                .bind(random_id())
                .bind(to.as_str())
                .bind(grant)
                .bind(at.as_ms())
                .execute(&mut *connection)
                .await?;
                sqlx::query(
                    "DELETE FROM group_grant WHERE mesh_id = $1 AND recipient = $2 AND id NOT IN \
                     (SELECT id FROM group_grant WHERE mesh_id = $3 AND recipient = $4 \
                      ORDER BY created_at DESC, id LIMIT $5)",
                )
                .bind(mesh.as_str())
                .bind(to.as_str())
                .bind(mesh.as_str())
                .bind(to.as_str())
                .bind(limit(most))
                .execute(connection)
                .await?;
                Ok(Recorded::silently(()))
            })
        })
        .await
    }

    /// Takes the grants that wait for a device, the oldest first. They are gone then.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn take_grants(&self, mesh: &MeshId, device: &KeyHex) -> Result<Vec<StoredGrant>, StoreError> {
        let (mesh, device) = (mesh.clone(), device.clone());
        self.transaction(None, move |connection| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "DELETE FROM group_grant WHERE mesh_id = $1 AND recipient = $2 RETURNING grant_json, created_at",
                )
                .bind(mesh.as_str())
                .bind(device.as_str())
                .fetch_all(connection)
                .await?;
                let mut grants = rows
                    .iter()
                    .map(|row| {
                        let grant = from_json(get(row, "grant_json")?, "grant_json")?;
                        Ok(StoredGrant {
                            grant,
                            created_at: time(row, "created_at")?,
                        })
                    })
                    .collect::<Result<Vec<_>, StoreError>>()?;
                grants.sort_by_key(|grant| grant.created_at);
                Ok(Recorded::silently(grants))
            })
        })
        .await
    }

    /// Keeps a device's request for keys; a newer one replaces it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is no such mesh.
    pub async fn put_key_request(
        &self,
        mesh: &MeshId,
        device: &KeyHex,
        request: &Value,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (mesh, device, request) = (mesh.clone(), device.clone(), to_json(request)?);
        self.transaction(None, move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO key_request (mesh_id, device, request, created_at) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (mesh_id, device) DO UPDATE SET request = excluded.request, \
                     created_at = excluded.created_at",
                )
                .bind(mesh.as_str())
                .bind(device.as_str())
                .bind(request)
                .bind(at.as_ms())
                .execute(connection)
                .await?;
                Ok(Recorded::silently(()))
            })
        })
        .await
    }

    /// Requests of a mesh that were not answered yet, the oldest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn key_requests(&self, mesh: &MeshId) -> Result<Vec<KeyRequestRow>, StoreError> {
        sqlx::query("SELECT * FROM key_request WHERE mesh_id = $1 ORDER BY created_at, device")
            .bind(mesh.as_str())
            .fetch_all(self.pool())
            .await?
            .iter()
            .map(|row| {
                Ok(KeyRequestRow {
                    device: text(row, "device")?,
                    request: json(row, "request")?,
                    created_at: time(row, "created_at")?,
                })
            })
            .collect()
    }

    /// Deletes a device's request, and tells whether there was one.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn delete_key_request(&self, mesh: &MeshId, device: &KeyHex) -> Result<bool, StoreError> {
        let (mesh, device) = (mesh.clone(), device.clone());
        self.transaction(None, move |connection| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM key_request WHERE mesh_id = $1 AND device = $2")
                    .bind(mesh.as_str())
                    .bind(device.as_str())
                    .execute(connection)
                    .await?;
                Ok(Recorded::silently(done.rows_affected() > 0))
            })
        })
        .await
    }
}
