//! The audit log: a hash chain per mesh.

use super::rows::{chunks, count, get, json, push_values, text, text_opt, time};
use super::{Store, StoreError};
use claudemesh_crypto::{AUDIT_GENESIS, audit_hash, canonical_json};
use claudemesh_proto::model::{HexHash, MemberId, MeshId, Timestamp};
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use std::collections::HashMap;

/// The type of nearly every entry. The index of types leaves it out.
const MESSAGE_SENT: &str = "message_sent";

/// Something to be put on record, in the transaction of the write that it tells of.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEvent {
    /// The mesh.
    pub mesh_id: MeshId,
    /// What happened, for example `message_sent`.
    pub event_type: String,
    /// Who did it.
    pub actor_member_id: Option<MemberId>,
    /// Name of who did it; not part of the hash.
    pub actor_name: Option<String>,
    /// Facts about it; never content.
    pub payload: Value,
    /// When.
    pub at: Timestamp,
}

/// One row of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// Number of the row in its mesh, from 1.
    pub id: i64,
    /// What happened.
    pub event_type: String,
    /// Who did it.
    pub actor_member_id: Option<MemberId>,
    /// Name of who did it.
    pub actor_name: Option<String>,
    /// Facts about it.
    pub payload: Value,
    /// Hash of this row and of all before it.
    pub hash: HexHash,
    /// When.
    pub created_at: Timestamp,
}

/// A page of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditPage {
    /// The newest first.
    pub rows: Vec<AuditRow>,
    /// How many rows match in all.
    pub total: u64,
}

/// Whether a mesh's chain holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditVerdict {
    /// How many rows were checked.
    pub checked: u64,
    /// Number of the first row that does not follow from the one before it.
    pub broken_at: Option<i64>,
}

/// End of a mesh's chain.
#[derive(Clone, Debug)]
pub(super) struct AuditHead {
    pub(super) id: i64,
    pub(super) hash: String,
}

impl AuditHead {
    /// Of a mesh of which nothing is on record.
    pub(super) fn genesis() -> Self {
        Self {
            id: 0,
            hash: AUDIT_GENESIS.to_owned(),
        }
    }
}

/// The end of the chain after `event`, and the event's payload as it is hashed and stored.
pub(super) fn link(head: &AuditHead, event: &AuditEvent) -> (AuditHead, String) {
    let payload = canonical_json(&event.payload);
    let hash = audit_hash(
        &head.hash,
        event.mesh_id.as_str(),
        &event.event_type,
        event.actor_member_id.as_ref().map(MemberId::as_str),
        &payload,
        &event.at.to_string(),
    );
    let id = head.id + 1;
    (AuditHead { id, hash }, payload)
}

/// Ends of the chains that the committer has written to.
pub(super) type AuditHeads = HashMap<MeshId, AuditHead>;

/// A chain that is not used is forgotten when there are more than this.
const HEADS_KEPT: usize = 4096;
const COLUMNS: usize = 9;

/// Appends `events` and gives the new ends, which the caller keeps once the transaction is committed.
pub(super) async fn append(
    connection: &mut AnyConnection,
    heads: &AuditHeads,
    events: &[&AuditEvent],
) -> Result<AuditHeads, StoreError> {
    let mut new = AuditHeads::new();
    let mut rows = Vec::with_capacity(events.len());
    for event in events {
        let head = match new.get(&event.mesh_id).or_else(|| heads.get(&event.mesh_id)) {
            Some(head) => head.clone(),
            None => load_head(connection, &event.mesh_id).await?,
        };
        let (next, payload) = link(&head, event);
        rows.push((event, next.clone(), head.hash, payload));
        new.insert(event.mesh_id.clone(), next);
    }
    for chunk in chunks(&rows, 64) {
        let mut sql = String::from(
            "INSERT INTO audit_log \
             (mesh_id, id, event_type, actor_member_id, actor_name, payload, prev_hash, hash, created_at) VALUES ",
        );
        push_values(connection, &mut sql, chunk.len(), COLUMNS);
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (event, head, prev, payload) in chunk {
            query = query
                .bind(event.mesh_id.as_str())
                .bind(head.id)
                .bind(event.event_type.as_str())
                .bind(event.actor_member_id.as_ref().map(MemberId::as_str))
                .bind(event.actor_name.as_deref())
                .bind(payload.as_str())
                .bind(prev.as_str())
                .bind(head.hash.as_str())
                .bind(event.at.as_ms());
        }
        query.execute(&mut *connection).await?;
    }
    Ok(new)
}

/// Takes over the ends of a committed transaction.
pub(super) fn keep(heads: &mut AuditHeads, new: AuditHeads) {
    if heads.len() + new.len() > HEADS_KEPT {
        heads.clear();
    }
    heads.extend(new);
}

