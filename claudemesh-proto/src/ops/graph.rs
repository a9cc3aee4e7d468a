//! The mesh's graph: nodes and relationships, asked and changed with Cypher.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Reads from the mesh's graph with one Cypher query: MATCH … RETURN. Nothing can be changed with it. Gives at most 1,000 records
/// or 1 MiB; use WHERE and LIMIT.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GraphQuery {
    /// One Cypher query, such as `MATCH (s:Service)-[:USES]->(d) WHERE s.name = $name RETURN d.name AS uses`.
    #[schemars(length(min = 1, max = 65_536))]
    pub cypher: String,
    /// Values for the parameters `$name` of the query. Use them for every value that is not your own text.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub params: Map<String, Value>,
}

/// Changes the mesh's graph with one Cypher statement: CREATE, MERGE, SET, REMOVE, DELETE, after MATCH, WITH or UNWIND. RETURN gives
/// records. All members work on the same graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GraphExecute {
    /// One Cypher statement, such as `MERGE (s:Service {name: $name}) SET s.owner = $owner`.
    #[schemars(length(min = 1, max = 65_536))]
    pub cypher: String,
    /// Values for the parameters `$name` of the statement. Use them for every value that is not your own text.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub params: Map<String, Value>,
}

/// Records of the mesh's graph.
///
/// | value | JSON |
/// |---|---|
/// | null, truth values, texts, numbers, lists, maps | as they are |
/// | integers above 2^53 | `{"$bigint": "9223372036854775807"}` |
/// | a number that is none, an infinite one | `"NaN"`, `"Infinity"`, `"-Infinity"` |
/// | bytes | `{"$base64": "…"}` |
/// | dates, times, durations | text: `"2026-01-31"`, `"P1DT2H"` |
/// | a point | `{"srid", "x", "y", "z"}` |
/// | a node | `{"id", "labels", "properties"}` |
/// | a relationship | `{"id", "type", "start", "end", "properties"}`; `start` and `end` are ids of nodes |
/// | a path | `{"nodes", "relationships"}` |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphResult {
    /// One object per record, by the names of RETURN.
    pub records: Vec<Map<String, Value>>,
    /// The names of RETURN in their order; empty if there is no record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Whether there are more records than are shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}
