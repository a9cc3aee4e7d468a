//! Tools: what is listed, what they answer, and what they say when they fail.

mod mcp_kit;

use claudemesh_proto::schema;
use mcp_kit::{Hub, Person, ana_and_ben, found, texts};
use rmcp::model::Tool;
use serde_json::{Value, json};

fn value(tool: &Tool) -> Value {
    json!(tool)
}

#[tokio::test]
async fn the_list_is_the_table() {
    let (_hub, ana, _ben) = ana_and_ben().await;
    let host = ana.host().await;
    let listed = host.client.list_all_tools().await.unwrap();
    let table = schema::tools();
    let names: Vec<_> = listed.iter().map(|tool| tool.name.to_string()).collect();
    assert_eq!(names, table.iter().map(|tool| tool.meta.name).collect::<Vec<_>>());
    for (tool, row) in listed.iter().map(value).zip(table) {
        let mut input = row.params.to_value();
        assert_eq!(tool["description"], input["description"]);
        let members = input.as_object_mut().unwrap();
        members.remove("description");
        members.remove("title");
        members.entry("properties").or_insert(json!({}));
        assert_eq!(tool["inputSchema"], input);
        assert_eq!(tool["outputSchema"], row.output.to_value());
        let title = &tool["title"];
        let safety = row.meta.safety;
        let annotations = json!({
            "title": title,
            "readOnlyHint": safety.read_only,
            "destructiveHint": safety.destructive,
            "idempotentHint": safety.idempotent,
            "openWorldHint": safety.open_world,
        });
        assert_eq!(tool["annotations"], annotations);
    }
    host.end().await;
}

#[tokio::test]
async fn defect_105_cli_20_failures_say_what_to_do_next() {
    let (mut hub, ana, _ben) = ana_and_ben().await;
    let host = ana.host().await;
    let text = host.fail("sendmessage", json!({})).await;
    assert!(text.contains("Did you mean send_message?"), "{text}");
    let text = host
        .fail(
            "send_message",
            json!({ "to": "ben", "message": "hi", "prioritty": "now" }),
        )
        .await;
    assert!(
        text.contains("prioritty") && text.contains("Did you mean the argument priority?"),
        "{text}"
    );
    let text = host.fail("send_message", json!({ "to": "ben" })).await;
    assert!(text.contains("\"message\" is a required property"), "{text}");
    let text = host.fail("send_message", json!({ "to": "bem", "message": "hi" })).await;
    assert!(
        text.contains("no_such_peer") || text.contains("nobody is called"),
        "{text}"
    );
    assert!(text.contains("ben"), "{text}");
    let text = host.fail("message_status", json!({ "id": "unknown" })).await;
    assert!(text.contains("Next: "), "{text}");
    let text = host.fail("mesh_info", json!({ "mesh_slug": "elsewhere" })).await;
    assert!(text.contains("team"), "{text}");
    // The next call works as if nothing had been.
    let result = host
        .call("set_state", json!({ "key": "build", "value": { "green": true } }))
        .await;
    assert_eq!(result.is_error, Some(false));
    assert_eq!(
        texts(&result),
        [result.structured_content.unwrap().to_string()],
        "text-only hosts see the same"
    );
    assert_eq!(
        host.get("get_state", json!({ "key": "build" })).await["value"],
        json!({ "green": true })
    );
    // What changes something is not said to be done while nobody can have done it.
    hub.down().await;
    for (tool, arguments) in [
        ("set_state", json!({ "key": "build", "value": 2 })),
        ("join_group", json!({ "name": "backend" })),
        ("set_summary", json!({ "summary": "x" })),
    ] {
        let text = host.fail(tool, arguments).await;
        assert!(!text.is_empty(), "{tool}");
    }
    host.end().await;
}

