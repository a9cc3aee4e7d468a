//! Messages in tool results: only what the host has counts as shown. Until then a restarted session shows them again.

use claudemesh_client::Meshes;
use claudemesh_proto::model::MessageId;
use rmcp::model::RequestId;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Most results that wait to be written. What is in others is shown again after a restart.
const CAPACITY: usize = 256;

/// A message, by the slug of its mesh and its id.
type Shown = (String, MessageId);

/// Messages of results that are being written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    results: Mutex<HashMap<RequestId, Vec<Shown>>>,
}

impl Unwritten {
    /// The result of this request has these messages.
    pub(super) fn expect(&self, request: RequestId, messages: Vec<Shown>) {
        if messages.is_empty() {
            return;
        }
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        if results.len() < CAPACITY {
            results.insert(request, messages);
        }
    }

    /// The result of this request is with the host: its messages need not be shown again.
    pub(super) fn written(&self, request: &RequestId, meshes: &Meshes) {
        let messages = self
            .results
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(request);
        for (mesh, id) in messages.into_iter().flatten() {
            if let Some(client) = meshes.get(&mesh) {
                client.confirm(&id);
            }
        }
    }
}

/// The messages in a list of them, as `check_messages` gives it.
pub(super) fn messages_in(list: Option<&Value>) -> Vec<Shown> {
    let text = |message: &Value, key: &str| message[key].as_str().map(str::to_owned);
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|message| Some((text(message, "mesh")?, MessageId(text(message, "messageId")?))))
        .collect()
}
