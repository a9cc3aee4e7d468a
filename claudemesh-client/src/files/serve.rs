//! Answering questions for files of the directories that this session shares.

use super::directories::{Denied, Roots};
use super::{interrupted, is_proven_member};
use crate::ClientError;
use crate::clock::now_ms;
use crate::inner::Inner;
use crate::pending::lock;
use claudemesh_crypto::{PEER_ASK_SKEW_MS, PeerAsked, PublicKey, decode_base64, encode_base64};
use claudemesh_proto::frame::{PeerDirRequestForward, PeerFileRequestForward};
use claudemesh_proto::model::{Base64, KeyHex};
use claudemesh_proto::ops::{ListMembers, PeerDirResponse, PeerFileResponse};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// Questions that are answered at once.
const AT_ONCE: usize = 4;
/// Questions that are remembered: more in four minutes are not answered.
const MAX_SEEN: usize = 20_000;

/// What a question asks. Sealed; never seen by the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "camelCase")]
pub(super) enum Question {
    Read { path: String, offset: u64 },
    List { path: String, pattern: Option<String> },
}

/// What an answer says; the bytes of a file follow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase")]
pub(super) enum Answer {
    #[serde(rename_all = "camelCase")]
    Part {
        size: u64,
        changed_ms: i64,
    },
    Names {
        entries: Vec<String>,
        truncated: bool,
    },
    Denied {
        reason: String,
    },
}

impl Answer {
    /// The written form: length of the JSON (4 bytes, big endian), JSON, bytes.
    fn write(&self, bytes: &[u8]) -> Vec<u8> {
        let head = serde_json::to_vec(self).unwrap_or_default();
        let mut text = Vec::with_capacity(4 + head.len() + bytes.len());
        text.extend_from_slice(&u32::try_from(head.len()).unwrap_or_default().to_be_bytes());
        text.extend_from_slice(&head);
        text.extend_from_slice(bytes);
        text
    }

    /// Reads [`Answer::write`].
    pub(super) fn read(text: &[u8]) -> Option<(Self, Vec<u8>)> {
        let (length, rest) = text.split_at_checked(4)?;
        let length = u32::from_be_bytes(length.try_into().ok()?);
        let (head, bytes) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        Some((serde_json::from_slice(head).ok()?, bytes.to_vec()))
    }
}

/// A question that the broker passed on.
pub(crate) enum Asked {
    File(Box<PeerFileRequestForward>),
    Dir(Box<PeerDirRequestForward>),
}

/// The directories of a session, and the questions that were answered.
#[derive(Debug)]
pub(crate) struct SharedDirectories {
    roots: Arc<Roots>,
    seen: Mutex<HashMap<[u8; 16], i64>>,
    permits: Semaphore,
}

impl SharedDirectories {
    /// Opens the directories.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, ClientError> {
        let roots = Roots::open(paths).map_err(|(path, error)| {
            ClientError::invalid("share", format!("{} cannot be shared: {error}", path.display()))
        })?;
        Ok(Self {
            roots: Arc::new(roots),
            seen: Mutex::default(),
            permits: Semaphore::new(AT_ONCE),
        })
    }

    /// Whether the question comes for the first time. Old ones need not be remembered: they are refused for their age.
    fn is_new(&self, id: [u8; 16], at_ms: i64, now_ms: i64) -> bool {
        let mut seen = lock(&self.seen);
        if seen.len() >= MAX_SEEN / 2 {
            seen.retain(|_, at| now_ms.abs_diff(*at) <= PEER_ASK_SKEW_MS.unsigned_abs());
        }
        seen.len() < MAX_SEEN && seen.insert(id, at_ms).is_none()
    }

    async fn look(&self, question: Question) -> Result<(Answer, Vec<u8>), Denied> {
        let roots = self.roots.clone();
        let work = move || match question {
            Question::Read { path, offset } => roots.read(&path, offset).map(|part| {
                let answer = Answer::Part {
                    size: part.size,
                    changed_ms: part.changed_ms,
                };
                (answer, part.content)
            }),
            Question::List { path, pattern } => roots.list(&path, pattern.as_deref()).map(|names| {
                let answer = Answer::Names {
                    entries: names.entries,
                    truncated: names.truncated,
                };
                (answer, Vec::new())
            }),
        };
        let done = tokio::task::spawn_blocking(work).await.map_err(interrupted);
        done.unwrap_or_else(|error| Err(Denied(error.to_string())))
    }
}

/// Answers a question, in a task of its own.
pub(crate) fn answer(inner: Arc<Inner>, asked: Asked) {
    tokio::spawn(async move {
        tokio::select! {
            () = inner.shutdown.cancelled() => {}
            () = answer_now(&inner, asked) => {}
        }
    });
}