#[tokio::test]
async fn cli_33_texts_are_found_by_their_vectors() {
    let (_hub, ana, ben) = ana_and_ben().await;
    let (ana, ben) = (ana.host().await, ben.host().await);
    let text = ana
        .fail("vector_store", json!({ "collection": "docs", "text": "no vector" }))
        .await;
    assert!(text.contains("EMBEDDINGS_URL") && text.contains("vector"), "{text}");
    for (text, vector) in [("up", [0.0, 1.0]), ("right", [1.0, 0.0])] {
        let stored = json!({ "collection": "docs", "text": text, "vector": vector, "metadata": { "n": 1 } });
        ana.get("vector_store", stored).await;
    }
    let query = json!({ "collection": "docs", "vector": [0.6, 0.8], "limit": 1, "filter": { "n": 1 } });
    let found = ben.get("vector_search", query).await;
    assert_eq!(
        (&found["results"][0]["text"], &found["results"][0]["score"]),
        (&json!("up"), &json!(0.8))
    );
    assert_eq!(ben.get("list_collections", json!({})).await["details"][0]["vectors"], 2);
    let text = ben
        .fail("vector_search", json!({ "collection": "dosc", "vector": [1, 0] }))
        .await;
    assert!(text.contains("docs"), "{text}");
    let id = found["results"][0]["id"].clone();
    let delete = json!({ "collection": "docs", "id": id });
    assert!(
        ben.fail("vector_delete", delete.clone())
            .await
            .contains("only its author")
    );
    ana.get("vector_delete", delete).await;
    ana.end().await;
    ben.end().await;
}

#[tokio::test]
async fn without_a_mesh_every_call_says_how_to_join_and_works_once_joined() {
    let ana = Person::new("ana");
    let host = ana.host().await;
    for tool in ["list_peers", "check_messages", "mesh_info"] {
        let text = host.fail(tool, json!({})).await;
        assert!(text.contains("claudemesh join <link>"), "{text}");
    }
    assert!(host.fail("nothing", json!({})).await.contains("There is no tool"));
    let hub = Hub::start().await;
    found(&hub, "Team", &[&ana]).await;
    assert_eq!(host.get("mesh_info", json!({})).await["slug"], "team");
    host.end().await;
}

#[tokio::test]
async fn several_meshes_are_told_apart() {
    let (ana, ben) = (Person::new("ana"), Person::new("ben"));
    let hub = Hub::start().await;
    found(&hub, "One", &[&ana, &ben]).await;
    found(&hub, "Two", &[&ana, &ben]).await;
    let mut host = ana.host_with_channels().await;
    let other = ben.host().await;
    for tool in host.client.list_all_tools().await.unwrap().iter().map(value) {
        assert!(tool["inputSchema"]["properties"]["mesh_slug"].is_object(), "{tool}");
        assert_eq!(tool["outputSchema"]["type"], "object");
    }
    let peers = host.get("list_peers", json!({})).await;
    assert_eq!(peers["meshes"].as_array().unwrap().len(), 2, "{peers}");
    let set = host.get("set_summary", json!({ "summary": "both" })).await;
    assert_eq!(set["meshes"].as_object().unwrap().len(), 2, "{set}");
    assert_eq!(
        host.get("mesh_info", json!({ "mesh_slug": "two" })).await["slug"],
        "two"
    );
    let text = other
        .fail("send_message", json!({ "to": "ana", "message": "which?" }))
        .await;
    assert!(text.contains("one:ana") && text.contains("two:ana"), "{text}");
    other.send("two:ana", "hello", "now").await;
    let (content, meta) = host.channel("direct").await;
    assert_eq!(content, "[URGENT] ben: hello");
    assert_eq!(meta["mesh_slug"], "two");
    host.end().await;
    other.end().await;
}

#[tokio::test]
async fn the_session_is_the_one_of_the_host() {
    let (_hub, ana, _ben) = ana_and_ben().await;
    ana.configure("groups", json!([{ "name": "backend", "role": "lead" }]));
    let ana = ana
        .with("CLAUDECODE", "1")
        .with("CLAUDE_CODE_SESSION_ID", "session-1")
        .with("CLAUDE_PROJECT_DIR", "/work/project")
        .with("CLAUDE_MODEL", "some-model")
        .with("CLAUDEMESH_DISPLAY_NAME", "ana at night");
    let host = ana.host().await;
    let peers = host.get("list_peers", json!({})).await;
    let peer = &peers["meshes"][0]["peers"][0];
    let expected = json!({
        "displayName": "ana at night",
        "sessionId": "session-1",
        "cwd": "/work/project",
        "model": "some-model",
        "channel": "claude-code",
        "peerType": "ai",
        "groups": [{ "name": "backend", "role": "lead" }],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&peer[key], value, "{key} of {peer}");
    }
    host.end().await;
}
