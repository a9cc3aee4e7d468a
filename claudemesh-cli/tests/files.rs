//! Files on the command line and for agents.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;
mod mcp_kit;

use common::{Person, up};
use serde_json::json;
use std::fs;

#[test]
fn cli_23_people_share_files_on_the_command_line() {
    let kai = Person::new();
    let (_up, ready) = up(&kai, &["--name", "kai", "--mesh-name", "Team One"]);
    let link = ready["invite"]["url"].as_str().unwrap();
    let (ana, ben) = (Person::new(), Person::new());
    ana.json(&["join", link, "--name", "ana"]);
    ben.json(&["join", link, "--name", "ben"]);
    let path = |person: &Person, name: &str| person.home().join(name).to_str().unwrap().to_owned();
    let plan = path(&kai, "plan.txt");
    fs::write(&plan, "the plan").unwrap();

    let shared = kai.json(&["file", "share", &plan, "--to", "ana", "--tag", "q3"]);
    assert_eq!(
        (&shared["name"], &shared["recipients"]),
        (&json!("plan.txt"), &json!(1))
    );
    let id = shared["id"].as_str().unwrap();
    let listed = ana.json(&["file", "list", "PLAN"]);
    assert_eq!(
        (&listed["files"][0]["id"], &listed["files"][0]["size"]),
        (&json!(id), &json!(8))
    );
    let shown = ana.run(&["file", "ls"]);
    assert!(
        shown.stdout.contains(id) && shown.stdout.contains("#q3"),
        "whole ids, as other commands need them: {shown:?}"
    );
    let got = ana.json(&["file", "get", id, &path(&ana, "got/")]);
    assert_eq!((&got["authenticated"], &got["from"]), (&json!(true), &json!("kai")));
    assert_eq!(fs::read_to_string(path(&ana, "got/plan.txt")).unwrap(), "the plan");

    let denied = ben.run(&["file", "get", id, &path(&ben, "x"), "--json"]);
    assert_eq!(
        (denied.code, &denied.error()["error"]["code"]),
        (7, &json!("forbidden")),
        "{denied:?}"
    );
    assert_eq!(ana.run(&["file", "grant", id, "ben"]).code, 7, "she is not the owner");
    // Every command is a process of its own: the owner opens and grants after each.
    assert_eq!(kai.json(&["file", "grant", id, "ben"])["granted"], 1);
    assert_eq!(ben.run(&["file", "get", id, &path(&ben, "x")]).code, 0);
    assert_eq!(
        ben.run(&["file", "get", id, &path(&ben, "x")]).code,
        6,
        "nothing is replaced"
    );
    assert_eq!(ben.run(&["file", "get", id, &path(&ben, "x"), "--overwrite"]).code, 0);
    let status = kai.json(&["file", "status", id]);
    let names: Vec<_> = status["accesses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|access| &access["peerName"])
        .collect();
    assert_eq!(names, ["ben", "ana"]);
    assert_eq!(ben.run(&["file", "delete", id]).code, 7);
    kai.json(&["file", "delete", id]);
    assert_eq!(ana.run(&["file", "status", id]).code, 5);
    assert_eq!(kai.run(&["file", "share", "/nowhere"]).code, 3);
    // A tool that agents have does the same.
    let shared = kai.json(&["tool", "share_file", &format!("path={plan}")]);
    assert_eq!(shared["recipients"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_share_files_and_are_told_how_far_they_are() {
    let (hub, ana, ben) = mcp_kit::ana_and_ben().await;
    fs::create_dir(ben.path("shared")).unwrap();
    fs::write(ben.path("shared/notes.md"), "ben's notes <system-reminder>").unwrap();
    fs::write(ben.path("shared/.env"), "KEY=1").unwrap();
    let shared = ben.path("shared").to_str().unwrap().to_owned();
    let ben = ben.with_word("--share").with_word(&shared);
    let (mut ana_host, ben_host) = (ana.host().await, ben.host().await);
    fs::write(ana.path("big"), vec![7; 20_000_000]).unwrap();
    let file = ana_host
        .get("share_file", json!({ "path": ana.path("big"), "to": "ben" }))
        .await;
    let mut notices = Vec::new();
    while let Ok(notice) = ana_host.progress.try_recv() {
        notices.push(notice);
    }
    let sealed = notices.first().and_then(|notice| notice.1).unwrap_or_default();
    assert!(
        sealed > 20_000_000.0 && notices.iter().all(|(done, _)| *done <= sealed),
        "{notices:?}"
    );
    let got = ben_host
        .get("get_file", json!({ "id": file["id"], "save_to": ben.path("big") }))
        .await;
    assert_eq!(
        (&got["size"], &got["authenticated"]),
        (&json!(20_000_000), &json!(true))
    );
    assert!(fs::read(ben.path("big")).unwrap() == vec![7; 20_000_000]);

    let text = ana_host
        .fail("read_peer_file", json!({ "peer": "ben", "path": "notes.md" }))
        .await;
    assert!(text.contains("grant") && text.contains("file-read"), "{text}");
    let grant = tokio::process::Command::new(env!("CARGO_BIN_EXE_claudemesh"))
        .args(["grant", "ana", "file-read"])
        .env_clear()
        .env("HOME", ben.path(""))
        .env("CLAUDEMESH_CONFIG_DIR", ben.dir())
        .output();
    assert!(grant.await.unwrap().status.success());
    let names = ana_host.get("list_peer_files", json!({ "peer": "ben" })).await;
    assert_eq!(names["entries"], json!(["notes.md"]));
    let notes = ana_host
        .get("read_peer_file", json!({ "peer": "ben", "path": "notes.md" }))
        .await;
    assert_eq!(
        notes["text"], "ben's notes <\\system-reminder>",
        "tags of the host are broken"
    );
    let text = ana_host
        .fail("read_peer_file", json!({ "peer": "ben", "path": ".env" }))
        .await;
    assert!(text.contains("not shared"), "{text}");
    // Ana shares nothing.
    let text = ben_host.fail("list_peer_files", json!({ "peer": "ana" })).await;
    assert!(text.contains("file-read"), "{text}");
    ana_host.end().await;
    ben_host.end().await;
    drop(hub);
}

#[tokio::test]
async fn what_cannot_be_shared_is_said_at_once() {
    let (_hub, ana, _ben) = mcp_kit::ana_and_ben().await;
    let ana = ana.with_word("--share").with_word("/no/such/directory");
    let output = ana.command().output().await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/directory"));
}
