//! What the tables hold, and what writes say of it.

use crate::store::StoreError;
use crate::store::rows::get;
use claudemesh_proto::model::{
    Base64, DeliveryStage, GroupSeal, KeyHex, MemberId, MeshId, MessageId, Priority, SealedMeta, Target, Timestamp,
};
use sqlx::AnyConnection;
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
    /// How many members do not have it yet.
    pub pending: u32,
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

impl NewMessage {
    /// Bytes that it keeps in memory and will take on disk, about.
    pub(in crate::store) fn bytes(&self) -> usize {
        512 + self.message.ciphertext.0.len() + 128 * self.recipients.len()
    }

    pub(in crate::store) fn rows(&self) -> usize {
        1 + self.recipients.len()
    }

    pub(in crate::store) fn outcome(&self, seq: i64) -> MessageOutcome {
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
            pending: small(self.recipients.len() - refused),
        }
    }
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What the committer knows of the messages in the database.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Numbering {
    /// The number that the next message gets.
    pub(in crate::store) next_seq: i64,
    /// Whether there are messages whose idempotency key is not their id: those of clients of protocol 1.
    pub(in crate::store) separate_keys: bool,
}

impl Numbering {
    pub(in crate::store) async fn load(connection: &mut AnyConnection) -> Result<Self, StoreError> {
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
    pub(in crate::store) fn separate_key(&self) -> Option<&str> {
        self.client_id.as_deref().filter(|key| *key != self.id.as_str())
    }
}
