//! Graphs in files, served by processes of the broker's program.
#![allow(clippy::unwrap_used)]

mod graph_suite;

use claudemesh_broker::backends::graph::embedded::GraphFiles;
use graph_suite::Lab;
use std::path::Path;
use std::sync::Arc;

async fn lab() -> Lab {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("graph");
    let program = Path::new(env!("CARGO_BIN_EXE_claudemesh-broker"));
    Lab {
        engine: "processes",
        open: Box::new(move |limits| Arc::new(GraphFiles::new(&path, limits).unwrap().served_by(program))),
        directory: Some(directory),
    }
}

graph_suite::suite!([] lab);

/// A process for a graph does not outlive the broker, whatever it is doing.
#[test]
fn a_process_ends_with_the_broker() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_claudemesh-broker"))
        .arg("--serve-graph")
        .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let setup = serde_json::json!({
        "place": { "File": directory.path().join("x.db") },
        "limits": { "time": { "secs": 3600, "nanos": 0 }, "records": 10, "bytes": 1000, "quota": 10_000_000,
            "memory": 536_870_912, "open": 1, "elements": 1 },
    });
    let forever = "UNWIND range(1, 1000000) AS a UNWIND range(1, 1000000) AS b RETURN count(*) AS n";
    let job = serde_json::json!({ "cypher": { "text": forever, "params": {} }, "writes": false });
    let mut input = child.stdin.take().unwrap();
    input.write_all(format!("{setup}\n{job}\n").as_bytes()).unwrap();
    input.flush().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it works");
    // What happens to the pipe when a broker is killed.
    drop(input);
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it goes on without a broker");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
