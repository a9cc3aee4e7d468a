//! Memory, contexts, vectors and tasks from the command line, between two people.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Person, Running, up};
use serde_json::json;

/// Kai runs the broker and owns the mesh; Ana has joined it.
fn two_people() -> (Person, Person, Running) {
    let kai = Person::new();
    let (up, ready) = up(&kai, &["--name", "kai", "--mesh-name", "Team One"]);
    let ana = Person::new();
    ana.json(&["join", ready["invite"]["url"].as_str().unwrap(), "--name", "ana"]);
    (kai, ana, up)
}

#[test]
fn defect_056_cli_08_23_memory() {
    let (kai, ana, _up) = two_people();
    let stored = kai.json(&["remember", "Deploys", "go", "out", "from", "main", "--tags", "ops, ci,"]);
    assert_eq!(
        (&stored["content"], &stored["tags"]),
        (&json!("Deploys go out from main"), &json!(["ops", "ci"]))
    );
    let found = ana.json(&["recall", "how", "to", "deploy", "--tags", "OPS"]);
    assert_eq!(
        (
            &found[0]["id"],
            &found[0]["rememberedBy"],
            found.as_array().unwrap().len()
        ),
        (&stored["id"], &json!("kai"), 1)
    );
    let id = stored["id"].as_str().unwrap();
    let shown = ana.run(&["recall", "deploy"]).stdout;
    assert!(
        shown.contains("**Deploys** go out from main") && shown.contains(id),
        "{shown}"
    );
    assert_eq!(ana.json(&["recall"]).as_array().unwrap().len(), 1, "the newest");
    assert_eq!(ana.json(&["recall", "zebra crossing"]), json!([]));
    assert_eq!(ana.run(&["forget", id]).code, 7, "it is kai's");
    assert_eq!(kai.json(&["forget", id])["forgotten"], true);
    assert_eq!(kai.run(&["forget", "nothing"]).code, 5);
    assert_eq!(ana.json(&["recall", "deploy"]), json!([]));
}

#[test]
fn contexts() {
    let (kai, ana, _up) = two_people();
    kai.json(&[
        "context",
        "share",
        "tokens expire",
        "--topic",
        "auth",
        "--files",
        "src/auth.rs",
    ]);
    assert_eq!(
        ana.json(&["context", "get", "src/auth.rs"])["contexts"][0]["topic"],
        "auth"
    );
    assert_eq!(ana.json(&["context", "list"])["contexts"][0]["peerName"], "kai");
    assert!(ana.run(&["context", "list"]).stdout.contains("tokens expire"));
}

#[test]
fn cli_23_33_vectors() {
    let (kai, ana, _up) = two_people();
    let listed = kai.run(&["vector", "collections"]).stdout;
    assert!(listed.contains("no embedder"), "{listed}");
    assert_eq!(kai.json(&["vector", "collections"])["collections"], json!([]));
    let refused = kai.run(&["vector", "store", "docs", "no", "vector"]);
    assert!(
        refused.code == 3 && refused.stderr.contains("EMBEDDINGS_URL"),
        "{}",
        refused.stderr
    );
    let up = [
        "vector",
        "store",
        "docs",
        "straight",
        "up",
        "--vector",
        "[0, 2]",
        "--metadata",
        "lang=en",
    ];
    let stored = kai.json(&up);
    assert_eq!((&stored["replaced"], &stored["dimensions"]), (&json!(false), &json!(2)));
    let id = stored["id"].as_str().unwrap();
    let again = [&up[..], &["--id", id]].concat();
    assert_eq!(kai.json(&again)["replaced"], true);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[1.5, 0]").unwrap();
    let path = format!("@{}", file.path().display());
    kai.json(&["vector", "store", "docs", "right", "--vector", &path]);

    let found = ana.json(&["vector", "search", "docs", "--vector", "[1, 9]", "--limit", "1"]);
    assert_eq!(
        (&found["results"][0]["text"], &found["results"][0]["storedBy"]),
        (&json!("straight up"), &json!("kai"))
    );
    let shown = ana.run(&["vector", "search", "docs", "--vector", "[-1, 0]"]).stdout;
    assert!(
        shown.contains("-1.000 right") && shown.contains(id) && shown.contains("lang"),
        "{shown}"
    );
    let filtered = ana.json(&["vector", "search", "docs", "--vector", "[1, 0]", "--filter", "lang=en"]);
    assert_eq!(filtered["results"].as_array().unwrap().len(), 1);
    let listed = ana.json(&["vector", "collections"]);
    assert_eq!(
        listed["details"],
        json!([{ "name": "docs", "dimensions": 2, "vectors": 2 }])
    );
    assert!(ana.run(&["info"]).stdout.contains("docs"));

    assert_eq!(ana.run(&["vector", "delete", "docs", id]).code, 7, "it is kai's");
    assert_eq!(ana.run(&["vector", "search", "dosc", "--vector", "[1, 0]"]).code, 5);
    assert_eq!(ana.run(&["vector", "store", "docs", "x", "--vector", "[1"]).code, 3);
    assert_eq!(
        ana.run(&["vector", "store", "docs", "x", "--vector", "[1, 2, 3]"]).code,
        3
    );
    assert_eq!(kai.json(&["vector", "delete", "docs", id])["id"], id);
    assert_eq!(kai.run(&["vector", "delete", "docs", id]).code, 5, "it is gone");
}

