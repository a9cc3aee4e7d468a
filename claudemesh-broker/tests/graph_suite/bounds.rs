//! Bounds, turns, and meshes beside each other.

use super::{Graph, Lab, PATIENCE, patient, records};
use claudemesh_broker::backends::graph::{GraphError, GraphLimits};
use claudemesh_proto::model::MeshId;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

pub async fn results_are_bounded(lab: &Lab) {
    let graph = lab.graph();
    let all = graph.query("UNWIND range(1, 1000) AS n RETURN n").await;
    assert_eq!((all.records.len(), all.truncated), (1000, false));
    let more = graph.query("UNWIND range(1, 3000) AS n RETURN n").await;
    assert_eq!((more.records.len(), more.truncated), (1000, true));
    let long = "x".repeat(60_000);
    let wide = graph
        .try_query(
            "UNWIND range(1, 100) AS n RETURN $long AS long",
            json!({ "long": long }),
        )
        .await
        .unwrap();
    assert!(
        wide.truncated && (10..20).contains(&wide.records.len()),
        "{}",
        wide.records.len()
    );
    let huge = "x".repeat(1_100_000);
    let error = graph
        .try_query("RETURN $huge AS huge", json!({ "huge": huge }))
        .await
        .unwrap_err();
    assert!(matches!(error, GraphError::TooLarge(_)), "{error:?}");
    // A change stands even if its records have no place.
    let made = graph
        .try_execute("CREATE (t:T) RETURN $huge AS huge", json!({ "huge": huge }))
        .await
        .unwrap();
    assert!(made.truncated && made.records.is_empty());
    let made = graph
        .execute("UNWIND range(1, 1500) AS n CREATE (t:T {n: n}) RETURN n")
        .await;
    assert!(made.truncated && made.records.len() == 1000);
    assert_eq!(graph.count().await, 1501);
}

pub async fn a_graph_has_a_limit(lab: &Lab) {
    let limits = GraphLimits {
        quota: 2 * 1024 * 1024,
        elements: 100,
        ..patient()
    };
    let graph = lab.mesh((lab.open)(limits));
    graph.execute("CREATE (:T {a: 'kept'})").await;
    let fill = "UNWIND range(1, 200) AS n CREATE (:T {n: n, text: $text})";
    let error = graph
        .try_execute(fill, json!({ "text": "y".repeat(20_000) }))
        .await
        .unwrap_err();
    assert!(matches!(error, GraphError::Full(_)), "{error:?}");
    assert_eq!(graph.count().await, 1, "nothing of it was kept");
    // There is room for others, and for deleting.
    graph.neighbour().execute("CREATE (:T)").await;
    graph.execute("MATCH (t:T) DELETE t").await;
    graph.execute("UNWIND range(1, 50) AS n CREATE (:T {n: n})").await;
}

pub async fn what_runs_away_is_stopped_and_others_go_on(lab: &Lab) {
    let limits = GraphLimits {
        time: Duration::from_secs(3),
        ..GraphLimits::default()
    };
    let store = (lab.open)(limits);
    let graph = lab.mesh(store);
    // Made with the time that a busy machine needs.
    let patient = Graph {
        store: (lab.open)(patient()),
        mesh: graph.mesh.clone(),
    };
    patient.execute("UNWIND range(1, 60) AS n CREATE (:N {n: n})").await;
    patient
        .execute("MATCH (a:N), (b:N) WHERE a.n < b.n CREATE (a)-[:R]->(b)")
        .await;
    patient.store.close().await;
    let forever = [
        (
            "UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b RETURN count(*) AS n",
            false,
        ),
        (
            "MATCH (a)-[:R]->(b)-[:R]->(c)-[:R]->(d)-[:R]->(e)-[:R]->(f)-[:R]->(g)-[:R]->(h) RETURN count(*) AS n",
            false,
        ),
        (
            "UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b CREATE (:M {a: a})",
            true,
        ),
    ];
    for (number, (text, writes)) in forever.into_iter().enumerate() {
        if number == 0 && lab.engine == "threads" {
            // A thread that touches no file cannot be stopped: it would go on beside the other tests.
            continue;
        }
        let running = graph.clone();
        let running = tokio::spawn(async move {
            match writes {
                true => running.try_execute(text, json!({})).await,
                false => running.try_query(text, json!({})).await,
            }
        });
        // Others of the same mesh and of others.
        let neighbour = graph.neighbour();
        if lab.engine == "neo4j" {
            assert_eq!(graph.value_soon("RETURN 1 AS a").await, 1);
            assert_eq!(neighbour.value_soon("MATCH (n:X) RETURN count(n) AS n").await, 0);
        } else {
            assert_eq!(graph.value("RETURN 1 AS a").await, 1);
            neighbour.execute("CREATE (:X)").await;
        }
        let error = timeout(PATIENCE, running).await.unwrap().unwrap().unwrap_err();
        assert!(
            matches!(
                error,
                GraphError::Timeout(_) | GraphError::TooLarge(_) | GraphError::Full(_)
            ),
            "{text}: {error:?}"
        );
    }
    assert_eq!(graph.value_soon("MATCH (n:M) RETURN count(n) AS n").await, 0);
    if lab.engine != "threads" {
        graph.execute("MATCH (n:N {n: 1}) SET n.n = 0").await;
    }
}

pub async fn writers_take_turns(lab: &Lab) {
    let graph = lab.graph();
    graph.execute("CREATE (:Counter {n: 0})").await;
    let adding = (0..4).map(|_| {
        let graph = graph.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                graph.execute("MATCH (c:Counter) SET c.n = c.n + 1").await;
            }
        })
    });
    for adding in adding.collect::<Vec<_>>() {
        timeout(PATIENCE, adding).await.unwrap().unwrap();
    }
    assert_eq!(graph.value("MATCH (c:Counter) RETURN c.n AS n").await, 40);
}

pub async fn defect_038_sub_e_13_meshes_are_apart_and_graphs_are_kept(lab: &Lab) {
    let limits = GraphLimits { open: 2, ..patient() };
    let store = (lab.open)(limits);
    let graphs: Vec<_> = (0..4).map(|_| lab.mesh(store.clone())).collect();
    // Ids that differ in case only, and one that is no file name.
    let id = claudemesh_crypto::random_id();
    let odd = [
        id.to_uppercase(),
        id.to_lowercase(),
        format!("../{id}"),
        format!("{id}` {{x: 1}}"),
    ];
    let odd = odd.into_iter().map(|id| Graph {
        store: store.clone(),
        mesh: MeshId::from(id),
    });
    let graphs: Vec<_> = graphs.into_iter().chain(odd).collect();
    for (number, graph) in graphs.iter().enumerate() {
        graph
            .try_execute("CREATE (:T {number: $number})", json!({ "number": number }))
            .await
            .unwrap();
    }
    store.close().await;
    assert!(
        graphs[0].try_query("RETURN 1 AS a", json!({})).await.is_err(),
        "it is closed"
    );
    let store = (lab.open)(limits);
    for (number, graph) in graphs.iter().enumerate() {
        let graph = Graph {
            store: store.clone(),
            mesh: graph.mesh.clone(),
        };
        assert_eq!(
            records(&graph.query("MATCH (n) RETURN n.number AS n").await),
            json!([{ "n": number }])
        );
        store.sweep();
    }
}
