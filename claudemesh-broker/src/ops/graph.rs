//! The mesh's graph.

use claudemesh_proto::ErrorFrame;
use claudemesh_proto::ops::{GraphExecute, GraphQuery, GraphResult};
use serde_json::json;

use crate::Broker;
use crate::backends::graph::Cypher;
use crate::context::{Context, Handle};

impl Handle<GraphQuery> for Broker {
    async fn handle(cx: Context, request: GraphQuery) -> Result<GraphResult, ErrorFrame> {
        let GraphQuery { cypher: text, params } = request;
        let done = cx.broker.graph.query(cx.session.mesh_id(), Cypher { text, params });
        done.await.map_err(|error| error.to_frame())
    }
}

impl Handle<GraphExecute> for Broker {
    async fn handle(cx: Context, request: GraphExecute) -> Result<GraphResult, ErrorFrame> {
        let GraphExecute { cypher: text, params } = request;
        let clause = first_word(&text);
        let done = cx.broker.graph.execute(cx.session.mesh_id(), Cypher { text, params });
        let result = done.await.map_err(|error| error.to_frame())?;
        // Metadata only: the statement may hold anything, and the log is for ever.
        let payload = json!({ "clause": clause, "records": result.records.len() });
        cx.record(cx.audit_event::<GraphExecute>(payload)).await?;
        Ok(result)
    }
}

/// The clause that the statement starts with.
fn first_word(text: &str) -> &'static str {
    const KNOWN: [&str; 9] = [
        "CREATE", "MERGE", "MATCH", "OPTIONAL", "UNWIND", "WITH", "CALL", "RETURN", "FOREACH",
    ];
    let word = text.split_ascii_whitespace().next().unwrap_or_default();
    let word = word.split('(').next().unwrap_or_default();
    let known = KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(word));
    known.unwrap_or("other")
}