async fn load_head(connection: &mut AnyConnection, mesh: &MeshId) -> Result<AuditHead, StoreError> {
    let row = sqlx::query("SELECT id, hash FROM audit_log WHERE mesh_id = $1 ORDER BY id DESC LIMIT 1")
        .bind(mesh.as_str())
        .fetch_optional(connection)
        .await?;
    match row {
        Some(row) => Ok(AuditHead {
            id: get(&row, "id")?,
            hash: get(&row, "hash")?,
        }),
        None => Ok(AuditHead::genesis()),
    }
}

impl Store {
    /// A page of the log, the newest row first; only rows of `event_type` if it is given.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn audit_query(
        &self,
        mesh: &MeshId,
        limit: u32,
        offset: u64,
        event_type: Option<&str>,
    ) -> Result<AuditPage, StoreError> {
        // Entries are numbered from 1 without gaps. `<> 'message_sent'` names the rows of the index of types.
        const LENGTH: &str = "(SELECT COALESCE(MAX(id), 0) FROM audit_log WHERE mesh_id = $1)";
        const OTHERS: &str = "mesh_id = $1 AND event_type <> 'message_sent'";
        let offset = super::rows::to_i64(offset)?;
        let (only, total) = match event_type {
            None => ("$2 = ''", LENGTH.to_owned()),
            Some(MESSAGE_SENT) => (
                "event_type = $2",
                format!("{LENGTH} - (SELECT COUNT(*) FROM audit_log WHERE {OTHERS})"),
            ),
            Some(_) => (
                "event_type = $2 AND event_type <> 'message_sent'",
                format!("(SELECT COUNT(*) FROM audit_log WHERE {OTHERS} AND event_type = $2)"),
            ),
        };
        // One statement, so that entries that are added meanwhile count for neither or both. Without a row there is nothing
        // to be in step with.
        let page = format!(
            "SELECT a.*, {total} AS total FROM audit_log AS a WHERE mesh_id = $1 AND {only} \
             ORDER BY id DESC LIMIT $3 OFFSET $4"
        );
        let of = event_type.unwrap_or_default();
        let rows = sqlx::query(AssertSqlSafe(page))
            .bind(mesh.as_str())
            .bind(of)
            .bind(i64::from(limit))
            .bind(offset)
            .fetch_all(self.pool())
            .await?;
        let total = match rows.first() {
            Some(row) => count(row, "total")?,
            None => {
                let total = format!("SELECT {total} AS total WHERE $2 = $2");
                let query = sqlx::query(AssertSqlSafe(total)).bind(mesh.as_str()).bind(of);
                count(&query.fetch_one(self.pool()).await?, "total")?
            }
        };
        Ok(AuditPage {
            rows: rows.iter().map(audit_row).collect::<Result<_, _>>()?,
            total,
        })
    }

    /// Recomputes the chain of a mesh, a page at a time.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn audit_verify(&self, mesh: &MeshId) -> Result<AuditVerdict, StoreError> {
        const PAGE: i64 = 1000;
        let mut head = AuditHead::genesis();
        let mut checked = 0;
        loop {
            let rows = sqlx::query("SELECT * FROM audit_log WHERE mesh_id = $1 AND id > $2 ORDER BY id LIMIT $3")
                .bind(mesh.as_str())
                .bind(head.id)
                .bind(PAGE)
                .fetch_all(self.pool())
                .await?;
            let full = rows.len() == 1000;
            for row in rows {
                let id: i64 = get(&row, "id")?;
                checked += 1;
                let hash = audit_hash(
                    &head.hash,
                    mesh.as_str(),
                    get(&row, "event_type")?,
                    get(&row, "actor_member_id")?,
                    get(&row, "payload")?,
                    &time(&row, "created_at")?.to_string(),
                );
                let linked = id == head.id + 1
                    && get::<&str>(&row, "prev_hash")? == head.hash
                    && get::<&str>(&row, "hash")? == hash;
                if !linked {
                    return Ok(AuditVerdict {
                        checked,
                        broken_at: Some(id),
                    });
                }
                head = AuditHead { id, hash };
            }
            if !full {
                return Ok(AuditVerdict {
                    checked,
                    broken_at: None,
                });
            }
        }
    }
}

fn audit_row(row: &AnyRow) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        id: get(row, "id")?,
        event_type: get(row, "event_type")?,
        actor_member_id: text_opt(row, "actor_member_id")?,
        actor_name: get(row, "actor_name")?,
        payload: json(row, "payload")?,
        hash: text(row, "hash")?,
        created_at: time(row, "created_at")?,
    })
}
