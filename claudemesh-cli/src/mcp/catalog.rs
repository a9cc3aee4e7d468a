//! The list of tools: the rows of the tool table, in its order.

use claudemesh_proto::schema::{self, ToolSchemas};
use claudemesh_proto::{MeshScope, ToolMeta};
use rmcp::model::{JsonObject, MetaObject, Tool, ToolAnnotations};
use serde_json::{Value, json};
use std::sync::Arc;

/// Tools that hosts which load tools on demand should have at hand: what every answer to a peer needs.
const AT_HAND: [&str; 3] = ["send_message", "check_messages", "list_peers"];

/// Every tool. With several meshes, each takes `mesh_slug`.
pub(super) fn tools(slugs: &[String]) -> Vec<Tool> {
    schema::tools().iter().map(|tool| describe(tool, slugs)).collect()
}

fn describe(tool: &ToolSchemas, slugs: &[String]) -> Tool {
    let mut input = tool.params.as_object().cloned().unwrap_or_default();
    // The tool's own description says the same.
    let description = input
        .remove("description")
        .and_then(|text| Some(text.as_str()?.to_owned()))
        .unwrap_or_default();
    input.remove("title");
    input.entry("properties").or_insert_with(|| json!({}));
    let mut output = tool.output.as_object().cloned().unwrap_or_default();
    if slugs.len() > 1 {
        add_mesh(&mut input, slugs);
        output = over_meshes(tool.meta, output);
    }
    let title = title(tool.meta.name);
    let safety = tool.meta.safety;
    Tool::new(tool.meta.name, description, input)
        .with_title(&title)
        .with_raw_output_schema(Arc::new(output))
        .with_annotations(ToolAnnotations::from_raw(
            Some(title),
            Some(safety.read_only),
            Some(safety.destructive),
            Some(safety.idempotent),
            Some(safety.open_world),
        ))
        .with_meta(hints(tool.meta))
}

fn add_mesh(input: &mut JsonObject, slugs: &[String]) {
    let Some(Value::Object(properties)) = input.get_mut("properties") else {
        return;
    };
    properties.entry("mesh_slug").or_insert_with(|| {
        json!({
            "type": "string",
            "enum": slugs,
            "description": "Only the mesh with this slug. Without it: the first mesh, or all, as the tool needs.",
        })
    });
}

/// A tool for all meshes answers with one output per mesh, if its output does not list meshes itself.
fn over_meshes(meta: &ToolMeta, output: JsonObject) -> JsonObject {
    let lists_meshes = matches!(meta.name, "list_peers" | "check_messages");
    if meta.scope != MeshScope::All || lists_meshes {
        return output;
    }
    let failed = json!({ "type": "object", "properties": { "error": { "type": "string" } }, "required": ["error"] });
    let all = json!({
        "type": "object",
        "properties": { "meshes": { "type": "object", "additionalProperties": { "anyOf": [output, failed] } } },
        "required": ["meshes"],
    });
    let either = json!({ "type": "object", "anyOf": [output, all] });
    either.as_object().cloned().unwrap_or_default()
}

/// `send_message` → `Send message`.
fn title(name: &str) -> String {
    let words = name.replace('_', " ");
    let mut letters = words.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

/// What Claude Code looks at when it loads tools on demand.
fn hints(meta: &ToolMeta) -> MetaObject {
    let family = format!("{:?}", meta.family).to_lowercase();
    let mut hints = JsonObject::new();
    hints.insert(
        "anthropic/searchHint".to_owned(),
        json!(format!("claudemesh mesh peer {family}")),
    );
    if AT_HAND.contains(&meta.name) {
        hints.insert("anthropic/alwaysLoad".to_owned(), json!(true));
    }
    MetaObject(hints)
}
