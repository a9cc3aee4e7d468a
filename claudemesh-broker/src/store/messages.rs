//! Messages and their deliveries, one per recipient.

use super::committer::Recorded;
use super::rows::{chunks, count, get, json_opt, limit, push_values, text, text_opt, time, time_opt, to_json_opt};
use super::{Outcome, Store, StoreError, Write, WriteKind};
use claudemesh_proto::model::{
    Base64, DeliveryStage, GroupSeal, KeyHex, MemberId, MeshId, MessageId, Priority, SealedMeta, Target, TargetKind,
    Timestamp,
};
use claudemesh_proto::ops::Waiting;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

/// A message as it is stored, without its number.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageRow {
    /// Its id.
    pub id: MessageId,
    /// Its mesh.
    pub mesh_id: MeshId,
    /// Who sent it.
    pub sender_member_id: MemberId,
    /// Session that sent it.
    pub sender_session_pubkey: Option<KeyHex>,
    /// Name of the session that sent it.
    pub sender_name: String,
    /// Key of the member that sent it, `system` or `webhook:<name>`.
    pub sender_pubkey: String,
    /// The sender's idempotency key. `None` comes back if it is the id itself.
    pub client_id: Option<String>,
    /// How it was addressed.
    pub target: Target,
    /// Its delivery class.
    pub priority: Priority,
    /// 24 bytes, or empty.
    pub nonce: Base64,
    /// The sealed message.
    pub ciphertext: Base64,
    /// Sealed facts about it.
    pub meta: Option<SealedMeta>,
    /// How it is sealed, if for a group.
    pub sealed: Option<GroupSeal>,
    /// What kind of message it is, if not an ordinary one.
    pub subtype: Option<String>,
    /// Session of the recipient to prefer.
    pub session_hint: Option<KeyHex>,
    /// When the broker accepted it.
    pub created_at: Timestamp,
    /// When it expires where it was not delivered.
    pub expires_at: Timestamp,
}

/// A message that is on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMessage {
    /// Its place in the order of acceptance, over all meshes.
    pub seq: i64,
    /// The message.
    pub row: Arc<MessageRow>,
}

impl Deref for StoredMessage {
    type Target = MessageRow;

    fn deref(&self) -> &MessageRow {
        &self.row
    }
}

/// A member that a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The member.
    pub member_id: MemberId,
    /// Why it refuses the message; the delivery ends at once then.
    pub refused: Option<String>,
}

impl Recipient {
    /// A recipient that takes the message.
    #[must_use]
    pub fn accepting(member_id: MemberId) -> Self {
        Self {
            member_id,
            refused: None,
        }
    }
}

/// A message to be stored. The caller keeps the row for delivery, so it is shared and not copied.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The message.
    pub message: Arc<MessageRow>,
    /// Who it is for; each member once.
    pub recipients: Vec<Recipient>,
}

/// What became of a [`NewMessage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageOutcome {
    /// Place in the order of acceptance.
    pub seq: i64,
    /// Id of the stored message: that of the earlier one if it is a repetition.
    pub message_id: MessageId,
    /// Whether an earlier send with the same idempotency key had stored it; nothing was stored now.
    pub duplicate: bool,
    /// How many members it is for.
    pub recipients: u32,
    /// How many members refused it.
    pub refused: u32,
}

/// A step of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageChange {
    /// The mesh.
    pub mesh_id: MeshId,
    /// The message.
    pub message_id: MessageId,
    /// The member that it is for.
    pub recipient: MemberId,
    /// How far it has come.
    pub stage: DeliveryStage,
    /// When.
    pub at: Timestamp,
    /// What put it in front of the model.
    pub adapter: Option<String>,
    /// Why it ended without success.
    pub reason: Option<String>,
    /// Where it is, from a caller that has the message in memory: saves looking it up.
    pub place: Option<DeliveryPlace>,
}

/// Where a delivery is in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryPlace {
    /// The message's place in the order of acceptance.
    pub seq: i64,
    /// Who sent the message.
    pub sender: MemberId,
}

/// What became of a [`StageChange`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageOutcome {
    /// Who sent the message; absent if there is no such delivery.
    pub sender: Option<MemberId>,
    /// Whether the delivery advanced. If not, it had come as far before, or had ended.
    pub changed: bool,
}

/// One recipient's delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// The member that it is for.
    pub recipient: MemberId,
    /// How far it has come.
    pub stage: DeliveryStage,
    /// When the recipient's client acknowledged it.
    pub delivered_at: Option<Timestamp>,
    /// When it was put in front of the model.
    pub surfaced_at: Option<Timestamp>,
    /// When the model or person acknowledged it.
    pub read_at: Option<Timestamp>,
    /// When it ended, well or not.
    pub ended_at: Option<Timestamp>,
    /// What put it in front of the model.
    pub adapter: Option<String>,
    /// Why it ended without success.
    pub reason: Option<String>,
}

/// One recipient's delivery, and who the recipient is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientRow {
    /// The delivery.
    pub delivery: DeliveryRow,
    /// Name of the member.
    pub name: String,
    /// Key of the member.
    pub pubkey: KeyHex,
}

