//! One call of a tool: arguments in, a result that a model can use out.

use super::mail::{Attachment, Mail};
use super::session::Joined;
use super::{problem, render};
use claudemesh_client::{ClientError, Meshes};
use claudemesh_proto::tool_by_name;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Map, Value};

/// The argument that takes one of several meshes.
const MESH: &str = "mesh_slug";

/// How a call ended: a structured result, or a text that says what went wrong.
pub(super) type Ended = Result<Value, String>;

/// Calls a tool.
pub(super) async fn run(joined: &Joined, mail: &Mail, name: &str, arguments: Map<String, Value>) -> Ended {
    let meshes = &joined.meshes;
    if tool_by_name(name).is_none() {
        count_failure(meshes);
        return Err(problem::unknown_tool(name));
    }
    let mesh = arguments.get(MESH).and_then(Value::as_str).map(str::to_owned);
    let unusable: Vec<_> = joined
        .broken
        .iter()
        .filter(|broken| mesh.as_ref().is_none_or(|mesh| *mesh == broken.slug))
        .collect();
    if !unusable.is_empty() && (meshes.is_empty() || mesh.is_some()) {
        return Err(problem::broken(&unusable.into_iter().cloned().collect::<Vec<_>>()));
    }
    if meshes.is_empty() {
        return Err(problem::NO_MESH.to_owned());
    }
    let result = meshes.call_tool(name, Value::Object(arguments)).await;
    match name {
        "check_messages" => with_shown(result, mail, mesh.as_deref()).map_err(|error| problem::of(name, &error)),
        "send_message" => result
            .map_err(|error| explain(name, &error))
            .and_then(|sent| accepted(sent, mail)),
        _ => result.map_err(|error| explain(name, &error)),
    }
    .map(|mut output| {
        defuse(&mut output);
        output
    })
}

fn count_failure(meshes: &Meshes) {
    if let Some(client) = meshes.iter().next() {
        client.count_tool_call(true);
    }
}

fn explain(name: &str, error: &ClientError) -> String {
    let text = problem::of(name, error);
    let ClientError::InvalidArgument { field, .. } = error else {
        return text;
    };
    match problem::meant_argument(field, arguments_of(name)) {
        Some(meant) if meant != *field => format!("{text}\nDid you mean the argument {meant}?"),
        _ => text,
    }
}

fn arguments_of(name: &str) -> impl Iterator<Item = String> {
    let tool = claudemesh_proto::schema::tools()
        .into_iter()
        .find(|tool| tool.meta.name == name);
    let properties = tool.and_then(|tool| Some(tool.params.get("properties")?.as_object()?.clone()));
    properties.unwrap_or_default().into_iter().map(|(name, _)| name)
}

/// Adds messages that this server took from the client and that are not read yet.
fn with_shown(result: Result<Value, ClientError>, mail: &Mail, mesh: Option<&str>) -> Result<Value, ClientError> {
    let mut messages = mail.read(mesh);
    match result {
        Ok(mut output) => {
            if let Some(Value::Array(found)) = output.get_mut("messages") {
                messages.append(found);
                messages.iter_mut().for_each(quote);
                messages.sort_by(|one, other| one["sentAt"].as_str().cmp(&other["sentAt"].as_str()));
                *found = messages;
            }
            Ok(output)
        }
        Err(error) if messages.is_empty() => Err(error),
        Err(error) => {
            tracing::warn!(%error, "messages that wait at the broker could not be fetched");
            messages.iter_mut().for_each(quote);
            Ok(serde_json::json!({ "messages": messages }))
        }
    }
}

fn quote(message: &mut Value) {
    if let Some(Value::String(text)) = message.get_mut("text") {
        *text = render::quote(text);
    }
}

/// A message that nobody gets is a failure; one that only some get is a result that says so.
fn accepted(sent: Value, mail: &Mail) -> Ended {
    let outcomes = sent["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    let failures: Vec<&str> = outcomes
        .iter()
        .filter_map(|outcome| outcome["error"].as_str())
        .collect();
    if !failures.is_empty() && failures.len() == outcomes.len() {
        return Err(format!("send_message failed: {}", failures.join("\n")));
    }
    for outcome in outcomes.iter().filter(|outcome| outcome["error"].is_null()) {
        mail.answered(outcome["mesh"].as_str(), outcome["to"].as_str().unwrap_or_default());
    }
    Ok(sent)
}

/// Breaks tags that only the host may write, wherever peers' text may be in a result.
fn defuse(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('<') => *text = render::break_reminders(text),
        Value::Array(items) => items.iter_mut().for_each(defuse),
        Value::Object(members) => members.values_mut().for_each(defuse),
        _ => {}
    }
}

/// The result as the protocol has it. Hosts show a model either the structured content or the text, so both are whole:
/// the text is the same JSON, and attached messages are in both. A failure is text only, since hosts drop the rest.
pub(super) fn result(ended: Ended, attachment: Option<Attachment>) -> CallToolResult {
    let (members, text) = match attachment {
        Some(attachment) => (attachment.members, Some(ContentBlock::text(attachment.text))),
        None => (Map::new(), None),
    };
    match ended {
        Ok(mut output) => {
            let content = [ContentBlock::text(output.to_string())]
                .into_iter()
                .chain(text)
                .collect();
            if let Value::Object(object) = &mut output {
                object.extend(members);
            }
            defuse(&mut output);
            let mut result = CallToolResult::success(content);
            result.structured_content = Some(output);
            result
        }
        Err(problem) => CallToolResult::error([ContentBlock::text(problem)].into_iter().chain(text).collect()),
    }
}
