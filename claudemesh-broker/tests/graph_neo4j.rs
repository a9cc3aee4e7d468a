//! Graphs on a Neo4j server. They need `CLAUDEMESH_TEST_NEO4J_URL` (`bolt://…`, with `…_USER` and `…_PASSWORD` if it asks for them)
//! and run with `--include-ignored`.
#![cfg(feature = "neo4j")]
#![allow(clippy::unwrap_used)]

mod graph_suite;

use claudemesh_broker::backends::graph::neo4j::Neo4jGraphs;
use claudemesh_broker::config::{Neo4jSettings, Secret};
use graph_suite::Lab;
use std::sync::Arc;

async fn lab() -> Lab {
    let variable = |name: &str| std::env::var(format!("CLAUDEMESH_TEST_NEO4J_{name}")).ok();
    let url = variable("URL").expect("set CLAUDEMESH_TEST_NEO4J_URL to the address of a Neo4j server");
    let settings = Neo4jSettings {
        url: url.parse().unwrap(),
        user: variable("USER").unwrap_or_else(|| "neo4j".to_owned()),
        password: variable("PASSWORD").map(Secret::from),
    };
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_claudemesh-broker"));
    Lab {
        engine: "neo4j",
        open: Box::new(move |limits| Arc::new(Neo4jGraphs::new(settings.clone(), limits).served_by(program))),
        directory: None,
    }
}

graph_suite::suite!([ignore = "set CLAUDEMESH_TEST_NEO4J_URL to run on Neo4j"] lab);
