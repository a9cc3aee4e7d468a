//! The mesh's graph.

use super::enrolment::{patch, permissions};
use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::Permissions;
use claudemesh_client::proto::ops::{AuditQuery, GraphExecute, GraphQuery, GraphResult, RemoveMember};
use claudemesh_client::{ClientError, MeshClient};
use serde_json::{Map, Value, json};
use std::time::Duration;

fn params(params: Value) -> Map<String, Value> {
    params.as_object().cloned().unwrap_or_default()
}

async fn query(client: &MeshClient, cypher: &str) -> Result<GraphResult, ClientError> {
    let (cypher, params) = (cypher.to_owned(), Map::new());
    client.request(GraphQuery { cypher, params }).await
}

async fn execute(client: &MeshClient, cypher: &str, given: Value) -> Result<GraphResult, ClientError> {
    let (cypher, params) = (cypher.to_owned(), params(given));
    client.request(GraphExecute { cypher, params }).await
}

pub async fn members_share_a_graph_and_see_no_other(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    assert_eq!(query(&ana, "MATCH (n) RETURN n").await.unwrap(), GraphResult::default());
    let merge = "MERGE (a:Service {name: $a}) MERGE (b:Service {name: $b}) MERGE (a)-[r:USES]->(b) SET r.since = $since";
    execute(&ana, merge, json!({ "a": "api", "b": "it's a db", "since": 2026 })).await.unwrap();
    let tool = json!({ "cypher": "MATCH p = (a {name: $a})-[r]->(b) RETURN a, r, b.name AS name, p", "params": { "a": "api" } });
    let found = cara.call_tool("graph_query", tool).await.unwrap();
    assert_eq!(found["columns"], json!(["a", "r", "name", "p"]));
    let record = &found["records"][0];
    let (a, r) = (&record["a"], &record["r"]);
    assert_eq!(
        (&a["labels"], &a["properties"], &record["name"]),
        (&json!(["Service"]), &json!({ "name": "api" }), &json!("it's a db"))
    );
    assert_eq!(
        (&r["type"], &r["start"], &r["properties"]),
        (&json!("USES"), &a["id"], &json!({ "since": 2026 }))
    );
    let path = &record["p"];
    assert_eq!((&path["nodes"][0], &path["relationships"][0]), (a, r));
    // Both at once, without losing anything.
    let add = |client: &MeshClient, from: u32| {
        let client = client.clone();
        tokio::spawn(async move {
            for number in from..from + 20 {
                execute(&client, "CREATE (:Build {number: $number})", json!({ "number": number })).await.unwrap();
            }
        })
    };
    let (one, two) = (add(&ana, 100), add(&ben, 200));
    within("the nodes", one).await.unwrap();
    within("the nodes", two).await.unwrap();
    lab.restart().await;
    let count = query(&cara, "MATCH (b:Build) RETURN count(b) AS n").await.unwrap();
    assert_eq!(count.records[0]["n"], 40);

    let olga = lab.mesh("Other", "olga").await;
    assert_eq!(query(&olga, "MATCH (n) RETURN n").await.unwrap(), GraphResult::default());
    execute(&olga, "MATCH (n) DETACH DELETE n", json!({})).await.unwrap();
    execute(&olga, "CREATE (:Build)", json!({})).await.unwrap();
    let count = query(&ana, "MATCH (b:Build) RETURN count(b) AS n").await.unwrap();
    assert_eq!(count.records[0]["n"], 40);
    lab.finish().await;
}

