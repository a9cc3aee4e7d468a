//! Storing messages with a delivery for each recipient.

use super::numbers::{kind_number, priority_number, stage_number};
use super::rows::Numbering;
use super::{DELIVERY_ROWS, MESSAGE_ROWS, MessageOutcome, MessageRow, NewMessage, Recipient};
use crate::store::rows::{chunks, count, get, limit, push_values, text, to_json_opt};
use crate::store::{AuditEvent, Outcome, Store, StoreError, Write, WriteKind};
use claudemesh_proto::model::{DeliveryStage, KeyHex, MessageId};
use sqlx::{AnyConnection, AssertSqlSafe};
use std::collections::HashSet;

impl Store {
    /// Stores a message, and tells when it is on disk.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another message has its id.
    pub async fn insert_message(
        &self,
        message: NewMessage,
        audit: Option<AuditEvent>,
    ) -> Result<MessageOutcome, StoreError> {
        let write = Write {
            kind: WriteKind::Message(message),
            audit: audit.into_iter().collect(),
        };
        match self.committer().write(write).await? {
            Outcome::Message(outcome) => Ok(outcome),
            _ => Err(StoreError::Database("a message had another outcome".into())),
        }
    }
}

/// Stores messages, numbered in order. The outer error is that of a statement; nothing of the batch may be kept then.
pub(in crate::store) async fn insert_messages(
    connection: &mut AnyConnection,
    numbering: &mut Numbering,
    messages: &[&NewMessage],
) -> Result<Vec<Result<MessageOutcome, StoreError>>, StoreError> {
    let numbered: Vec<(i64, &NewMessage)> = (numbering.next_seq..).zip(messages.iter().copied()).collect();
    numbering.next_seq += limit(messages.len());
    // One key can be in either form only where both forms are in use; the indexes find everything else.
    numbering.separate_keys |= messages.iter().any(|new| new.message.separate_key().is_some());
    let repeated = if numbering.separate_keys {
        repeated_keys(connection, &numbered).await?
    } else {
        HashSet::new()
    };
    let fresh: Vec<(i64, &NewMessage)> = numbered
        .iter()
        .filter(|(seq, _)| !repeated.contains(seq))
        .copied()
        .collect();
    let mut stored = HashSet::with_capacity(fresh.len());
    for chunk in chunks(&fresh, MESSAGE_ROWS) {
        insert_message_rows(connection, chunk, &mut stored).await?;
    }
    let (accepted, refused): (Vec<_>, Vec<_>) = fresh
        .iter()
        .filter(|(seq, _)| stored.contains(seq))
        .flat_map(|(seq, new)| new.recipients.iter().map(|recipient| (*seq, &*new.message, recipient)))
        .partition(|(_, _, recipient)| recipient.refused.is_none());
    for chunk in chunks(&accepted, DELIVERY_ROWS) {
        insert_accepted_rows(connection, chunk).await?;
    }
    for chunk in chunks(&refused, DELIVERY_ROWS) {
        insert_refused_rows(connection, chunk).await?;
    }
    let mut outcomes = Vec::with_capacity(numbered.len());
    for (seq, new) in numbered {
        outcomes.push(if stored.contains(&seq) {
            Ok(new.outcome(seq))
        } else {
            repetition(connection, &new.message).await?
        });
    }
    Ok(outcomes)
}

