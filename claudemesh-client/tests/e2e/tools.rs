//! Every tool of the table by its name, with arguments made from its schema.

use super::files::share;
use super::kit::*;
use super::skills::zip;
use claudemesh_client::ClientError;
use claudemesh_client::proto::model::{Capability, Priority};
use claudemesh_client::proto::ops::SetGrants;
use claudemesh_client::proto::{Family, schema};
use serde_json::{Map, Value, json};

/// A value that fits the schema.
fn fitting(schema: &Value) -> Value {
    if let Some(value) = schema.get("default").filter(|value| !value.is_null()) {
        return value.clone();
    }
    if let Some(values) = schema["enum"].as_array() {
        return values[0].clone();
    }
    for either in ["anyOf", "oneOf"] {
        if let Some(schemas) = schema[either].as_array() {
            return fitting(&schemas[0]);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds[0].clone(),
        kind => kind.clone(),
    };
    match kind.as_str() {
        Some("string") => json!("word"),
        Some("boolean") => json!(true),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("array") => json!([fitting(&schema["items"])]),
        Some("object") => arguments(schema, false),
        _ => json!("anything"),
    }
}

/// Arguments that fit: those that are required, or all.
fn arguments(schema: &Value, all: bool) -> Value {
    let required: Vec<_> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let chosen = properties
        .iter()
        .filter(|(name, _)| all || required.contains(&name.as_str()));
    chosen
        .map(|(name, schema)| (name.clone(), fitting(schema)))
        .collect::<Map<_, _>>()
        .into()
}

fn invalid_field(result: Result<Value, ClientError>) -> String {
    match result {
        Err(ClientError::InvalidArgument { field, message }) => {
            assert!(!message.is_empty());
            field
        }
        other => panic!("an invalid argument: {other:?}"),
    }
}

pub async fn every_tool_works_and_names_what_is_wrong(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let text = lab.text("a message");
    let sent = ana.send_text("ben", &text, Priority::Next).await.unwrap();
    let slug = ana.person.identity.slug.clone();
    // Arguments that mean something that must exist.
    let meant = async |tool: &str, arguments: &mut Value| {
        let id = match tool {
            "forget" => ana.call_tool("remember", json!({ "content": "x" })).await.unwrap()["id"].clone(),
            "claim_task" | "release_task" | "complete_task" | "cancel_task" => {
                ana.call_tool("create_task", json!({ "title": "x" })).await.unwrap()["id"].clone()
            }
            _ => json!(sent.message_id),
        };
        for (name, value) in [("to", json!("ben")), ("assignee", json!("ben")), ("id", id), ("mesh_slug", json!(slug))] {
            if arguments.get(name).is_some() {
                arguments[name] = value;
            }
        }
        match tool {
            "get_skill" | "remove_skill" => {
                let shared = json!({ "name": "word", "description": "d", "instructions": "i" });
                ana.call_tool("share_skill", shared).await.unwrap();
                // It has no files.
                *arguments = json!({ "name": "word" });
            }
            "mesh_skill_deploy" => {
                let archive = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(archive.path(), zip(&[("word/SKILL.md", "Do it.")])).unwrap();
                let file = ana.share_file(share(&archive.path().to_string_lossy(), None)).await.unwrap();
                *arguments = json!({ "file_id": file.id, "path": "word" });
            }
            "mesh_query" => *arguments = json!({ "sql": "SELECT $1 AS a", "params": ["word"] }),
            "vector_store" => *arguments = json!({ "collection": "word", "text": "word", "vector": [1, 2], "metadata": { "a": 1 } }),
            "vector_search" => {
                let filter = json!({ "a": [1, 2] });
                *arguments = json!({ "collection": "word", "query": "word", "vector": [1, 2], "limit": 1, "filter": filter });
            }
            "vector_delete" => {
                let store = json!({ "collection": "word", "text": "word", "vector": [1, 2] });
                let stored = ana.call_tool("vector_store", store).await.unwrap();
                *arguments = json!({ "collection": "word", "id": stored["id"] });
            }
            "graph_query" => *arguments = json!({ "cypher": "RETURN $word AS a", "params": { "word": [1, { "a": null }] } }),
            "graph_execute" => *arguments = json!({ "cypher": "MERGE (n:Word) RETURN n", "params": {} }),
            "mesh_execute" => *arguments = json!({ "sql": "CREATE TABLE IF NOT EXISTS word (a TEXT)", "params": [] }),
            _ => {}
        }
        if tool == "send_message" {
            arguments["message"] = json!(text);
        }
    };
    let desk = tempfile::tempdir().unwrap();
    let path = |name: &str| desk.path().join(name).to_string_lossy().into_owned();
    std::fs::create_dir(path("shared")).unwrap();
    std::fs::write(path("shared/notes.md"), "notes").unwrap();
    let serving = ben.person.builder().observer(true).share_directory(path("shared"));
    let _serving = serving.connect().await.unwrap();
    let grants = [(ana.key(), Some(vec![Capability::FileRead, Capability::Dm, Capability::Read]))].into();
    ben.request(SetGrants { grants }).await.unwrap();
    for tool in schema::tools() {
        let name = tool.meta.name;
        let params = tool.params.to_value();
        let output = jsonschema::validator_for(&tool.output.to_value()).unwrap();
        for all in [false, true] {
            let mut valid = arguments(&params, all);
            meant(name, &mut valid).await;
            if tool.meta.family == Family::Files {
                let file = ana.share_file(share(&path("shared/notes.md"), None)).await.unwrap();
                for (argument, value) in [
                    ("id", json!(file.id)),
                    ("fileId", json!(file.id)),
                    ("save_to", json!(path(&file.id))),
                    ("peer", json!("ben")),
                    ("path", json!(if name == "share_file" { path("shared/notes.md") } else { "notes.md".to_owned() })),
                ] {
                    if valid.get(argument).is_some() {
                        valid[argument] = value;
                    }
                }
                if name == "list_peer_files" {
                    valid["path"] = json!(".");
                }
            }
            let result = within(name, ana.call_tool(name, valid.clone())).await;
            let result = result.unwrap_or_else(|error| panic!("{name} {valid}: {error}"));
            if let Err(error) = output.validate(&result) {
                panic!("{name} {valid}: {result} is not what the schema says: {error}");
            }
        }
        let counted = ana.counters();
        // An unknown argument, a value of a wrong type for each known one, and a missing one.
        let mut wrong = arguments(&params, false);
        meant(name, &mut wrong).await;
        let valid = wrong.clone();
        wrong["zzz"] = json!(1);
        assert_eq!(invalid_field(ana.call_tool(name, wrong).await), "zzz", "{name}");
        for (property, schema) in params["properties"].as_object().into_iter().flatten() {
            let wrong_value = json!({ "no": ["such", "type"] });
            if jsonschema::validator_for(schema).unwrap().is_valid(&wrong_value) {
                continue; // it takes anything
            }
            let mut wrong = valid.clone();
            wrong[property] = wrong_value;
            let field = invalid_field(ana.call_tool(name, wrong).await);
            assert_eq!(field.split('/').next(), Some(property.as_str()), "{name}");
        }
        for required in params["required"].as_array().into_iter().flatten() {
            let required = required.as_str().unwrap();
            let mut wrong = valid.clone();
            wrong.as_object_mut().unwrap().remove(required);
            match ana.call_tool(name, wrong).await {
                Err(error @ ClientError::InvalidArgument { .. }) => {
                    assert!(error.to_string().contains(required), "{name} without {required}: {error}");
                }
                other => panic!("{name} without {required}: {other:?}"),
            }
        }
        invalid_field(ana.call_tool(name, json!([1])).await);
        assert_eq!(counted.messages_out, ana.counters().messages_out, "{name}: nothing was sent");
    }
    assert_eq!(invalid_field(ana.call_tool("no_such_tool", json!({})).await), "tool");
    assert!(ana.counters().tool_calls >= 2 * schema::tools().len() as u64);
    // The message that was sent by the tool.
    for _ in 0..3 {
        assert_eq!(recv_text(&ben).await, text);
    }
    lab.finish().await;
}