pub async fn defect_039_who_may_not_change_the_graph_cannot(database: Database) {
    let limits = |config: &mut claudemesh_broker::config::Config| {
        config.graph.limits.time = Duration::from_secs(5);
    };
    let (lab, Three { ana, ben, cara }) = Lab::with_three_and(database, limits).await;
    execute(&ana, "CREATE (:T {a: 1})", json!({})).await.unwrap();
    // Reading changes nothing, however it is said.
    for cypher in [
        "CREATE (:T)",
        "MATCH (t:T) SET t.a = 2",
        "MATCH (t:T) RETURN t.a AS a UNION CREATE (:T) RETURN 1 AS a",
        "MATCH (t:T) DETACH DELETE t",
        "MERGE (:T {a: 2})",
        "/* RETURN */ UNWIND [1] AS x CREATE (:T)",
    ] {
        let code = code(query(&ana, cypher).await);
        assert!(matches!(code, ErrorCode::Forbidden | ErrorCode::GraphError), "{cypher}: {code}");
    }
    assert_eq!(code(query(&ana, "CREATE (:T)").await), ErrorCode::Forbidden);
    assert_eq!(query(&ana, "MATCH (t:T) RETURN t.a AS a").await.unwrap().records.len(), 1);
    let (code_, field) = refusal(query(&ana, "MATCH (n RETURN n").await);
    assert_eq!((code_, field.as_deref()), (ErrorCode::GraphError, Some("/cypher")));
    let Err(ClientError::Refused(frame)) = query(&ana, "MATCH (n RETURN n").await else {
        panic!("it is no Cypher");
    };
    assert!(frame.message.contains("line 1, column 10"), "{}", frame.message);
    let bad = ana.call_tool("graph_query", json!({ "cypher": "RETURN $a", "params": { "a b": 1 } })).await;
    assert_eq!(code(bad), ErrorCode::GraphError);
    for cypher in [String::new(), "x".repeat(65_537)] {
        assert_eq!(code(query(&ana, &cypher).await), ErrorCode::InvalidRequest);
    }
    // What runs away holds up neither messages nor others.
    execute(&ana, "UNWIND range(1, 30) AS n CREATE (:N {n: n})", json!({})).await.unwrap();
    execute(&ana, "MATCH (a:N), (b:N) WHERE a.n < b.n CREATE (a)-[:R]->(b)", json!({})).await.unwrap();
    let forever = format!("MATCH (:N){} RETURN count(*) AS n", "-[:R]->(:N)".repeat(9));
    let running = tokio::spawn({
        let ana = ana.client.clone();
        async move { query(&ana, &forever).await }
    });
    let text = lab.text("meanwhile");
    ana.send_text("ben", &text, Default::default()).await.unwrap();
    assert_eq!(recv_text(&ben).await, text);
    assert_eq!(query(&ben, "MATCH (t:T) RETURN t.a AS a").await.unwrap().records.len(), 1);
    let ended = within("the end of the query", running).await.unwrap();
    let Err(ClientError::Refused(frame)) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!((frame.code, frame.retryable), (ErrorCode::Timeout, false));

    // Who may not write may read.
    let nothing = Permissions {
        can_write_state: Some(false),
        ..Permissions::default()
    };
    patch(&lab, &ana, &ben, permissions(nothing)).await.unwrap();
    assert_eq!(code(execute(&ben, "CREATE (:T)", json!({})).await), ErrorCode::Forbidden);
    assert_eq!(query(&ben, "MATCH (t:T) RETURN t.a AS a").await.unwrap().records.len(), 1);
    let member_id = cara.person.identity.member_id.clone();
    ana.request(RemoveMember { member_id }).await.unwrap();
    assert!(query(&cara, "MATCH (t:T) RETURN t.a AS a").await.is_err());
    // Only what was done is on record, without the statement.
    let audited = AuditQuery {
        event_type: Some("graph_changed".to_owned()),
        ..AuditQuery::default()
    };
    let entries = ana.request(audited).await.unwrap().entries;
    assert_eq!(entries.len(), 3);
    let clauses: std::collections::BTreeSet<_> = entries.iter().map(|entry| entry.payload.to_string()).collect();
    let expected = ["CREATE", "MATCH", "UNWIND"].map(|clause| json!({ "clause": clause, "records": 0 }).to_string());
    assert_eq!(clauses, expected.into());
    lab.finish().await;
}

pub async fn original_clients_use_the_graph_as_before(database: Database) {
    let (lab, Three { ana: _ana, ben, cara: _cara }) = Lab::with_three(database).await;
    let (mut old, _) = Socket::v1(&lab, &ben.person, None).await;
    old.send(&json!({ "type": "graph_execute", "cypher": "CREATE (n:T {a: 1}) RETURN n.a AS a" })).await;
    let done = old.next_of("graph_result").await;
    assert_eq!(done["records"], json!([{ "a": 1 }]));
    let (found, _) = old.ask(json!({ "type": "graph_query", "cypher": "MATCH (n:T) RETURN n.a AS a" })).await;
    assert_eq!((&found["type"], &found["records"]), (&json!("graph_result"), &json!([{ "a": 1 }])));
    let (refused, _) = old.ask(json!({ "type": "graph_query", "cypher": "MATCH" })).await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("graph_error")));
    lab.finish().await;
}
