//! Reading what waits and what became of a message.

use super::numbers::{kind_of, priority_number, priority_of, stage_of};
use super::{DeliveryRow, MessageRow, RecipientRow, StoredMessage};
use crate::store::rows::{count, get, json_opt, limit, text, text_opt, time, time_opt};
use crate::store::{Store, StoreError};
use claudemesh_proto::model::{MemberId, MeshId, MessageId, Priority, Target, Timestamp};
use claudemesh_proto::ops::Waiting;
use sqlx::any::AnyRow;
use std::sync::Arc;

/// The statement that finds what waits for a member; the test of its plan uses it too.
#[doc(hidden)]
pub const PENDING_SQL: &str = "SELECT m.* FROM delivery d JOIN message m ON m.seq = d.seq \
     WHERE d.mesh_id = $1 AND d.recipient_member_id = $2 AND d.priority = $3 AND d.stage = 0 AND d.seq > $4 \
     ORDER BY d.seq LIMIT $5";

impl Store {
    /// Messages of one class that wait for a member, the oldest first, from the one after `after_seq` on.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn pending(
        &self,
        mesh: &MeshId,
        member: &MemberId,
        priority: Priority,
        after_seq: i64,
        most: usize,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let rows = sqlx::query(PENDING_SQL)
            .bind(mesh.as_str())
            .bind(member.as_str())
            .bind(priority_number(priority))
            .bind(after_seq)
            .bind(limit(most))
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(message_row).collect()
    }

    /// How many messages wait for a member.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn waiting_counts(
        &self,
        mesh: &MeshId,
        member: &MemberId,
        now: Timestamp,
    ) -> Result<Waiting, StoreError> {
        let rows = sqlx::query(
            "SELECT priority, COUNT(*) AS n FROM delivery \
             WHERE mesh_id = $1 AND recipient_member_id = $2 AND stage = 0 AND expires_at > $3 GROUP BY priority",
        )
        .bind(mesh.as_str())
        .bind(member.as_str())
        .bind(now.as_ms())
        .fetch_all(self.pool())
        .await?;
        waiting(&rows)
    }

    /// How many deliveries wait, over all meshes.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn queue_depth(&self) -> Result<Waiting, StoreError> {
        let rows = sqlx::query("SELECT priority, COUNT(*) AS n FROM delivery WHERE stage = 0 GROUP BY priority")
            .fetch_all(self.pool())
            .await?;
        waiting(&rows)
    }

    /// A message and all of its deliveries, by the recipients' names.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn message_status(
        &self,
        mesh: &MeshId,
        message: &MessageId,
    ) -> Result<Option<(StoredMessage, Vec<RecipientRow>)>, StoreError> {
        let Some(row) = sqlx::query("SELECT * FROM message WHERE mesh_id = $1 AND id = $2")
            .bind(mesh.as_str())
            .bind(message.as_str())
            .fetch_optional(self.pool())
            .await?
        else {
            return Ok(None);
        };
        let recipients = sqlx::query(
            "SELECT d.*, m.display_name, m.peer_pubkey FROM delivery d \
             JOIN member m ON m.id = d.recipient_member_id AND m.mesh_id = d.mesh_id \
             WHERE d.seq = $1 ORDER BY m.display_name, m.peer_pubkey",
        )
        .bind(get::<i64>(&row, "seq")?)
        .fetch_all(self.pool())
        .await?
        .iter()
        .map(|row| {
            Ok(RecipientRow {
                delivery: delivery_row(row)?,
                name: get(row, "display_name")?,
                pubkey: text(row, "peer_pubkey")?,
            })
        })
        .collect::<Result<_, StoreError>>()?;
        Ok(Some((message_row(&row)?, recipients)))
    }
}

fn message_row(row: &AnyRow) -> Result<StoredMessage, StoreError> {
    Ok(StoredMessage {
        seq: get(row, "seq")?,
        row: Arc::new(MessageRow {
            id: text(row, "id")?,
            mesh_id: text(row, "mesh_id")?,
            sender_member_id: text(row, "sender_member_id")?,
            sender_session_pubkey: text_opt(row, "sender_session_pubkey")?,
            sender_name: get(row, "sender_name")?,
            sender_pubkey: get(row, "sender_pubkey")?,
            client_id: get(row, "client_id")?,
            target: Target {
                kind: kind_of(get(row, "target_kind")?)?,
                spec: get(row, "target_spec")?,
            },
            priority: priority_of(get(row, "priority")?)?,
            nonce: text(row, "nonce")?,
            ciphertext: text(row, "ciphertext")?,
            meta: json_opt(row, "meta")?,
            sealed: json_opt(row, "sealed")?,
            subtype: get(row, "subtype")?,
            session_hint: text_opt(row, "session_hint")?,
            created_at: time(row, "created_at")?,
            expires_at: time(row, "expires_at")?,
        }),
    })
}

fn delivery_row(row: &AnyRow) -> Result<DeliveryRow, StoreError> {
    Ok(DeliveryRow {
        recipient: text(row, "recipient_member_id")?,
        stage: stage_of(get(row, "stage")?)?,
        delivered_at: time_opt(row, "delivered_at")?,
        surfaced_at: time_opt(row, "surfaced_at")?,
        read_at: time_opt(row, "read_at")?,
        ended_at: time_opt(row, "ended_at")?,
        adapter: get(row, "adapter")?,
        reason: get(row, "reason")?,
    })
}

fn waiting(rows: &[AnyRow]) -> Result<Waiting, StoreError> {
    let mut waiting = Waiting::default();
    for row in rows {
        let n = count(row, "n")?;
        match priority_of(get(row, "priority")?)? {
            Priority::Now => waiting.now = n,
            Priority::Next => waiting.next = n,
            Priority::Low => waiting.low = n,
        }
    }
    Ok(waiting)
}
