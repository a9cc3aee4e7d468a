//! Messages between the connection and the model: those that no surface took, and those that were shown and are not yet
//! acknowledged as read.

use super::render;
use super::surface::TOOL_RESULT;
use claudemesh_client::Message;
use serde_json::{Map, Value, json};
use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Most messages that wait here; further ones wait in the client and at the broker.
const CAPACITY: usize = 256;
/// Most messages that one tool result brings, and most bytes of their texts: results beyond 50,000 characters are cut by
/// hosts.
const ATTACHED: usize = 10;
const ATTACHED_BYTES: usize = 16_000;
/// Most shown messages that are remembered until they are read, and most bytes of their texts.
const SHOWN: usize = 100;
const SHOWN_BYTES: usize = 1_000_000;

/// Most warnings that wait for the next tool result, and most that are remembered as told.
const WARNINGS: usize = 16;
const TOLD: usize = 256;

/// Key of attached messages in a structured result, of the remark about them, and of warnings. No tool has such a key.
pub(super) const MESSAGES_KEY: &str = "_pending_messages";
pub(super) const NOTE_KEY: &str = "_pending_note";
pub(super) const WARNINGS_KEY: &str = "_pending_warnings";

/// The messages of all meshes.
#[derive(Default)]
pub(super) struct Mail {
    state: Mutex<State>,
    room: Notify,
}

#[derive(Default)]
struct State {
    /// Not shown yet, the oldest first.
    waiting: VecDeque<Message>,
    /// Shown and not read, the oldest first, with what showed them.
    shown: VecDeque<(Message, &'static str)>,
    /// Messages that the model was told of without proof that it was.
    pointers: usize,
    /// What the user should know of, the oldest first.
    warnings: VecDeque<String>,
    /// What has been among those.
    told: HashSet<String>,
}

/// What is added to a tool result.
#[derive(Debug)]
pub(super) struct Attachment {
    /// Members of the structured content.
    pub(super) members: Map<String, Value>,
    /// The same as text.
    pub(super) text: String,
}

impl Mail {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until another message may come.
    pub(super) async fn room(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.state().waiting.len() < CAPACITY {
                return;
            }
            room.await;
        }
    }

    /// Keeps a message for the next tool result.
    pub(super) fn keep(&self, message: Message) {
        self.state().waiting.push_back(message);
    }

    /// Remembers that a message was shown, and tells its sender. It is not shown again after a restart.
    pub(super) fn shown(&self, message: Message, adapter: &'static str) {
        message.ack_surfaced(adapter);
        message.confirm();
        self.state().remember(message, adapter);
    }

    /// Counts a message that the model may not have been told of.
    pub(super) fn pointed(&self) {
        self.state().pointers += 1;
    }

    /// Keeps what a person should know of a mesh for the next tool result; the same only once.
    pub(super) fn warn(&self, mesh: &str, text: &str) {
        let text = render::quote(&format!("mesh {mesh}: {text}"));
        let mut state = self.state();
        if state.told.len() >= TOLD {
            // Rather twice than not at all.
            state.told.clear();
        }
        if !state.told.insert(text.clone()) {
            return;
        }
        if state.warnings.len() >= WARNINGS {
            state.warnings.pop_front();
        }
        state.warnings.push_back(text);
    }

    /// Takes messages and warnings that go with the next tool result; the messages count as shown.
    pub(super) fn attach(&self, several_meshes: bool) -> Option<Attachment> {
        let mut state = self.state();
        let mut bytes = 0;
        let mut taken = Vec::new();
        while taken.len() < ATTACHED
            && let Some(message) = state.waiting.front()
        {
            bytes += size(message);
            if bytes > ATTACHED_BYTES {
                break;
            }
            taken.extend(state.waiting.pop_front());
        }
        let left = state.waiting.len() + std::mem::take(&mut state.pointers);
        let warnings = std::mem::take(&mut state.warnings);
        if taken.is_empty() && left == 0 && warnings.is_empty() {
            return None;
        }
        let note = note(taken.len(), left);
        let attachment = Attachment::new(&taken, note, warnings, several_meshes);
        for message in taken {
            message.ack_surfaced(TOOL_RESULT);
            state.remember(message, TOOL_RESULT);
        }
        drop(state);
        self.room.notify_waiters();
        Some(attachment)
    }

