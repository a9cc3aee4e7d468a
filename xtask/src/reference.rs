//! Writes the reference pages: everything in them comes from the tables and the types.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use claudemesh_proto::schema::{self, OperationSchemas, ToolSchemas};
use claudemesh_proto::{ErrorCode, Visibility};
use serde_json::Value;

/// Replaces `docs/reference` by what the tables say.
pub(crate) fn write() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    std::fs::create_dir_all(&root)?;
    for (name, text) in [
        ("operations.md", operations()),
        ("tools.md", tools()),
        ("errors.md", errors()),
    ] {
        std::fs::write(root.join(name), text).with_context(|| format!("writing docs/reference/{name}"))?;
    }
    println!("reference pages written to docs/reference");
    Ok(())
}

fn operations() -> String {
    let mut page = String::from(
        "# Operations\n\nWhat the broker serves over its WebSocket. A request is one JSON object with the `type` below, an \
         optional `_reqId`, and the members listed; the reply has the reply type and the same `_reqId`. *Broker sees*: \
         `sealed` is ciphertext, `clear` is readable by whoever runs the broker.\n\n\
         | request | reply | who may | order | rate class | broker sees | audit entry | since protocol |\n|---|---|---|---|---|---|---|---|\n",
    );
    let all = schema::operations();
    for OperationSchemas { meta, .. } in &all {
        let sees = if meta.visibility == Visibility::Sealed {
            "sealed"
        } else {
            "clear"
        };
        let _ = writeln!(
            page,
            "| [`{0}`](#{0}) | `{1}` | {2:?} | {3:?} | {4} | {5} | {6} | {7} |",
            meta.wire_type,
            meta.reply_type,
            meta.permission,
            meta.ordering,
            meta.rate.as_str(),
            sees,
            meta.audit.map_or_else(String::new, |event| format!("`{event}`")),
            meta.since,
        );
    }
    for OperationSchemas {
        meta,
        request,
        response,
    } in &all
    {
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n",
            meta.wire_type,
            description(request.as_value())
        );
        members(&mut page, "Request", request.as_value());
        members(&mut page, &format!("Reply `{}`", meta.reply_type), response.as_value());
    }
    page
}

fn tools() -> String {
    let mut page = String::from(
        "# Tools\n\nWhat an agent calls through `claudemesh mcp`, a person through `claudemesh tool <name>`, and a program \
         as a method of `MeshClient`.\n\n| tool | command | changes something | meshes |\n|---|---|---|---|\n",
    );
    let all = schema::tools();
    for ToolSchemas { meta, .. } in &all {
        let changes = if meta.safety.read_only { "no" } else { "yes" };
        let _ = writeln!(
            page,
            "| [`{0}`](#{0}) | `claudemesh {1}` | {2} | {3:?} |",
            meta.name, meta.command, changes, meta.scope
        );
    }
    for ToolSchemas { meta, params, output } in &all {
        let _ = write!(page, "\n## {}\n\n{}\n\n", meta.name, description(params.as_value()));
        members(&mut page, "Parameters", params.as_value());
        members(&mut page, "Result", output.as_value());
    }
    page
}

fn errors() -> String {
    let mut page = String::from(
        "# Errors\n\nEvery error has one of these codes, a text for people, and where it helps the refused field, the time to \
         wait and names that may have been meant.\n\n| code | try again | HTTP | exit code | what to do |\n|---|---|---|---|---|\n",
    );
    for code in ErrorCode::ALL {
        let again = if code.is_retryable() { "yes" } else { "no" };
        let _ = writeln!(
            page,
            "| `{code}` | {again} | {} | {} | {} |",
            code.http_status(),
            code.exit_code(),
            code.next_step()
        );
    }
    page
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// A table of an object's members.
fn members(page: &mut String, title: &str, schema: &Value) {
    let Some(properties) = schema["properties"]
        .as_object()
        .filter(|properties| !properties.is_empty())
    else {
        let _ = writeln!(page, "{title}: no members.\n");
        return;
    };
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let _ = writeln!(page, "{title}:\n\n| member | type | | |\n|---|---|---|---|");
    for (name, property) in properties {
        let needed = if required.contains(&name.as_str()) {
            "required"
        } else {
            ""
        };
        let text = description(property).replace('|', "\\|");
        let _ = writeln!(page, "| `{name}` | {} | {needed} | {text} |", kind(property));
    }
    page.push('\n');
}

/// The type of a member in a few words.
fn kind(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .filter_map(Value::as_str)
            .map(|value| format!("`{value}`"))
            .collect::<Vec<_>>()
            .join(" ");
    }
    if let Some(alternatives) = schema["anyOf"].as_array() {
        let kinds = alternatives.iter().map(kind).filter(|kind| kind != "null");
        return kinds.collect::<Vec<_>>().join(" or ");
    }
    let name = match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.collect::<Vec<_>>().join(" or ")
        }
        _ => "any".to_owned(),
    };
    match name.as_str() {
        "array" => format!("list of {}", kind(&schema["items"])),
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        _ => name,
    }
}
