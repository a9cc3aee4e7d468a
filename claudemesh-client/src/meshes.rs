//! Several meshes behind one set of tools.

use crate::tools::{check_arguments, error_text, take_text};
use crate::{ClientError, MeshClient};
use claudemesh_proto::tools::{MeshPeers, MessageSent, SendMessage, SendOutcome, SendTargets};
use claudemesh_proto::{ErrorCode, MeshScope, tool_by_name};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

/// Clients of several meshes, the first one being the default. Cheap to clone.
///
/// A tool works on the meshes that its row of the tool table names; `mesh_slug` picks one, in every tool. `send_message`
/// takes `<slug>:<target>`.
#[derive(Clone, Debug, Default)]
pub struct Meshes {
    clients: Vec<MeshClient>,
}

impl Meshes {
    /// No mesh yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mesh; replaces the one with the same slug, which goes on unless it is closed.
    pub fn add(&mut self, client: MeshClient) {
        let slug = client.identity().slug.clone();
        match self.clients.iter_mut().find(|known| known.identity().slug == slug) {
            Some(known) => *known = client,
            None => self.clients.push(client),
        }
    }

    /// Takes a mesh out, by slug or id.
    pub fn remove(&mut self, mesh: &str) -> Option<MeshClient> {
        let index = self.clients.iter().position(|client| is_named(client, mesh))?;
        Some(self.clients.remove(index))
    }

    /// The client of a mesh, by slug or id.
    #[must_use]
    pub fn get(&self, mesh: &str) -> Option<&MeshClient> {
        self.clients.iter().find(|client| is_named(client, mesh))
    }

    /// The clients, the default first.
    pub fn iter(&self) -> impl Iterator<Item = &MeshClient> {
        self.clients.iter()
    }

    /// How many meshes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is no mesh.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Closes every client: see [`MeshClient::close`].
    pub async fn close(&self) {
        join_all(self.clients.iter().map(MeshClient::close)).await;
    }

    /// Calls a tool by name on the meshes that it is for. A tool for all of several meshes gives
    /// `{"meshes": {slug: output or {"error": …}}}`, unless its output names the meshes itself.
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] for arguments that do not fit, then those of the tool; with several meshes, only
    /// when it failed on every one.
    pub async fn call_tool(&self, name: &str, arguments: Value) -> Result<Value, ClientError> {
        let mut arguments = match arguments {
            Value::Null => Map::new(),
            Value::Object(arguments) => arguments,
            _ => return Err(ClientError::invalid("arguments", "must be a JSON object")),
        };
        let wanted = take_text(name, &mut arguments)?;
        let arguments = Value::Object(arguments);
        check_arguments(name, &arguments)?;
        if let Some(mesh) = wanted {
            return self.named(&mesh)?.call_tool(name, arguments).await;
        }
        let first = self.clients.first().ok_or_else(no_mesh)?;
        if self.clients.len() == 1 && name != "send_message" {
            return first.call_tool(name, arguments).await;
        }
        match tool_by_name(name).map(|meta| meta.scope) {
            Some(MeshScope::All) => self.call_all(name, arguments).await,
            Some(MeshScope::Any) => self.call_any(name, arguments).await,
            Some(MeshScope::Resolved) if name == "send_message" => {
                let request: SendMessage = serde_json::from_value(arguments)
                    .map_err(|error| ClientError::invalid("arguments", error.to_string()))?;
                let sent = self.send_message(request).await?;
                serde_json::to_value(sent).map_err(|error| ClientError::Protocol {
                    message: error.to_string(),
                })
            }
            _ => first.call_tool(name, arguments).await,
        }
    }

    fn named(&self, mesh: &str) -> Result<&MeshClient, ClientError> {
        self.get(mesh).ok_or_else(|| {
            let slugs: Vec<_> = self
                .clients
                .iter()
                .map(|client| client.identity().slug.as_str())
                .collect();
            ClientError::invalid(
                "mesh_slug",
                format!("{mesh:?} is not joined; joined are: {}", slugs.join(", ")),
            )
        })
    }

    async fn call_all(&self, name: &str, arguments: Value) -> Result<Value, ClientError> {
        let calls = self
            .clients
            .iter()
            .map(|client| client.call_tool(name, arguments.clone()));
        let results = join_all(calls).await;
        if results.iter().all(Result::is_err) {
            return results.into_iter().next().unwrap_or_else(|| Err(no_mesh()));
        }
        let slugs = self.clients.iter().map(|client| client.identity().slug.clone());
        Ok(merge(name, slugs.zip(results)))
    }

    async fn call_any(&self, name: &str, arguments: Value) -> Result<Value, ClientError> {
        let mut failure = None;
        for client in &self.clients {
            match client.call_tool(name, arguments.clone()).await {
                Ok(output) => return Ok(output),
                // A mesh that cannot be asked is worth telling more than one that does not know the id.
                Err(error) => match &failure {
                    Some(ClientError::Refused(frame)) if frame.code == ErrorCode::NotFound => failure = Some(error),
                    Some(_) => {}
                    None => failure = Some(error),
                },
            }
        }
        Err(failure.unwrap_or_else(no_mesh))
    }

    /// The tool `send_message` over several meshes. `<slug>:<target>` names the mesh; a name that only one mesh knows finds
    /// it; groups and everybody need the prefix when there are several meshes.
    ///
    /// # Errors
    /// Those of [`MeshClient::send_message`].
    pub async fn send_message(&self, request: SendMessage) -> Result<MessageSent, ClientError> {
        if self.clients.is_empty() {
            return Err(no_mesh());
        }
        let mut results = Vec::new();
        let mut by_mesh: Vec<(usize, Vec<(String, String)>)> = Vec::new();
        for target in request.to.as_slice() {
            match self.place(target).await {
                Ok((index, rest)) => match by_mesh.iter_mut().find(|(known, _)| *known == index) {
                    Some((_, targets)) => targets.push((target.clone(), rest)),
                    None => by_mesh.push((index, vec![(target.clone(), rest)])),
                },
                Err(error) => results.push(failed(target, &error)),
            }
        }
        for (index, targets) in by_mesh {
            let rest: Vec<String> = targets.iter().map(|(_, rest)| rest.clone()).collect();
            let request = SendMessage {
                to: SendTargets::Many(rest),
                message: request.message.clone(),
                priority: request.priority,
            };
            let sent = self.clients[index].send_message(request).await?;
            for mut outcome in sent.results {
                if let Some((given, _)) = targets.iter().find(|(_, rest)| *rest == outcome.to) {
                    outcome.to.clone_from(given);
                }
                results.push(outcome);
            }
        }
        Ok(MessageSent { results })
    }

    /// Which mesh a target belongs to, and the target without its prefix.
    async fn place(&self, target: &str) -> Result<(usize, String), ClientError> {
        if let Some((slug, rest)) = target.split_once(':')
            && let Some(index) = self.clients.iter().position(|client| client.identity().slug == slug)
        {
            return Ok((index, rest.to_owned()));
        }
        if self.clients.len() == 1 {
            return Ok((0, target.to_owned()));
        }
        if target == "*" || target.starts_with('@') {
            let slugs: Vec<_> = self
                .clients
                .iter()
                .map(|client| client.identity().slug.as_str())
                .collect();
            let message = format!(
                "{target} is in every mesh: put the mesh in front, for example {}:{target} (joined are: {})",
                slugs[0],
                slugs.join(", ")
            );
            return Err(ClientError::refused(ErrorCode::AmbiguousTarget, message));
        }
        let found = join_all(self.clients.iter().map(|client| client.resolve(target))).await;
        let fitting: Vec<usize> = found
            .iter()
            .enumerate()
            .filter(|(_, found)| found.is_ok())
            .map(|(index, _)| index)
            .collect();
        match fitting.as_slice() {
            [index] => Ok((*index, target.to_owned())),
            [] => {
                // The most telling error: ambiguous before unknown before not connected.
                let rank = |error: &ClientError| match error.code() {
                    ErrorCode::AmbiguousTarget => 0,
                    ErrorCode::NoSuchPeer => 1,
                    _ => 2,
                };
                let errors = found.into_iter().filter_map(Result::err);
                Err(errors.min_by_key(rank).unwrap_or_else(no_mesh))
            }
            several => {
                let choices: Vec<_> = several
                    .iter()
                    .map(|index| format!("{}:{target}", self.clients[*index].identity().slug))
                    .collect();
                let message = format!("{target:?} is in several meshes: use {}", choices.join(" or "));
                Err(ClientError::refused(ErrorCode::AmbiguousTarget, message))
            }
        }
    }
}

