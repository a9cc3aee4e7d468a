//! Arguments of tools, checked against the tool's schema before anything is done.

use crate::ClientError;
use jsonschema::Validator;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::LazyLock;

/// The argument with which any tool takes one of several meshes.
const MESH_SLUG: &str = "mesh_slug";

struct Checker {
    validator: Option<Validator>,
    names: Vec<String>,
}

/// Schemas never change while a program runs, so they are compiled once.
static CHECKERS: LazyLock<HashMap<&'static str, Checker>> = LazyLock::new(|| {
    let checker = |tool: claudemesh_proto::schema::ToolSchemas| {
        let schema = tool.params.to_value();
        let names = schema["properties"]
            .as_object()
            .map(|names| names.keys().cloned().collect())
            .unwrap_or_default();
        (
            tool.meta.name,
            Checker {
                validator: jsonschema::validator_for(&schema).ok(),
                names,
            },
        )
    };
    claudemesh_proto::schema::tools().into_iter().map(checker).collect()
});

/// Checks the arguments of a tool: unknown names first, then values.
pub(crate) fn check(tool: &str, arguments: &Value) -> Result<(), ClientError> {
    let Some(checker) = CHECKERS.get(tool) else {
        return Err(unknown_tool(tool));
    };
    let Some(given) = arguments.as_object() else {
        return Err(ClientError::invalid("arguments", "must be a JSON object"));
    };
    if let Some(name) = given.keys().find(|name| !checker.names.contains(name)) {
        let known = match checker.names.as_slice() {
            [] => "it takes none".to_owned(),
            names => format!("it takes {}", names.join(", ")),
        };
        return Err(ClientError::invalid(
            name,
            format!("{tool} has no such argument; {known}"),
        ));
    }
    let Some(validator) = &checker.validator else {
        return Ok(());
    };
    match validator.iter_errors(arguments).next() {
        None => Ok(()),
        Some(error) => {
            let path = error.instance_path().to_string();
            let field = path.trim_start_matches('/').to_owned();
            let field = if field.is_empty() {
                "arguments".to_owned()
            } else {
                field
            };
            Err(ClientError::invalid(field, error.to_string()))
        }
    }
}

/// Takes a text argument out that the tool itself does not know.
pub(crate) fn take_text(tool: &str, arguments: &mut Map<String, Value>) -> Result<Option<String>, ClientError> {
    if CHECKERS.get(tool).is_none() {
        return Err(unknown_tool(tool));
    }
    match arguments.remove(MESH_SLUG) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(slug)) => Ok(Some(slug)),
        Some(_) => Err(ClientError::invalid(MESH_SLUG, "must be a text")),
    }
}

fn unknown_tool(tool: &str) -> ClientError {
    let mut names: Vec<_> = claudemesh_proto::tool::tools().iter().map(|meta| meta.name).collect();
    let close =
        |name: &&str| name.contains(tool) || tool.contains(*name) || name.split('_').any(|part| tool.contains(part));
    let similar: Vec<_> = names.iter().copied().filter(close).collect();
    if !similar.is_empty() && !tool.is_empty() {
        names = similar;
    }
    ClientError::invalid(
        "tool",
        format!("there is no tool {tool:?}; there are: {}", names.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(tool: &str, arguments: &Value) -> String {
        check(tool, arguments).unwrap_err().to_string()
    }

    #[test]
    fn every_schema_compiles() {
        assert_eq!(CHECKERS.len(), claudemesh_proto::tool::tools().len());
        assert!(CHECKERS.values().all(|checker| checker.validator.is_some()));
    }

    #[test]
    fn unknown_names_and_bad_values_are_told() {
        assert!(check("send_message", &json!({ "to": "ana", "message": "hi" })).is_ok());
        let text = message("send_message", &json!({ "to": "ana", "text": "hi" }));
        assert!(
            text.starts_with("text: send_message has no such argument; it takes "),
            "{text}"
        );
        let text = message("send_message", &json!({ "to": "ana" }));
        assert!(text.contains("\"message\" is a required property"), "{text}");
        let text = message(
            "send_message",
            &json!({ "to": "ana", "message": "hi", "priority": "soon" }),
        );
        assert!(text.starts_with("priority: "), "{text}");
        assert!(message("sendmessage", &json!({})).contains("send_message"));
        assert!(message("mesh_info", &json!([])).contains("JSON object"));
    }
}
