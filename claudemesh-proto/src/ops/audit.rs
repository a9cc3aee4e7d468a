//! The audit log: a hash chain per mesh over metadata of what happened.

use crate::model::{HexHash, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Reads the audit log, the newest entry first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditQuery {
    /// Most entries to return (1 to 500; 50 if absent).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u32>,
    /// How many of the newest entries to skip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Only entries of this type, for example `message_sent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub event_type: Option<String>,
}

/// A page of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditResult {
    /// The entries, the newest first.
    pub entries: Vec<AuditEntry>,
    /// How many entries match in all.
    pub total: u64,
}

/// One entry of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Number of the entry.
    pub id: i64,
    /// What happened.
    pub event_type: String,
    /// Name of who did it, else the member's id, else `system`.
    pub actor: String,
    /// Facts about it; never content.
    pub payload: Value,
    /// Hash of the entry and of all before it.
    pub hash: HexHash,
    /// When it happened.
    pub created_at: Timestamp,
}

/// Recomputes the audit log's hash chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditVerify {}

/// Whether the audit log's hash chain holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditVerifyResult {
    /// Whether every entry links to the one before it.
    pub valid: bool,
    /// How many entries were checked.
    pub entries: u64,
    /// Number of the first entry that does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken_at: Option<i64>,
}
