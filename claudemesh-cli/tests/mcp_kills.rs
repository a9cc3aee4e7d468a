//! The server is killed: what it had and did not show is shown by the next one, once.
#![allow(clippy::unwrap_used)]
mod mcp_kit;

use mcp_kit::raw::Raw;
use mcp_kit::{Host, PATIENCE, Person, ana_and_ben};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

async fn start(person: &Person) -> Raw {
    let mut raw = Raw::start(person);
    raw.initialize("2025-11-25").await;
    raw
}

async fn call(raw: &mut Raw, id: u64, tool: &str) -> Value {
    let answer = raw
        .ask(json!(id), "tools/call", json!({ "name": tool, "arguments": {} }))
        .await;
    answer["result"]["structuredContent"].clone()
}

/// SIGKILL.
async fn kill(mut raw: Raw) {
    raw.child.kill().await.unwrap();
}

/// Reads until a message is notified; gives its text.
async fn notified(raw: &mut Raw) -> String {
    loop {
        let line = raw.line().await.expect("the server ended");
        if line["params"]["meta"]["kind"] == "direct" {
            return line["params"]["content"].as_str().unwrap().to_owned();
        }
    }
}

fn notifications(raw: &Raw) -> usize {
    raw.seen
        .iter()
        .filter(|line| line["params"]["meta"]["kind"] == "direct")
        .count()
}

/// Sends to Ben's only session and waits until it has it.
async fn send(sender: &Host, text: &str) -> String {
    let id = sender.send("ben", text, "now").await;
    sender.until(&id, "delivered").await;
    id
}

#[tokio::test]
async fn a_message_that_was_not_shown_is_shown_after_a_kill_once() {
    let (_hub, ana, ben) = ana_and_ben().await;
    let sender = ana.host().await;
    let mut first = start(&ben).await;
    call(&mut first, 1, "list_peers").await;
    let id = send(&sender, "are you there?").await;
    // It went out as a notification, but this host does not show those.
    assert_eq!(notified(&mut first).await, "[URGENT] ana: are you there?");
    kill(first).await;

    let mut second = start(&ben).await;
    assert_eq!(notified(&mut second).await, "[URGENT] ana: are you there?");
    let result = call(&mut second, 1, "list_peers").await;
    assert_eq!(result["_pending_messages"][0]["messageId"], json!(id), "{result}");
    assert_eq!(result["_pending_messages"].as_array().unwrap().len(), 1);
    sender.until(&id, "surfaced").await;
    second.ask(json!(2), "ping", json!({})).await;
    kill(second).await;

    let mut third = start(&ben).await;
    let result = call(&mut third, 1, "list_peers").await;
    assert!(result.get("_pending_messages").is_none(), "{result}");
    let read = call(&mut third, 2, "check_messages").await;
    assert_eq!(read["messages"], json!([]));
    assert_eq!(notifications(&third), 0);
    // A new message comes as always.
    send(&sender, "still there?").await;
    assert_eq!(notified(&mut third).await, "[URGENT] ana: still there?");
    kill(third).await;
    sender.end().await;
}

#[tokio::test]
async fn what_check_messages_brought_is_not_brought_again() {
    let (_hub, ana, ben) = ana_and_ben().await;
    let sender = ana.host().await;
    let mut first = start(&ben).await;
    call(&mut first, 1, "list_peers").await;
    let waiting = send(&sender, "one").await;
    notified(&mut first).await;
    kill(first).await;
    let low = sender.send("ben", "two", "low").await;

    let mut second = start(&ben).await;
    notified(&mut second).await;
    let read = call(&mut second, 1, "check_messages").await;
    let ids: Vec<_> = read["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["messageId"].clone())
        .collect();
    assert_eq!(ids, [json!(waiting), json!(low)], "{read}");
    sender.until(&low, "read").await;
    sender.until(&waiting, "read").await;
    second.ask(json!(2), "ping", json!({})).await;
    kill(second).await;

    let mut third = start(&ben).await;
    let read = call(&mut third, 1, "check_messages").await;
    assert_eq!((&read["messages"], notifications(&third)), (&json!([]), 0));
    kill(third).await;
    sender.end().await;
}

#[tokio::test]
async fn a_session_takes_over_from_dead_ones_and_not_from_living_ones() {
    let (_hub, ana, ben) = ana_and_ben().await;
    let sender = ana.host().await;
    // Three sessions at the same time; each gets a message: the newest of the idle ones is given it.
    let mut sessions = Vec::new();
    for text in ["one", "two", "three"] {
        let mut session = start(&ben).await;
        call(&mut session, 1, "list_peers").await;
        send(&sender, text).await;
        assert_eq!(notified(&mut session).await, format!("[URGENT] ana: {text}"));
        sessions.push(session);
    }
    let mut living = sessions.remove(1);
    for session in sessions {
        kill(session).await;
    }
    let mut heir = start(&ben).await;
    let mut texts = vec![notified(&mut heir).await, notified(&mut heir).await];
    texts.sort();
    assert_eq!(texts, ["[URGENT] ana: one", "[URGENT] ana: three"]);
    assert_eq!(notifications(&living), 1);
    let result = call(&mut living, 2, "list_peers").await;
    assert_eq!(result["_pending_messages"][0]["text"], "two", "{result}");
    // Nothing is left over: one journal for each session that runs.
    let journals = || {
        let pool = std::fs::read_dir(ben.dir().join("sessions"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let entries = std::fs::read_dir(pool).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).count()
    };
    let deadline = Instant::now() + PATIENCE;
    while journals() != 2 {
        assert!(Instant::now() < deadline, "{} journals", journals());
        sleep(Duration::from_millis(50)).await;
    }
    kill(heir).await;
    kill(living).await;
    sender.end().await;
}
