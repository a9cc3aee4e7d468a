//! Graphs in files, served by threads of the broker.
#![allow(clippy::unwrap_used)]

mod graph_suite;

use claudemesh_broker::backends::graph::embedded::GraphFiles;
use graph_suite::Lab;
use std::sync::Arc;

async fn lab() -> Lab {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("graph");
    Lab {
        engine: "threads",
        open: Box::new(move |limits| Arc::new(GraphFiles::new(&path, limits).unwrap())),
        directory: Some(directory),
    }
}

graph_suite::suite!([] lab);