    /// Takes everything that is not read, of one mesh or all, for `check_messages`: it counts as read.
    pub(super) fn read(&self, mesh: Option<&str>) -> Vec<Value> {
        let mut state = self.state();
        let wanted = |message: &Message| mesh.is_none_or(|mesh| mesh == message.mesh);
        let (taken, kept) = std::mem::take(&mut state.waiting).into_iter().partition(wanted);
        let taken: VecDeque<Message> = taken;
        state.waiting = kept;
        let (shown, kept) = std::mem::take(&mut state.shown)
            .into_iter()
            .partition(|(message, _)| wanted(message));
        let shown: VecDeque<(Message, &'static str)> = shown;
        state.shown = kept;
        state.pointers = 0;
        drop(state);
        self.room.notify_waiters();
        let fresh = taken.into_iter().map(|message| {
            message.ack_surfaced(TOOL_RESULT);
            (message, None)
        });
        shown
            .into_iter()
            .map(|(message, adapter)| (message, Some(adapter)))
            .chain(fresh)
            .map(read)
            .collect()
    }

    /// Notes that the model answered somebody, by name or key: what that peer wrote before is read.
    pub(super) fn answered(&self, mesh: Option<&str>, to: &str) {
        let target = mesh
            .and_then(|mesh| to.strip_prefix(mesh)?.strip_prefix(':'))
            .unwrap_or(to);
        self.state().shown.retain(|(message, _)| {
            let same_mesh = mesh.is_none_or(|mesh| mesh == message.mesh);
            let read = same_mesh && is_from(message, target);
            if read {
                message.ack_read();
            }
            !read
        });
    }
}

impl State {
    fn remember(&mut self, message: Message, adapter: &'static str) {
        self.shown.push_back((message, adapter));
        while self.shown.len() > SHOWN
            || self.shown.iter().map(|(message, _)| size(message)).sum::<usize>() > SHOWN_BYTES
        {
            self.shown.pop_front();
        }
    }
}

fn size(message: &Message) -> usize {
    message.text.as_ref().map_or(0, String::len)
}

fn is_from(message: &Message, target: &str) -> bool {
    let by_key = target.len() >= 8
        && message
            .from_pubkey
            .as_ref()
            .is_some_and(|key| key.as_str().starts_with(&target.to_ascii_lowercase()));
    by_key || message.from.to_lowercase() == target.to_lowercase()
}

/// A message as `check_messages` returns it.
fn read((message, shown_by): (Message, Option<&'static str>)) -> Value {
    message.ack_read();
    let mut received = message.into_received();
    if let Some(adapter) = shown_by {
        received
            .warnings
            .push(format!("shown to this session before, by {adapter}"));
    }
    json!(received)
}

fn note(attached: usize, left: usize) -> String {
    let mut note = String::new();
    if attached > 0 {
        note.push_str(
            "Messages of mesh peers that came in the meantime. Peers are not your user. Reply with send_message. ",
        );
    }
    match left {
        0 => {}
        1 => note.push_str("1 more message waits: call check_messages."),
        left => note.push_str(&format!("{left} more messages wait: call check_messages.")),
    }
    note.trim_end().to_owned()
}

impl Attachment {
    fn new(messages: &[Message], note: String, warnings: VecDeque<String>, several_meshes: bool) -> Self {
        let entry = |message: &Message| {
            let mut entry = json!(**message);
            entry["text"] = json!(render::body(message));
            entry["replyTo"] = json!(render::reply_to(message, several_meshes));
            entry
        };
        let text: Vec<String> = messages
            .iter()
            .map(|message| render::full(message, several_meshes))
            .collect();
        let remark = (!note.is_empty()).then(|| format!("[claudemesh: {note}]"));
        let alarms = warnings.iter().map(|warning| render::alarm(warning));
        let text = text
            .into_iter()
            .chain(remark)
            .chain(alarms)
            .collect::<Vec<_>>()
            .join("\n\n");
        let mut members = Map::new();
        if !messages.is_empty() {
            members.insert(MESSAGES_KEY.to_owned(), messages.iter().map(entry).collect());
        }
        if !note.is_empty() {
            members.insert(NOTE_KEY.to_owned(), Value::String(note));
        }
        if !warnings.is_empty() {
            let alarms = warnings.iter().map(|warning| render::alarm(warning)).collect();
            members.insert(WARNINGS_KEY.to_owned(), alarms);
        }
        Self { members, text }
    }
}
