//! Keys of group encryption: the broker orders the signed log and carries sealed keys; it never has a key.
//!
//! Bodies of entries, seals, requests and grants are opaque here: their formats are in `claudemesh-crypto::group`.

use crate::model::{EpochHead, KeyHex};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Appends signed entries to the group log. Taken only if they continue the current head, all or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupCommit {
    /// The entries, in order.
    #[schemars(length(min = 1, max = 64))]
    pub entries: Vec<Value>,
    /// Keys of the new epoch, sealed to each device and outstanding invite.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    pub seals: Vec<SealRecord>,
}

/// The entries are part of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupCommitted {
    /// The new head.
    pub head: EpochHead,
}

/// An epoch key, sealed to one device or invite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SealRecord {
    /// Generation of the log.
    pub generation: u64,
    /// Number of the key.
    pub epoch: u64,
    /// Device or invite key that it is for.
    pub to: KeyHex,
    /// The signed seal.
    pub seal: Value,
}

/// One entry of the group log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogRecord {
    /// Generation of the log.
    pub generation: u64,
    /// Position in the generation, from 0.
    pub index: u64,
    /// The signed entry.
    pub entry: Value,
}

/// Reads the group log from a position on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GroupLog {
    /// Generation to read; the current one if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// First position to return.
    pub from_index: u64,
    /// Most entries to return (1 to 500; 200 if absent).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u32>,
}

/// A part of the group log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupLogResult {
    /// The entries.
    pub entries: Vec<LogRecord>,
    /// Seals for the caller's device, of the epochs among the entries and of the newest epoch.
    pub seals: Vec<SealRecord>,
    /// The current head; absent while the mesh has no log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<EpochHead>,
    /// Whether there are further entries.
    pub more: bool,
}

/// Reads the head of the group log and the newest seal for the caller's device or for an invite that it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupInfo {
    /// Public key of the invite that the caller joined with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invite_key: Option<KeyHex>,
}

/// The head of the group log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupInfoResult {
    /// The current head; absent while the mesh has no log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<EpochHead>,
    /// Seals for the caller's device and the named invite, all epochs that the broker still has.
    pub seals: Vec<SealRecord>,
    /// Owner's key as the broker knows it; a client trusts the one in its invite link instead.
    pub owner_pubkey: KeyHex,
}

/// Tells the broker and peers how far this device has followed the group log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupStatus {
    /// The device's head.
    pub head: EpochHead,
    /// Why the device cannot follow further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub problem: Option<String>,
}

/// The position is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupStatusNoted {}

/// Asks the mesh for keys (or to be admitted). Forwarded to every live device that may answer, now and as they connect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRequest {
    /// The signed request.
    pub request: Value,
}

/// The request was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRequested {
    /// How many live sessions it was passed to.
    pub forwarded: u32,
}

/// Answers a key request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyGrant {
    /// Device that the keys are sealed to.
    pub to: KeyHex,
    /// The signed grant.
    pub grant: Value,
}

/// The grant was passed on, or is kept until the device connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyGranted {
    /// Whether a live session of the device has it.
    pub delivered: bool,
}
