//! Vectors: texts that are found by meaning, in named collections.

use super::Ack;
use crate::model::{MemberId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Stores a text in a collection, where every peer finds it by meaning with vector_search. The first vector of a collection
/// creates it and fixes its number of dimensions. Without `vector` the broker's embedder makes one, if it has one
/// (list_collections tells).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VectorStore {
    /// Name of the collection, at most 64 bytes; capitals count.
    #[schemars(length(min = 1, max = 64))]
    pub collection: String,
    /// The text that a search gives back, at most 32 KiB.
    #[schemars(length(min = 1, max = 32_768))]
    pub text: String,
    /// Anything that belongs to the text, at most 16 KiB of JSON. Searches can filter by its texts, numbers and truth values,
    /// and by lists of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, Value>>,
    /// The text's embedding, 1 to 4,096 numbers, of the same model as the others in the collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub vector: Option<Vec<f32>>,
    /// A UUID. A vector of the collection with this id is replaced, so a repeated call stores nothing twice. Without it the
    /// broker makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub id: Option<String>,
}

/// The vector is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VectorStored {
    /// Its id: a UUID.
    pub id: String,
    /// Whether it replaced one with this id.
    #[serde(default)]
    pub replaced: bool,
    /// Number of dimensions of the collection; 0 from brokers that do not tell.
    #[serde(default)]
    pub dimensions: u32,
}

/// Searches a collection by meaning: the texts whose vectors are closest to that of the query, best first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VectorSearch {
    /// Name of the collection.
    #[schemars(length(min = 1, max = 64))]
    pub collection: String,
    /// What to look for. The broker's embedder makes a vector from it; without an embedder give `vector`.
    #[serde(default)]
    #[schemars(length(max = 32_768))]
    pub query: String,
    /// Most results; 10 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<u32>,
    /// The query's embedding, of the same model as the collection's. If it is given, `query` is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub vector: Option<Vec<f32>>,
    /// Only vectors whose metadata has each of these fields with this value, or with one of them if it is a list:
    /// `{"lang": "rust", "year": [2024, 2025]}`. A field that holds a list has each of its values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub filter: BTreeMap<String, Value>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VectorResults {
    /// The closest first.
    pub results: Vec<VectorMatch>,
    /// Further results did not fit into one answer of 1 MiB: ask with a smaller `limit`, or filter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// One result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VectorMatch {
    /// Its id, for `vector_delete`.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Cosine of the angle between its vector and the query's: 1 is the same direction, 0 unrelated, -1 opposite.
    pub score: f64,
    /// Its metadata.
    pub metadata: BTreeMap<String, Value>,
    /// Name of the member that stored it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_by: Option<String>,
    /// Id of that member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_by_id: Option<MemberId>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_at: Option<Timestamp>,
}

/// Deletes a vector. Whoever stored it and the mesh's owner and admins may. A collection ends with its last vector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VectorDelete {
    /// Name of the collection.
    #[schemars(length(min = 1, max = 64))]
    pub collection: String,
    /// The whole id of the vector.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
}

/// The vector is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VectorDeleted {
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub ack: Ack,
}

/// Lists the mesh's vector collections, and says whether the broker makes vectors from texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListCollections {}

/// The collections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollectionList {
    /// Their names, sorted.
    pub collections: Vec<String>,
    /// The same with what is known of them.
    #[serde(default)]
    pub details: Vec<VectorCollection>,
    /// What makes vectors from texts. Absent: every call has to bring its `vector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedder: Option<EmbedderInfo>,
}

/// One collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VectorCollection {
    /// Its name.
    pub name: String,
    /// Length of its vectors.
    pub dimensions: u32,
    /// How many vectors the caller can find in it.
    pub vectors: u64,
}

/// The model that makes vectors from texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EmbedderInfo {
    /// Name of the model.
    pub model: String,
    /// Length of its vectors.
    pub dimensions: u32,
}
