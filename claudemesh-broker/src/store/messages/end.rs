//! Ends: expired, revoked, purged.

use super::{DELIVERY_ROWS, EndedDelivery};
use crate::store::committer::Recorded;
use crate::store::rows::{chunks, get, limit, push_values, text, time};
use crate::store::{Store, StoreError};
use claudemesh_proto::model::{MemberId, MeshId, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};

impl Store {
    /// Ends at most `most` deliveries whose time ran out, the earliest first, and tells which.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn expire_due(&self, now: Timestamp, most: usize) -> Result<Vec<EndedDelivery>, StoreError> {
        // Not by the committer: this reads the whole queue.
        let rows = sqlx::query(
            "SELECT seq, recipient_member_id FROM delivery WHERE stage = 0 AND expires_at <= $1 \
             ORDER BY expires_at LIMIT $2",
        )
        .bind(now.as_ms())
        .bind(limit(most))
        .fetch_all(self.pool())
        .await?;
        let due = rows
            .iter()
            .map(|row| Ok((get(row, "seq")?, get(row, "recipient_member_id")?)))
            .collect::<Result<Vec<(i64, String)>, StoreError>>()?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        self.transaction(None, move |connection| {
            Box::pin(async move {
                let mut rows = Vec::with_capacity(due.len());
                for chunk in chunks(&due, DELIVERY_ROWS) {
                    rows.extend(expire(connection, chunk, now).await?);
                }
                Ok(Recorded::silently(ended(&rows)?))
            })
        })
        .await
    }

    /// The number of the first message accepted since then, about: numbers follow the clock unless it is set back. Found by
    /// halving: an index would cost every message a change, for a question that is asked every few minutes.
    async fn first_since(&self, since: Timestamp) -> Result<i64, StoreError> {
        let ends = sqlx::query("SELECT COALESCE(MIN(seq), 0) AS first, COALESCE(MAX(seq), 0) AS last FROM message")
            .fetch_one(self.pool())
            .await?;
        let (mut low, mut high) = (get::<i64>(&ends, "first")?, get::<i64>(&ends, "last")? + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = sqlx::query("SELECT seq, created_at FROM message WHERE seq >= $1 ORDER BY seq LIMIT 1")
                .bind(middle)
                .fetch_optional(self.pool())
                .await?;
            match row {
                Some(row) if time(&row, "created_at")? < since => low = get::<i64>(&row, "seq")? + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Deletes at most `most` messages accepted before `before` that wait for nobody, and gives their number.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn purge(&self, before: Timestamp, most: usize) -> Result<u64, StoreError> {
        let rows = sqlx::query(
            "SELECT m.seq FROM message m WHERE m.seq < $1 AND m.created_at < $2 AND NOT EXISTS \
             (SELECT 1 FROM delivery d WHERE d.seq = m.seq AND d.stage = 0) \
             ORDER BY m.seq LIMIT $3",
        )
        .bind(self.first_since(before).await?)
        .bind(before.as_ms())
        .bind(limit(most))
        .fetch_all(self.pool())
        .await?;
        let seqs = rows
            .iter()
            .map(|row| get::<i64>(row, "seq"))
            .collect::<Result<Vec<_>, _>>()?;
        let mut purged = 0;
        // In parts, so that messages being sent are not held up. What was delivered stays so: no need to look again.
        for chunk in seqs.chunks(256) {
            let chunk = chunk.to_vec();
            purged += self
                .transaction(None, move |connection| {
                    Box::pin(async move { Ok(Recorded::silently(delete_messages(connection, &chunk).await?)) })
                })
                .await?;
        }
        Ok(purged)
    }
}

/// Ends what waits for a member. Part of its removal.
pub(in crate::store) async fn end_pending(
    connection: &mut AnyConnection,
    mesh: &MeshId,
    member: &MemberId,
    at: Timestamp,
) -> Result<Vec<EndedDelivery>, StoreError> {
    let rows = sqlx::query(
        "UPDATE delivery SET stage = 6, ended_at = $1 \
         WHERE mesh_id = $2 AND recipient_member_id = $3 AND stage = 0 \
         RETURNING mesh_id, message_id, recipient_member_id, sender_member_id, seq",
    )
    .bind(at.as_ms())
    .bind(mesh.as_str())
    .bind(member.as_str())
    .fetch_all(connection)
    .await?;
    ended(&rows)
}

fn ended(rows: &[AnyRow]) -> Result<Vec<EndedDelivery>, StoreError> {
    let mut ended = rows
        .iter()
        .map(|row| {
            Ok(EndedDelivery {
                mesh_id: text(row, "mesh_id")?,
                message_id: text(row, "message_id")?,
                recipient: text(row, "recipient_member_id")?,
                sender: text(row, "sender_member_id")?,
                seq: get(row, "seq")?,
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    ended.sort_by_key(|delivery| delivery.seq);
    Ok(ended)
}

/// Ends what still waits of these.
async fn expire(
    connection: &mut AnyConnection,
    due: &[(i64, String)],
    now: Timestamp,
) -> Result<Vec<AnyRow>, StoreError> {
    let mut sql = String::from("WITH c (c_seq, c_recipient, c_at) AS (VALUES ");
    push_values(connection, &mut sql, due.len(), 3);
    sql.push_str(
        ") UPDATE delivery AS d SET stage = 4, ended_at = c.c_at FROM c \
         WHERE d.seq = c.c_seq AND d.recipient_member_id = c.c_recipient AND d.stage = 0 \
         RETURNING mesh_id, message_id, recipient_member_id, sender_member_id, seq",
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (seq, recipient) in due {
        query = query.bind(*seq).bind(recipient.as_str()).bind(now.as_ms());
    }
    Ok(query.fetch_all(connection).await?)
}

async fn delete_messages(connection: &mut AnyConnection, seqs: &[i64]) -> Result<u64, StoreError> {
    let mut deleted = 0;
    for chunk in chunks(seqs, 256) {
        let mut with = String::from("WITH c (c_seq) AS (VALUES ");
        push_values(connection, &mut with, chunk.len(), 1);
        let deliveries = format!("{with}) DELETE FROM delivery WHERE seq IN (SELECT c_seq FROM c)");
        let messages = format!("{with}) DELETE FROM message WHERE seq IN (SELECT c_seq FROM c)");
        let mut query = sqlx::query(AssertSqlSafe(deliveries));
        for seq in chunk {
            query = query.bind(*seq);
        }
        query.execute(&mut *connection).await?;
        let mut query = sqlx::query(AssertSqlSafe(messages));
        for seq in chunk {
            query = query.bind(*seq);
        }
        deleted += query.execute(&mut *connection).await?.rows_affected();
    }
    Ok(deleted)
}
