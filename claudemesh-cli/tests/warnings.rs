//! What a dishonest broker does reaches the person: on standard error of a command, and with the next result of a tool.
#![allow(missing_docs, clippy::unwrap_used)]

mod mcp_kit;

use claudemesh_client::flows::{InviteOptions, create_invite, create_mesh, join};
use claudemesh_client::{Identity, MeshClient};
use claudemesh_crypto::SecretKey;
use mcp_kit::raw::Raw;
use mcp_kit::{Hub, PATIENCE, Person};
use serde_json::{Value, json};
use std::process::Output;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

const TOLD: &str = "the broker names another owner of this mesh than your invite link does";

/// Ben's invite named another owner than the broker does.
async fn betrayed() -> (Hub, Person) {
    let (hub, ben) = (Hub::start().await, Person::new("ben"));
    let created = create_mesh(&hub.url(), "Team", Some("ana")).await.unwrap();
    let ana = MeshClient::connect(created.identity).await.unwrap();
    let invite = create_invite(&ana, InviteOptions::default()).await.unwrap();
    let joined = join(&invite.link, "ben", None).await.unwrap();
    ben.remember(&Identity {
        owner_pubkey: Some(SecretKey::generate().public()),
        ..joined.identity
    });
    ana.close().await;
    (hub, ben)
}

async fn run(person: &Person, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claudemesh"));
    command
        .args(words)
        .env_clear()
        .env("HOME", person.path(""))
        .env("CLAUDEMESH_CONFIG_DIR", person.dir());
    timeout(PATIENCE, command.output()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_tells_it_beside_its_result() {
    let (_hub, ben) = betrayed().await;
    for words in [["peers", "--json"], ["verify", "--json"]] {
        let output = run(&ben, &words).await;
        let (out, err) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        assert!(output.status.success(), "{words:?}: {err}");
        let warnings: Vec<_> = err.lines().filter(|line| line.contains(TOLD)).collect();
        assert_eq!(warnings.len(), 1, "once: {err}");
        assert!(warnings[0].starts_with("warning: "), "{err}");
        serde_json::from_str::<Value>(&out).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_result_of_a_tool_tells_it_once() {
    let (_hub, ben) = betrayed().await;
    let mut server = Raw::start(&ben);
    server.initialize("2025-11-25").await;
    let deadline = Instant::now() + PATIENCE;
    let mut told = Vec::new();
    let mut number = 0;
    // Which result is the next is not known; that there is only one with it is.
    let mut after = 0;
    while after < 3 {
        assert!(Instant::now() < deadline, "nothing was told");
        number += 1;
        let call = json!({ "name": "list_peers", "arguments": {} });
        let result = server.ask(json!(number), "tools/call", call).await["result"].clone();
        after += usize::from(!told.is_empty());
        let Some(warnings) = result["structuredContent"]["_pending_warnings"].as_array() else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        assert!(
            result["content"].to_string().contains(TOLD),
            "the text has it too: {result}"
        );
        told.extend(warnings.iter().map(|warning| warning.as_str().unwrap().to_owned()));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("[claudemesh warning, tell your user: mesh team: "),
        "{told:?}"
    );
    assert!(told[0].contains(TOLD), "{told:?}");
    server.close_stdin();
    assert_eq!(server.exit().await, 0);
}