/// A delivery that ended without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedDelivery {
    /// The mesh.
    pub mesh_id: MeshId,
    /// The message.
    pub message_id: MessageId,
    /// The member that it was for.
    pub recipient: MemberId,
    /// Who sent it.
    pub sender: MemberId,
    /// Its place in the order of acceptance.
    pub seq: i64,
}

/// Most rows of one statement; 64 × 19 and 128 × 11 parameters are far below the limits of both engines.
const MESSAGE_ROWS: usize = 64;
const DELIVERY_ROWS: usize = 128;

pub(super) const fn stage_number(stage: DeliveryStage) -> i64 {
    match stage {
        DeliveryStage::Accepted => 0,
        DeliveryStage::Delivered => 1,
        DeliveryStage::Surfaced => 2,
        DeliveryStage::Read => 3,
        DeliveryStage::Expired => 4,
        DeliveryStage::Refused => 5,
        DeliveryStage::Revoked => 6,
    }
}

fn stage_of(number: i64) -> Result<DeliveryStage, StoreError> {
    Ok(match number {
        0 => DeliveryStage::Accepted,
        1 => DeliveryStage::Delivered,
        2 => DeliveryStage::Surfaced,
        3 => DeliveryStage::Read,
        4 => DeliveryStage::Expired,
        5 => DeliveryStage::Refused,
        6 => DeliveryStage::Revoked,
        _ => return Err(StoreError::Corrupt("column stage holds an unknown number".into())),
    })
}

pub(super) const fn priority_number(priority: Priority) -> i64 {
    match priority {
        Priority::Now => 0,
        Priority::Next => 1,
        Priority::Low => 2,
    }
}

fn priority_of(number: i64) -> Result<Priority, StoreError> {
    match number {
        0 => Ok(Priority::Now),
        1 => Ok(Priority::Next),
        2 => Ok(Priority::Low),
        _ => Err(StoreError::Corrupt("column priority holds an unknown number".into())),
    }
}

pub(super) const fn kind_number(kind: TargetKind) -> i64 {
    match kind {
        TargetKind::Direct => 0,
        TargetKind::Group => 1,
        TargetKind::Broadcast => 2,
    }
}

fn kind_of(number: i64) -> Result<TargetKind, StoreError> {
    match number {
        0 => Ok(TargetKind::Direct),
        1 => Ok(TargetKind::Group),
        2 => Ok(TargetKind::Broadcast),
        _ => Err(StoreError::Corrupt("column target_kind holds an unknown number".into())),
    }
}

impl NewMessage {
    /// Bytes that it keeps in memory and will take on disk, about.
    pub(super) fn bytes(&self) -> usize {
        512 + self.message.ciphertext.0.len() + 128 * self.recipients.len()
    }

    pub(super) fn rows(&self) -> usize {
        1 + self.recipients.len()
    }

    pub(super) fn outcome(&self, seq: i64) -> MessageOutcome {
        let refused = self
            .recipients
            .iter()
            .filter(|recipient| recipient.refused.is_some())
            .count();
        MessageOutcome {
            seq,
            message_id: self.message.id.clone(),
            duplicate: false,
            recipients: small(self.recipients.len() - refused),
            refused: small(refused),
        }
    }
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What the committer knows of the messages in the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbering {
    /// The number that the next message gets.
    pub(super) next_seq: i64,
    /// Whether there are messages whose idempotency key is not their id: those of clients of protocol 1.
    pub(super) separate_keys: bool,
}

impl Numbering {
    pub(super) async fn load(connection: &mut AnyConnection) -> Result<Self, StoreError> {
        let last = sqlx::query("SELECT COALESCE(MAX(seq), 0) AS last FROM message")
            .fetch_one(&mut *connection)
            .await?;
        let separate = sqlx::query("SELECT seq FROM message WHERE client_id IS NOT NULL LIMIT 1")
            .fetch_optional(connection)
            .await?;
        Ok(Self {
            next_seq: get::<i64>(&last, "last")? + 1,
            separate_keys: separate.is_some(),
        })
    }
}

impl MessageRow {
    /// What is stored as the idempotency key: nothing where the id says it.
    pub(super) fn separate_key(&self) -> Option<&str> {
        self.client_id.as_deref().filter(|key| *key != self.id.as_str())
    }
}

/// Stores messages, numbered in order. The outer error is that of a statement; nothing of the batch may be kept then.
pub(super) async fn insert_messages(
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
        "SELECT COUNT(*) AS n, COUNT(CASE WHEN stage = 5 THEN 1 END) AS refused FROM delivery WHERE seq = $1",
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
    }))
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
pub(super) async fn apply_stages_in_the_hope(
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
pub(super) async fn apply_stages(
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

/// Ends what waits for a member. Part of its removal.
pub(super) async fn end_pending(
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

/// The statement that finds what waits for a member; the test of its plan uses it too.
#[doc(hidden)]
pub const PENDING_SQL: &str = "SELECT m.* FROM delivery d JOIN message m ON m.seq = d.seq \
     WHERE d.mesh_id = $1 AND d.recipient_member_id = $2 AND d.priority = $3 AND d.stage = 0 AND d.seq > $4 \
     ORDER BY d.seq LIMIT $5";

impl Store {
    /// Stores a message, and tells when it is on disk.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another message has its id.
    pub async fn insert_message(
        &self,
        message: NewMessage,
        audit: Option<super::AuditEvent>,
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