#[test]
fn the_graph() {
    let (kai, ana, _up) = two_people();
    let merge = "MERGE (a:Service {name: $a}) MERGE (b:Service {name: $b}) MERGE (a)-[:USES]->(b)";
    let run = kai.run(&["graph", "execute", merge, "a=api", "b=db"]);
    assert_eq!((run.code, run.stdout.trim()), (0, "done"), "{run:?}");
    let uses = "MATCH (a:Service {name: $a})-[:USES]->(b) RETURN a.name AS service, b.name AS uses";
    assert_eq!(
        ana.json(&["graph", "query", uses, r#"{"a": "api"}"#]),
        json!({ "records": [{ "service": "api", "uses": "db" }], "columns": ["service", "uses"] })
    );
    let shown = ana.run(&["graph", "query", uses, "a=api"]).stdout;
    assert_eq!(shown, "service  uses\napi      db\n");
    assert_eq!(ana.run(&["graph", "query", "CREATE (:X)"]).code, 7, "it only reads");
    let run = ana.run(&["graph", "query", "MATCH (n RETURN n"]);
    assert!(run.code == 3 && run.stderr.contains("line 1, column 10"), "{run:?}");
    assert_eq!(ana.run(&["graph", "query", "RETURN 1 AS a", "[1]"]).code, 3);
    // The query's process is ended, and the graph is as it was.
    let forever = "UNWIND range(1, 1000000) AS a UNWIND range(1, 1000000) AS b RETURN count(*) AS n";
    assert_eq!(ana.run(&["graph", "query", forever]).code, 4);
    let memory = "RETURN size(replace($text, 'x', $text)) AS n";
    let text = format!("text={}", "x".repeat(60_000));
    let run = ana.run(&["graph", "query", memory, &text]);
    assert!(run.code == 3 && run.stderr.contains("memory"), "{run:?}");
    assert_eq!(ana.json(&["graph", "query", uses, "a=api"])["records"][0]["uses"], "db");
}

#[test]
fn cli_23_tasks() {
    let (kai, ana, up) = two_people();
    let task = kai.json(&[
        "task",
        "create",
        "review",
        "the",
        "API",
        "--assignee",
        "ana",
        "--priority",
        "high",
    ]);
    let id = task["id"].as_str().unwrap();
    let listed = ana.run(&["task", "list", "--status", "open"]).stdout;
    assert!(
        listed.contains(id) && listed.contains("for ana") && listed.contains("review the API"),
        "{listed}"
    );
    assert_eq!(ana.json(&["task", "claim", id])["task"]["claimedBy"], "ana");
    assert_eq!(ana.json(&["task", "claim", id])["task"]["status"], "claimed", "again");
    assert_eq!(kai.run(&["task", "claim", id]).code, 6, "it is ana's");
    assert_eq!(
        ana.json(&["task", "done", id, "--result", "fine"])["task"]["result"],
        "fine"
    );
    assert_eq!(
        kai.json(&["task", "list", "--status", "completed"])["tasks"][0]["id"],
        id
    );
    assert_eq!(kai.run(&["task", "cancel", id]).code, 6, "it is done");
    up.wait_for("the end of the task", |line| line["event"] == "task_completed");
}
