//! Advancing deliveries.

use super::numbers::stage_number;
use super::{DELIVERY_ROWS, StageChange, StageOutcome};
use crate::store::rows::{chunks, get, push_values, text};
use crate::store::{Outcome, Store, StoreError, Write, WriteKind};
use claudemesh_proto::model::{DeliveryStage, MemberId};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

impl Store {
    /// Advances deliveries; one outcome per change, in order.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn change_stages(&self, changes: impl Into<Arc<[StageChange]>>) -> Result<Vec<StageOutcome>, StoreError> {
        match self
            .committer()
            .write(Write {
                kind: WriteKind::Stages(changes.into()),
                audit: Vec::new(),
            })
            .await?
        {
            Outcome::Stages(outcomes) => Ok(outcomes),
            _ => Err(StoreError::Database("stages had another outcome".into())),
        }
    }
}

type DeliveryKey<'a> = (&'a str, &'a str, &'a str);

fn key(change: &StageChange) -> DeliveryKey<'_> {
    (
        change.mesh_id.as_str(),
        change.message_id.as_str(),
        change.recipient.as_str(),
    )
}

/// [`apply_stages`] in a transaction that the caller runs again without this after an error. Deliveries whose place is
/// known, and that are only marked as delivered, take a third of the time: the usual case.
pub(in crate::store) async fn apply_stages_in_the_hope(
    connection: &mut AnyConnection,
    changes: &[&StageChange],
) -> Result<Vec<StageOutcome>, StoreError> {
    let mut outcomes = vec![StageOutcome::default(); changes.len()];
    let mut seen = HashSet::with_capacity(changes.len());
    let (mut marks, mut other, mut other_places) = (Vec::new(), Vec::new(), Vec::new());
    for (index, change) in changes.iter().copied().enumerate() {
        let is_first = seen.insert(key(change));
        let plain = change.stage == DeliveryStage::Delivered && change.adapter.is_none() && change.reason.is_none();
        match &change.place {
            Some(place) if plain && is_first => {
                marks.push((place.seq, change));
                outcomes[index] = StageOutcome {
                    sender: Some(place.sender.clone()),
                    changed: true,
                };
            }
            _ => {
                other.push(change);
                other_places.push(index);
            }
        }
    }
    for chunk in chunks(&marks, DELIVERY_ROWS) {
        mark_delivered(connection, chunk).await?;
    }
    if !other.is_empty() {
        for (place, outcome) in other_places.into_iter().zip(apply_stages(connection, &other).await?) {
            outcomes[place] = outcome;
        }
    }
    Ok(outcomes)
}