/// Numbers of the messages whose idempotency key is in the database or earlier in the batch, in either form.
async fn repeated_keys(
    connection: &mut AnyConnection,
    numbered: &[(i64, &NewMessage)],
) -> Result<HashSet<i64>, StoreError> {
    let mut repeated = HashSet::new();
    let mut seen = HashSet::new();
    let mut keyed = Vec::new();
    for (seq, new) in numbered {
        let row = &*new.message;
        let Some(key) = row.client_id.as_deref() else { continue };
        if seen.insert((row.mesh_id.as_str(), row.sender_member_id.as_str(), key)) {
            keyed.push((*seq, row, key));
        } else {
            repeated.insert(*seq);
        }
    }
    for chunk in chunks(&keyed, DELIVERY_ROWS) {
        let mut sql = String::from("WITH c (c_seq, c_mesh, c_sender, c_key) AS (VALUES ");
        push_values(connection, &mut sql, chunk.len(), 4);
        sql.push_str(
            ") SELECT c.c_seq FROM c JOIN message m ON m.mesh_id = c.c_mesh AND m.sender_member_id = c.c_sender \
             AND m.client_id = c.c_key \
             UNION ALL SELECT c.c_seq FROM c JOIN message m ON m.mesh_id = c.c_mesh AND m.id = c.c_key \
             WHERE m.sender_member_id = c.c_sender AND m.client_id IS NULL",
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (seq, row, key) in chunk {
            query = query
                .bind(*seq)
                .bind(row.mesh_id.as_str())
                .bind(row.sender_member_id.as_str())
                .bind(*key);
        }
        for row in query.fetch_all(&mut *connection).await? {
            repeated.insert(get(&row, "c_seq")?);
        }
    }
    Ok(repeated)
}

async fn insert_message_rows(
    connection: &mut AnyConnection,
    rows: &[(i64, &NewMessage)],
    stored: &mut HashSet<i64>,
) -> Result<(), StoreError> {
    let mut sql = String::from(
        "INSERT INTO message (seq, id, mesh_id, sender_member_id, sender_session_pubkey, sender_name, sender_pubkey, \
         client_id, target_kind, target_spec, priority, nonce, ciphertext, meta, sealed, subtype, session_hint, \
         created_at, expires_at) VALUES ",
    );
    push_values(connection, &mut sql, rows.len(), 19);
    sql.push_str(" ON CONFLICT DO NOTHING");
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (seq, new) in rows {
        let row = &*new.message;
        query = query
            .bind(*seq)
            .bind(row.id.as_str())
            .bind(row.mesh_id.as_str())
            .bind(row.sender_member_id.as_str())
            .bind(row.sender_session_pubkey.as_ref().map(KeyHex::as_str))
            .bind(row.sender_name.as_str())
            .bind(row.sender_pubkey.as_str())
            .bind(row.separate_key())
            .bind(kind_number(row.target.kind))
            .bind(row.target.spec.as_str())
            .bind(priority_number(row.priority))
            .bind(row.nonce.as_str())
            .bind(row.ciphertext.as_str())
            .bind(to_json_opt(row.meta.as_ref())?)
            .bind(to_json_opt(row.sealed.as_ref())?)
            .bind(row.subtype.as_deref())
            .bind(row.session_hint.as_ref().map(KeyHex::as_str))
            .bind(row.created_at.as_ms())
            .bind(row.expires_at.as_ms());
    }
    let inserted = query.execute(&mut *connection).await?.rows_affected();
    if usize::try_from(inserted) == Ok(rows.len()) {
        stored.extend(rows.iter().map(|(seq, _)| *seq));
        return Ok(());
    }
    // Some repeat an id or an idempotency key and were left out; nobody else uses these numbers.
    let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else {
        return Ok(());
    };
    let kept = sqlx::query("SELECT seq FROM message WHERE seq >= $1 AND seq <= $2")
        .bind(*first)
        .bind(*last)
        .fetch_all(connection)
        .await?;
    for row in kept {
        stored.insert(get(&row, "seq")?);
    }
    Ok(())
}

/// What a delivery shares with its message is copied from there: a third of the parameters. Its times are not: they are
/// behind the ciphertext, which would have to be read.
async fn insert_accepted_rows(
    connection: &mut AnyConnection,
    rows: &[(i64, &MessageRow, &Recipient)],
) -> Result<(), StoreError> {
    let mut sql = String::from("WITH c (c_seq, c_recipient, c_created, c_expires) AS (VALUES ");
    push_values(connection, &mut sql, rows.len(), 4);
    sql.push_str(
        ") INSERT INTO delivery (mesh_id, message_id, recipient_member_id, sender_member_id, seq, priority, stage, \
         created_at, expires_at) \
         SELECT m.mesh_id, m.id, c.c_recipient, m.sender_member_id, m.seq, m.priority, 0, c.c_created, c.c_expires \
         FROM c CROSS JOIN message m WHERE m.seq = c.c_seq",
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (seq, message, recipient) in rows {
        query = query
            .bind(*seq)
            .bind(recipient.member_id.as_str())
            .bind(message.created_at.as_ms())
            .bind(message.expires_at.as_ms());
    }
    query.execute(connection).await?;
    Ok(())
}

async fn insert_refused_rows(
    connection: &mut AnyConnection,
    rows: &[(i64, &MessageRow, &Recipient)],
) -> Result<(), StoreError> {
    let mut sql = String::from(
        "INSERT INTO delivery (mesh_id, message_id, recipient_member_id, sender_member_id, seq, priority, stage, \
         created_at, ended_at, reason, expires_at) VALUES ",
    );
    push_values(connection, &mut sql, rows.len(), 11);
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (seq, message, recipient) in rows {
        query = query
            .bind(message.mesh_id.as_str())
            .bind(message.id.as_str())
            .bind(recipient.member_id.as_str())
            .bind(message.sender_member_id.as_str())
            .bind(*seq)
            .bind(priority_number(message.priority))
            .bind(stage_number(DeliveryStage::Refused))
            .bind(message.created_at.as_ms())
            .bind(message.created_at.as_ms())
            .bind(recipient.refused.as_deref())
            .bind(message.expires_at.as_ms());
    }
    query.execute(connection).await?;
    Ok(())
}

/// The answer to a message that was not stored: the data of the one that it repeats.
async fn repetition(
    connection: &mut AnyConnection,
    row: &MessageRow,
) -> Result<Result<MessageOutcome, StoreError>, StoreError> {
    let mut earlier = None;
    for sql in [
        "SELECT seq, id FROM message WHERE mesh_id = $1 AND sender_member_id = $2 AND client_id = $3",
        "SELECT seq, id FROM message WHERE mesh_id = $1 AND sender_member_id = $2 AND id = $3 AND client_id IS NULL",
    ] {
        if earlier.is_none() {
            earlier = sqlx::query(sql)
                .bind(row.mesh_id.as_str())
                .bind(row.sender_member_id.as_str())
                .bind(row.client_id.as_deref())
                .fetch_optional(&mut *connection)
                .await?;
        }
    }
    let Some(earlier) = earlier else {
        return Ok(Err(StoreError::Conflict(
            "another message of this mesh has this id".into(),
        )));
    };
    let message_id: MessageId = text(&earlier, "id")?;
    let counts = sqlx::query(
        "SELECT COUNT(*) AS n, COUNT(CASE WHEN stage = 5 THEN 1 END) AS refused, \
         COUNT(CASE WHEN stage = 0 THEN 1 END) AS pending FROM delivery WHERE seq = $1",
    )
    .bind(get::<i64>(&earlier, "seq")?)
    .fetch_one(connection)
    .await?;
    let (all, refused) = (count(&counts, "n")?, count(&counts, "refused")?);
    Ok(Ok(MessageOutcome {
        seq: get(&earlier, "seq")?,
        message_id,
        duplicate: true,
        recipients: u32::try_from(all - refused).unwrap_or(u32::MAX),
        refused: u32::try_from(refused).unwrap_or(u32::MAX),
        pending: u32::try_from(count(&counts, "pending")?).unwrap_or(u32::MAX),
    }))
}
