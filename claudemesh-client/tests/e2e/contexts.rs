//! What members know at the moment.

use super::enrolment::{patch, permissions};
use super::kit::*;
use super::memory::grant;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{Capability, Permissions};
use claudemesh_client::proto::ops::{ContextResults, GetContext, ListContexts, RemoveMember, ShareContext};
use claudemesh_client::{ClientEvent, MeshClient};
use serde_json::json;

fn context(topic: &str, summary: &str) -> ShareContext {
    ShareContext {
        summary: summary.to_owned(),
        topic: Some(topic.to_owned()).filter(|topic| !topic.is_empty()),
        ..ShareContext::default()
    }
}

async fn share(client: &MeshClient, topic: &str, summary: &str) -> String {
    client.request(context(topic, summary)).await.unwrap().id
}

async fn find(client: &MeshClient, query: &str) -> ContextResults {
    let query = query.to_owned();
    client.request(GetContext { query }).await.unwrap()
}

async fn summaries(client: &MeshClient, query: &str) -> Vec<String> {
    let found = find(client, query).await;
    found.contexts.into_iter().map(|context| context.summary).collect()
}

async fn listed(client: &MeshClient) -> Vec<(String, Option<String>, String)> {
    let list = client.request(ListContexts {}).await.unwrap();
    let entries = list.contexts.into_iter();
    entries
        .map(|entry| (entry.peer_name, entry.topic, entry.summary))
        .collect()
}

pub async fn each_member_has_one_per_topic(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let mut events = cara.events();
    let general = share(&ana, "", "reading the broker").await;
    let auth = share(&ana, "Auth", "tokens expire").await;
    assert_ne!(general, auth);
    assert_eq!(share(&ana, " auth ", "tokens expire after a day").await, auth, "case and space do not matter");
    assert_eq!(share(&ana, "", "reading the client").await, general);
    let full = ShareContext {
        summary: "retries are bounded".to_owned(),
        topic: Some("queue".to_owned()),
        files_read: vec!["src/queue/retry.rs".to_owned(), "docs/queue.md".to_owned()],
        key_findings: vec!["at most five attempts".to_owned()],
        tags: vec!["net".to_owned()],
    };
    ben.request(full.clone()).await.unwrap();
    let expected = |name: &str, topic: Option<&str>, summary: &str| {
        (name.to_owned(), topic.map(str::to_owned), summary.to_owned())
    };
    let all = [
        expected("ben", Some("queue"), "retries are bounded"),
        expected("ana", None, "reading the client"),
        expected("ana", Some("auth"), "tokens expire after a day"),
    ];
    assert_eq!(listed(&cara).await, all, "newest first");
    // By path, part of a path, file, topic, tag, finding, words.
    for query in [
        "src/queue/retry.rs", "queue/retry", "retry.rs", "src\\queue", "queue", "NET", "five attempts", "bounded retry",
    ] {
        assert_eq!(summaries(&cara, query).await[0], "retries are bounded", "{query}");
    }
    let found = find(&cara, "retry.rs").await.contexts.remove(0);
    assert_eq!((found.files_read, found.key_findings), (full.files_read, full.key_findings));
    assert_eq!((found.peer_name.as_str(), found.tags), ("ben", full.tags));
    assert_eq!(found.member_id.as_ref(), Some(&ben.person.identity.member_id));
    // What was replaced is not found any more.
    assert!(find(&cara, "broker").await.contexts.is_empty());
    assert_eq!(summaries(&cara, "").await.len(), 3);
    assert!(find(&cara, "expire zebra").await.partial);
    for query in ["\"", "'", "*", "AND", "a OR", "::", "🚀", "(", "NEAR("] {
        find(&cara, query).await;
    }
    // Peers were told as of keys of the state, and the state has none of them.
    for (key, value) in [
        ("_context:ana", "reading the broker"),
        ("_context:ana:Auth", "tokens expire"),
        ("_context:ana:auth", "tokens expire after a day"),
        ("_context:ana", "reading the client"),
        ("_context:ben:queue", "retries are bounded"),
    ] {
        let change = event(&mut events, "the change", |event| match event {
            ClientEvent::StateChange(change) => Some(change),
            _ => None,
        });
        let change = change.await;
        assert_eq!((change.key.as_str(), change.value), (key, json!(value)));
    }
    lab.restart().await;
    assert_eq!(within("the connection", listed(&cara)).await, all);
    lab.finish().await;
}

pub async fn only_those_who_may_see_them(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let olga = lab.mesh("Other", "olga").await;
    grant(&ben, cara.key(), &[Capability::StateRead]).await;
    let mut events = cara.events();
    share(&ben, "", "the canary of ben").await;
    share(&ana, "", "the canary of ana").await;
    share(&olga, "", "the canary of olga").await;
    assert_eq!(summaries(&cara, "canary").await, ["the canary of ana"]);
    assert_eq!(listed(&cara).await.len(), 1);
    let first = event(&mut events, "the change", |event| match event {
        ClientEvent::StateChange(change) => Some(change.key),
        _ => None,
    });
    assert_eq!(first.await, "_context:ana", "and is not told of ben's");
    assert_eq!(listed(&ana).await.len(), 2);
    assert_eq!(summaries(&olga, "canary").await, ["the canary of olga"]);
    assert_eq!(listed(&olga).await.len(), 1);

    let nothing = Permissions {
        can_write_state: Some(false),
        ..Permissions::default()
    };
    patch(&lab, &ana, &cara, permissions(nothing)).await.unwrap();
    assert_eq!(code(cara.request(context("", "x")).await), ErrorCode::Forbidden);
    for (request, place) in [
        (context("", ""), "/summary"),
        (context("", " \n"), "/summary"),
        (context("", &"x".repeat(8193)), "/summary"),
        (context(&"x".repeat(129), "x"), "/topic"),
    ] {
        let (code, field) = refusal(ana.request(request).await);
        assert_eq!((code, field.as_deref()), (ErrorCode::InvalidRequest, Some(place)));
    }
    // Who is gone knows nothing any more.
    let member_id = ben.person.identity.member_id.clone();
    ana.request(RemoveMember { member_id }).await.unwrap();
    assert_eq!(summaries(&ana, "canary").await, ["the canary of ana"]);
    assert_eq!(listed(&ana).await.len(), 1);
    lab.finish().await;
}

pub async fn the_oldest_topic_makes_room(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    share(&ben, "", "ben's own").await;
    for number in 0..=100 {
        share(&ana, &format!("topic {number}"), &format!("summary {number}")).await;
    }
    let all = listed(&ben).await;
    assert_eq!(all.len(), 101);
    assert!(all.iter().all(|(_, _, summary)| summary != "summary 0"));
    assert!(all.iter().any(|(name, _, _)| name == "ben"), "only its own");
    assert_eq!(find(&ben, "summary").await.contexts.len(), 20);
    assert!(!summaries(&ben, "\"topic 0\"").await.contains(&"summary 0".to_owned()));
    lab.finish().await;
}