async fn answer_now(inner: &Inner, asked: Asked) {
    let is_file = matches!(asked, Asked::File(_));
    let (requester, relay_id, sealed) = match asked {
        Asked::File(frame) => (frame.requester_pubkey, frame.relay_id, frame.sealed),
        Asked::Dir(frame) => (frame.requester_pubkey, frame.relay_id, frame.sealed),
    };
    let (sealed, error) = match reply(inner, is_file, sealed.as_ref()).await {
        Ok(sealed) => (Some(Base64(encode_base64(&sealed))), None),
        Err(Denied(reason)) => (None, Some(reason)),
    };
    let sent = send(inner, is_file, requester, relay_id, sealed, error).await;
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer to a peer was not sent");
    }
}

async fn send(
    inner: &Inner,
    is_file: bool,
    requester_pubkey: KeyHex,
    relay_id: String,
    sealed: Option<Base64>,
    error: Option<String>,
) -> Result<(), ClientError> {
    let relay_id = Some(relay_id);
    if is_file {
        let response = PeerFileResponse {
            requester_pubkey,
            relay_id,
            file_path: String::new(),
            content: None,
            error,
            sealed,
        };
        inner.request(&response).await.map(drop)
    } else {
        let response = PeerDirResponse {
            requester_pubkey,
            relay_id,
            dir_path: String::new(),
            entries: None,
            error,
            sealed,
        };
        inner.request(&response).await.map(drop)
    }
}

/// The sealed answer. An error is for whoever asked and cannot be sealed to: it tells nothing about files.
async fn reply(inner: &Inner, is_file: bool, sealed: Option<&Base64>) -> Result<Vec<u8>, Denied> {
    let denied = |text: &str| Denied(text.to_owned());
    let shared = inner
        .shared
        .as_ref()
        .ok_or_else(|| denied("this session shares no directory"))?;
    let sealed = sealed.and_then(|sealed| decode_base64(sealed.as_str()));
    let sealed = sealed.ok_or_else(|| denied("this client answers encrypted questions only; update claudemesh"))?;
    let identity = &inner.identity;
    let now = now_ms();
    let asked = PeerAsked::open(&identity.member, identity.mesh_id.as_str(), now, &sealed);
    let asked = asked.map_err(|error| Denied(error.to_string()))?;
    if !shared.is_new(asked.id, asked.at_ms, now) {
        return Err(denied(
            "this question was answered already, or too many came; ask again in a few minutes",
        ));
    }
    let _permit = shared
        .permits
        .acquire()
        .await
        .map_err(|_| denied("this session is closing"))?;
    let question = serde_json::from_slice::<Question>(&asked.question).ok();
    let question = question.filter(|question| matches!(question, Question::Read { .. }) == is_file);
    let answered = match question {
        None => Err(denied("a question of a later version of claudemesh")),
        Some(_) if !is_member(inner, &asked.asker).await => Err(denied("you are not a member of this mesh")),
        Some(question) => {
            tracing::info!(peer = %asked.asker.short(), ?question, "a peer reads shared files");
            shared.look(question).await
        }
    };
    let (answer, bytes) = answered.unwrap_or_else(|Denied(reason)| (Answer::Denied { reason }, Vec::new()));
    asked
        .answer(&identity.member, &answer.write(&bytes))
        .map_err(|error| Denied(error.to_string()))
}

/// Whether the asker is a member: by the owner-signed list if there is one, else by the broker's word.
async fn is_member(inner: &Inner, asker: &PublicKey) -> bool {
    if let Some(proven) = is_proven_member(inner, asker).await {
        return proven;
    }
    let asker = asker.to_string();
    let members = inner.request(&ListMembers {}).await;
    members.is_ok_and(|list| list.members.iter().any(|member| member.pubkey.as_str() == asker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_their_bytes_apart() {
        let answer = Answer::Part { size: 3, changed_ms: 4 };
        let text = answer.write(&[0, 1, 2]);
        assert_eq!(Answer::read(&text), Some((answer, vec![0, 1, 2])));
        assert_eq!(Answer::read(&text[..6]), None);
        assert_eq!(Answer::read(&[0xff; 8]), None);
    }

    #[test]
    fn a_question_is_answered_once() {
        let shared = SharedDirectories::open(&[]).unwrap();
        assert!(shared.is_new([1; 16], 5, 5));
        assert!(!shared.is_new([1; 16], 5, 5));
        assert!(shared.is_new([2; 16], 5, 5));
    }
}
