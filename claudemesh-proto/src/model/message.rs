//! Messages: classes, envelopes and how far a delivery has come.

use super::{Base64, HexHash, KeyHex, MessageId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Delivery class of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Priority {
    /// At once, whatever the recipient is doing.
    Now,
    /// When the recipient is idle.
    #[default]
    Next,
    /// When the recipient asks for its messages.
    Low,
}

impl Priority {
    /// All classes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Now, Self::Next, Self::Low];

    /// The wire text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Next => "next",
            Self::Low => "low",
        }
    }
}

/// How a message was addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum TargetKind {
    /// To one member or one session.
    Direct,
    /// To a group.
    Group,
    /// To everybody.
    Broadcast,
}

/// How a message was addressed, and to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// Direct, group or broadcast.
    pub kind: TargetKind,
    /// The target as the sender gave it: a key, `@group`, `@all` or `*`.
    pub spec: String,
}

/// Newest point of a mesh's group log that somebody has seen. Two heads with the same generation and index but another
/// hash are a fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EpochHead {
    /// Counts resets of the group.
    pub generation: u64,
    /// Position of the newest entry in the generation's log.
    pub index: u64,
    /// Number of the current key.
    pub epoch: u64,
    /// Hash of the newest entry.
    pub hash: HexHash,
}

/// Encrypted facts about a direct message (id, sequence, priority, group head), so that the broker cannot change them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SealedMeta {
    /// 24 random bytes.
    #[schemars(extend("maxLength" = 64))]
    pub nonce: Base64,
    /// `crypto_box` of the facts under the same keys as the message.
    #[schemars(extend("maxLength" = 4096))]
    pub ciphertext: Base64,
}

/// How a group or broadcast message is sealed: everything a member needs to choose the key and check the sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupSeal {
    /// `epoch/1`.
    #[schemars(length(max = 32))]
    pub scheme: String,
    /// Generation of the group log.
    pub generation: u64,
    /// Number of the key.
    pub epoch: u64,
    /// What the content key was derived for.
    #[schemars(length(max = 256))]
    pub label: String,
    /// Short identifier of the content key.
    #[schemars(length(max = 64))]
    pub key_id: String,
    /// The sender's device.
    pub device: KeyHex,
    /// The sender's session.
    pub session: KeyHex,
    /// Position in the sender's sequence for this label and priority, from 1.
    pub seq: u64,
}

/// How far a message has come on its way to one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum DeliveryStage {
    /// On disk at the broker; waiting for the recipient.
    Accepted,
    /// Acknowledged by the recipient's client.
    Delivered,
    /// Put in front of the recipient's model or person.
    Surfaced,
    /// Acknowledged by the model or person.
    Read,
    /// Its time ran out before it was delivered.
    Expired,
    /// The recipient does not take such messages from the sender.
    Refused,
    /// The recipient was removed from the mesh.
    Revoked,
}

impl DeliveryStage {
    /// The wire text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Surfaced => "surfaced",
            Self::Read => "read",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Revoked => "revoked",
        }
    }

    /// Whether nothing further will happen to the delivery.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Read | Self::Expired | Self::Refused | Self::Revoked)
    }
}

/// A stage that a recipient's client reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ClientStage {
    /// The client has it safely.
    Delivered,
    /// It is in front of the model or person.
    Surfaced,
    /// The model or person acknowledged it.
    Read,
}

impl From<ClientStage> for DeliveryStage {
    fn from(stage: ClientStage) -> Self {
        match stage {
            ClientStage::Delivered => Self::Delivered,
            ClientStage::Surfaced => Self::Surfaced,
            ClientStage::Read => Self::Read,
        }
    }
}

/// News about one delivery, sent to the sender's live sessions. Wire type: `receipt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The message.
    pub message_id: MessageId,
    /// Key of the member that it is for.
    pub recipient: KeyHex,
    /// Name of that member.
    pub name: String,
    /// How far it has come.
    pub stage: DeliveryStage,
    /// When.
    pub at: Timestamp,
    /// What put it in front of the model: `inbox-socket`, `channel`, `tool-result`, `terminal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Why it ended without success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One recipient's line in `message_status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecipientStatus {
    /// Name of the member.
    pub name: String,
    /// Key of the member.
    pub pubkey: KeyHex,
    /// Short form: `delivered`, `held` (waits although the recipient is online), `disconnected` (waits for it) or the
    /// name of an end without success.
    #[schemars(length(max = 32))]
    pub status: String,
    /// How far it has come; absent from an original broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<DeliveryStage>,
    /// When the recipient's client acknowledged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// When it was put in front of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surfaced_at: Option<Timestamp>,
    /// When the model or person acknowledged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// What put it in front of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Why it ended without success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
