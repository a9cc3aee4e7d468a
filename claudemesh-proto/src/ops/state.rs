//! Shared key-value state of a mesh.

use crate::model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Sets a key of the mesh's shared state. Every other peer is told. The last writer wins; the version counts writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SetState {
    /// Name of the key.
    #[schemars(length(min = 1, max = 256))]
    pub key: String,
    /// Any JSON value, `null` included; at most 64 KiB.
    pub value: Value,
}

/// The value is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateSet {
    /// Name of the key.
    pub key: String,
    /// How often the key has been written.
    pub version: u64,
    /// When it was written.
    pub updated_at: Timestamp,
}

/// Reads a key of the mesh's shared state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GetState {
    /// Name of the key.
    #[schemars(length(min = 1, max = 256))]
    pub key: String,
}

/// A key's value. A key that does not exist has `exists: false`, `value: null` and empty texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateResult {
    /// Name of the key.
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: Value,
    /// Name of the member that wrote it.
    #[serde(default)]
    pub updated_by: String,
    /// When it was written (ISO 8601), or empty.
    #[serde(default)]
    pub updated_at: String,
    /// How often it has been written; 0 if it does not exist.
    #[serde(default)]
    pub version: u64,
    /// Whether the key exists.
    #[serde(default)]
    pub exists: bool,
}

/// Lists every key of the mesh's shared state with value, author and time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListState {}

/// The shared state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StateList {
    /// One entry per key, by key.
    pub entries: Vec<StateEntry>,
}

/// One key of the shared state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateEntry {
    /// Name of the key.
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: Value,
    /// Name of the member that wrote it.
    pub updated_by: String,
    /// When it was written.
    pub updated_at: Timestamp,
    /// How often it has been written.
    #[serde(default)]
    pub version: u64,
}

/// Removes a key of the mesh's shared state. Every other peer is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeleteState {
    /// Name of the key.
    #[schemars(length(min = 1, max = 256))]
    pub key: String,
}

/// The key is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StateDeleted {
    /// Name of the key.
    pub key: String,
    /// Whether it existed.
    pub existed: bool,
}