/// One output for several meshes. Outputs that name their mesh themselves become one list.
fn merge(tool: &str, results: impl Iterator<Item = (String, Result<Value, ClientError>)>) -> Value {
    let list = match tool {
        "list_peers" => "meshes",
        "check_messages" => "messages",
        _ => {
            let output = |result: Result<Value, ClientError>| match result {
                Ok(output) => output,
                Err(error) => json!({ "error": error_text(&error) }),
            };
            let meshes: Map<String, Value> = results.map(|(slug, result)| (slug, output(result))).collect();
            return json!({ "meshes": meshes });
        }
    };
    let mut items = Vec::new();
    for (slug, result) in results {
        match result {
            Ok(mut output) => {
                if let Some(Value::Array(found)) = output.get_mut(list) {
                    items.append(found);
                }
            }
            Err(error) if tool == "list_peers" => {
                let failed = MeshPeers {
                    mesh: slug,
                    peers: Vec::new(),
                    error: Some(error_text(&error)),
                };
                items.extend(serde_json::to_value(failed));
            }
            // What a mesh that cannot be reached holds comes with the next call.
            Err(error) => tracing::warn!(mesh = slug, %error, "messages could not be fetched"),
        }
    }
    json!({ list: items })
}

fn is_named(client: &MeshClient, mesh: &str) -> bool {
    client.identity().slug == mesh || client.identity().mesh_id.as_str() == mesh
}

fn no_mesh() -> ClientError {
    ClientError::refused(
        ErrorCode::NotFound,
        "no mesh is joined; join one with an invite link first",
    )
}

fn failed(target: &str, error: &ClientError) -> SendOutcome {
    SendOutcome {
        to: target.to_owned(),
        mesh: None,
        message_id: None,
        stage: None,
        recipients: 0,
        error: Some(error_text(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_several_meshes_become_one() {
        let both = |one: Value, two: Result<Value, ClientError>| {
            [("a".to_owned(), Ok(one)), ("b".to_owned(), two)].into_iter()
        };
        let peers = |mesh: &str| json!({ "meshes": [{ "mesh": mesh, "peers": [] }] });
        let merged = merge("list_peers", both(peers("a"), Ok(peers("b"))));
        assert_eq!(merged["meshes"].as_array().unwrap().len(), 2);
        let merged = merge("list_peers", both(peers("a"), Err(ClientError::Closed)));
        assert_eq!(merged["meshes"][1]["mesh"], "b");
        assert!(merged["meshes"][1]["error"].is_string());
        let merged = merge("set_summary", both(json!({ "summary": "x" }), Err(ClientError::Closed)));
        assert_eq!(merged["meshes"]["a"]["summary"], "x");
        assert!(merged["meshes"]["b"]["error"].is_string());
    }
}
