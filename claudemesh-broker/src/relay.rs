//! Questions that one session asks another through the broker: each has one session that may answer, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use claudemesh_crypto::random_id;
use claudemesh_proto::model::PresenceId;
use serde_json::Value;
use tokio::sync::oneshot;

/// Questions that wait for their answers.
#[derive(Clone, Debug, Default)]
pub struct Relay {
    waiting: Arc<Mutex<HashMap<String, Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    /// Operation that the question came with: an answer of another kind is none.
    kind: &'static str,
    target: PresenceId,
    answer: oneshot::Sender<Value>,
}

/// A question; dropping it forgets it.
#[derive(Debug)]
pub(crate) struct Question {
    /// Its id, which the answer brings back.
    pub(crate) id: String,
    /// Gets the answer.
    pub(crate) answer: oneshot::Receiver<Value>,
    relay: Relay,
}

impl Relay {
    /// Registers a question to a session.
    pub(crate) fn ask(&self, kind: &'static str, target: &PresenceId) -> Question {
        let id = random_id();
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting {
            kind,
            target: target.clone(),
            answer: sender,
        };
        self.lock().insert(id.clone(), waiting);
        Question {
            id,
            answer,
            relay: self.clone(),
        }
    }

    /// Passes an answer on. `false` if nobody waits for it, or another session was asked.
    pub(crate) fn answer(&self, kind: &'static str, id: &str, from: &PresenceId, answer: Value) -> bool {
        let mut waiting = self.lock();
        let is_asked = waiting
            .get(id)
            .is_some_and(|question| question.kind == kind && question.target == *from);
        let Some(question) = is_asked.then(|| waiting.remove(id)).flatten() else {
            return false;
        };
        question.answer.send(answer).is_ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.relay.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_who_was_asked_answers_and_once() {
        let relay = Relay::default();
        let (ben, cara) = (PresenceId::from("ben"), PresenceId::from("cara"));
        let mut question = relay.ask("file", &ben);
        assert!(
            !relay.answer("file", &question.id, &cara, json!(1)),
            "she was not asked"
        );
        assert!(!relay.answer("dir", &question.id, &ben, json!(1)), "that was not asked");
        assert!(!relay.answer("file", "another", &ben, json!(1)));
        assert!(relay.answer("file", &question.id, &ben, json!(2)));
        assert!(!relay.answer("file", &question.id, &ben, json!(3)));
        assert_eq!(question.answer.try_recv().unwrap(), json!(2));
        let forgotten = relay.ask("file", &ben);
        let id = forgotten.id.clone();
        drop(forgotten);
        assert!(!relay.answer("file", &id, &ben, json!(1)));
        assert!(relay.lock().is_empty());
    }
}