async fn mark_delivered(connection: &mut AnyConnection, marks: &[(i64, &StageChange)]) -> Result<(), StoreError> {
    let mut sql = String::from("WITH c (c_seq, c_recipient, c_at) AS (VALUES ");
    push_values(connection, &mut sql, marks.len(), 3);
    sql.push_str(
        ") UPDATE delivery AS d SET stage = 1, delivered_at = c.c_at FROM c \
         WHERE d.seq = c.c_seq AND d.recipient_member_id = c.c_recipient AND d.stage = 0",
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (seq, change) in marks {
        query = query.bind(*seq).bind(change.recipient.as_str()).bind(change.at.as_ms());
    }
    let changed = query.execute(&mut *connection).await?.rows_affected();
    if usize::try_from(changed) == Ok(marks.len()) {
        return Ok(());
    }
    // Which ones is for the careful way to find out.
    Err(StoreError::Database("some were delivered before".into()))
}

/// Advances deliveries. Several changes of one delivery apply in order.
pub(in crate::store) async fn apply_stages(
    connection: &mut AnyConnection,
    changes: &[&StageChange],
) -> Result<Vec<StageOutcome>, StoreError> {
    // A statement changes a row once, so the nth change of each delivery goes into the nth round.
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let mut seen: HashMap<DeliveryKey<'_>, usize> = HashMap::with_capacity(changes.len());
    for (index, change) in changes.iter().enumerate() {
        let round = seen.entry(key(change)).or_default();
        if rounds.len() == *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push(index);
        *round += 1;
    }
    let mut outcomes = vec![StageOutcome::default(); changes.len()];
    let mut senders: HashMap<DeliveryKey<'_>, MemberId> = HashMap::new();
    for round in &rounds {
        let places: HashMap<DeliveryKey<'_>, usize> =
            round.iter().map(|index| (key(changes[*index]), *index)).collect();
        for chunk in chunks(round, DELIVERY_ROWS) {
            for row in update_stages(connection, changes, chunk).await? {
                let found = (
                    get(&row, "mesh_id")?,
                    get(&row, "message_id")?,
                    get(&row, "recipient_member_id")?,
                );
                if let Some(&place) = places.get(&found) {
                    let sender: MemberId = text(&row, "sender_member_id")?;
                    senders.insert(key(changes[place]), sender.clone());
                    outcomes[place] = StageOutcome {
                        sender: Some(sender),
                        changed: true,
                    };
                }
            }
        }
    }
    let open: Vec<usize> = (0..changes.len())
        .filter(|index| !outcomes[*index].changed && !senders.contains_key(&key(changes[*index])))
        .collect();
    let places: HashMap<DeliveryKey<'_>, usize> = open.iter().map(|index| (key(changes[*index]), *index)).collect();
    for chunk in chunks(&open, DELIVERY_ROWS) {
        for row in find_deliveries(connection, changes, chunk).await? {
            let found = (
                get(&row, "mesh_id")?,
                get(&row, "message_id")?,
                get(&row, "recipient_member_id")?,
            );
            if let Some(&place) = places.get(&found) {
                senders.insert(key(changes[place]), text(&row, "sender_member_id")?);
            }
        }
    }
    for (outcome, change) in outcomes.iter_mut().zip(changes) {
        if outcome.sender.is_none() {
            outcome.sender = senders.get(&key(change)).cloned();
        }
    }
    Ok(outcomes)
}

async fn update_stages(
    connection: &mut AnyConnection,
    changes: &[&StageChange],
    places: &[usize],
) -> Result<Vec<AnyRow>, StoreError> {
    let mut sql =
        String::from("WITH c (c_mesh, c_message, c_recipient, c_stage, c_at, c_adapter, c_reason) AS (VALUES ");
    push_values(connection, &mut sql, places.len(), 7);
    // Ends without success are for what was not delivered; after `read` nothing follows.
    sql.push_str(
        "), s AS (SELECT m.seq AS c_seq, c.* FROM c JOIN message m ON m.mesh_id = c.c_mesh AND m.id = c.c_message) \
         UPDATE delivery AS d SET stage = c.c_stage, \
         delivered_at = CASE WHEN c.c_stage <= 3 THEN COALESCE(d.delivered_at, c.c_at) ELSE d.delivered_at END, \
         surfaced_at = CASE WHEN c.c_stage IN (2, 3) THEN COALESCE(d.surfaced_at, c.c_at) ELSE d.surfaced_at END, \
         read_at = CASE WHEN c.c_stage = 3 THEN c.c_at ELSE d.read_at END, \
         ended_at = CASE WHEN c.c_stage >= 3 THEN c.c_at ELSE d.ended_at END, \
         adapter = COALESCE(c.c_adapter, d.adapter), reason = COALESCE(c.c_reason, d.reason) \
         FROM s AS c WHERE d.seq = c.c_seq AND d.recipient_member_id = c.c_recipient \
         AND d.stage < c.c_stage AND ((c.c_stage <= 3 AND d.stage < 3) OR d.stage = 0) \
         RETURNING mesh_id, message_id, recipient_member_id, sender_member_id",
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for place in places {
        let change = changes[*place];
        query = query
            .bind(change.mesh_id.as_str())
            .bind(change.message_id.as_str())
            .bind(change.recipient.as_str())
            .bind(stage_number(change.stage))
            .bind(change.at.as_ms())
            .bind(change.adapter.as_deref())
            .bind(change.reason.as_deref());
    }
    Ok(query.fetch_all(connection).await?)
}

async fn find_deliveries(
    connection: &mut AnyConnection,
    changes: &[&StageChange],
    places: &[usize],
) -> Result<Vec<AnyRow>, StoreError> {
    let mut sql = String::from("WITH c (c_mesh, c_message, c_recipient) AS (VALUES ");
    push_values(connection, &mut sql, places.len(), 3);
    sql.push_str(
        ") SELECT d.mesh_id, d.message_id, d.recipient_member_id, d.sender_member_id FROM c \
         JOIN message m ON m.mesh_id = c.c_mesh AND m.id = c.c_message \
         JOIN delivery d ON d.seq = m.seq AND d.recipient_member_id = c.c_recipient",
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for place in places {
        let (mesh, message, recipient) = key(changes[*place]);
        query = query.bind(mesh).bind(message).bind(recipient);
    }
    Ok(query.fetch_all(connection).await?)
}
