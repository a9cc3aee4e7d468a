//! Asking for files of another member's shared directories.

use super::is_proven_member;
use super::serve::{Answer, Question};
use crate::clock::now_ms;
use crate::identity::key_hex;
use crate::{ClientError, MeshClient, Resolved};
use claudemesh_crypto::{PeerAsk, PublicKey, decode_base64, encode_base64};
use claudemesh_proto::limits::{MAX_PEER_FILE_BYTES, MAX_PEER_FILE_NAMES};
use claudemesh_proto::model::Base64;
use claudemesh_proto::ops::{PeerDirRequest, PeerFileRequest};
use claudemesh_proto::tools::{ListPeerFiles, PeerFile, PeerFiles, ReadPeerFile};
use claudemesh_proto::{ErrorCode, ErrorFrame};
use std::time::Duration;

/// Longer than the broker waits for the peer.
const LIMIT: Duration = Duration::from_secs(20);

/// Whom a question goes to.
struct Peer {
    member: PublicKey,
    /// The session or member that the broker is to ask.
    address: PublicKey,
    name: String,
}

impl MeshClient {
    /// The tool `read_peer_file`.
    ///
    /// # Errors
    /// `refused` unless the peer lets the caller (`file-read`); `no_such_peer` when no session of it shares a directory;
    /// `not_found` with the peer's reason; [`ClientError::Timeout`].
    pub async fn read_peer_file(&self, request: ReadPeerFile) -> Result<PeerFile, ClientError> {
        let peer = self.peer(&request.peer).await?;
        let mut content: Vec<u8> = Vec::new();
        let mut first = None;
        let size = loop {
            let question = Question::Read {
                path: request.path.clone(),
                offset: content.len() as u64,
            };
            let (answer, part) = self.ask_file(&peer, &question).await?;
            let Answer::Part { size, changed_ms } = answer else {
                return Err(odd(&answer));
            };
            if size > MAX_PEER_FILE_BYTES || content.len() as u64 + part.len() as u64 > size {
                return Err(odd(&answer));
            }
            if *first.get_or_insert((size, changed_ms)) != (size, changed_ms) {
                let text = format!("{} changed while it was read; read it again", request.path);
                return Err(ClientError::refused(ErrorCode::Conflict, text));
            }
            let is_short = part.is_empty();
            content.extend(part);
            if content.len() as u64 == size || is_short {
                break size;
            }
        };
        let (text, base64) = match String::from_utf8(content) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(encode_base64(error.as_bytes()))),
        };
        Ok(PeerFile {
            peer: peer.name,
            path: request.path,
            size,
            text,
            base64,
        })
    }

    /// The tool `list_peer_files`.
    ///
    /// # Errors
    /// Those of [`MeshClient::read_peer_file`].
    pub async fn list_peer_files(&self, request: ListPeerFiles) -> Result<PeerFiles, ClientError> {
        let peer = self.peer(&request.peer).await?;
        let path = request.path.unwrap_or_default();
        let question = Question::List {
            path: path.clone(),
            pattern: request.pattern,
        };
        let (ask, sealed) = self.seal(&peer, &question)?;
        let asked = PeerDirRequest {
            target_pubkey: key_hex(&peer.address),
            dir_path: String::new(),
            pattern: None,
            sealed: Some(sealed),
        };
        let result = self.request_within(asked, LIMIT).await?;
        match open(&ask, result.sealed.as_ref(), result.error)? {
            (Answer::Names { entries, truncated }, _) if entries.len() <= MAX_PEER_FILE_NAMES => Ok(PeerFiles {
                peer: peer.name,
                path: if path.is_empty() { ".".to_owned() } else { path },
                entries,
                truncated,
            }),
            (answer, _) => Err(odd(&answer)),
        }
    }

    async fn ask_file(&self, peer: &Peer, question: &Question) -> Result<(Answer, Vec<u8>), ClientError> {
        let (ask, sealed) = self.seal(peer, question)?;
        let asked = PeerFileRequest {
            target_pubkey: key_hex(&peer.address),
            file_path: String::new(),
            sealed: Some(sealed),
        };
        let result = self.request_within(asked, LIMIT).await?;
        open(&ask, result.sealed.as_ref(), result.error)
    }

    fn seal(&self, peer: &Peer, question: &Question) -> Result<(PeerAsk, Base64), ClientError> {
        let question = serde_json::to_vec(question).map_err(|error| ClientError::invalid("path", error.to_string()))?;
        let identity = self.identity();
        let mesh = identity.mesh_id.as_str();
        let (ask, sealed) =
            PeerAsk::seal(&identity.member, &peer.member, mesh, now_ms(), &question).map_err(ClientError::crypto)?;
        Ok((ask, Base64(encode_base64(&sealed))))
    }

    async fn peer(&self, name: &str) -> Result<Peer, ClientError> {
        match self.resolve(name).await? {
            Resolved::Direct { key, session, name } => {
                if is_proven_member(self.inner(), &key).await == Some(false) {
                    let text = format!(
                        "{name} is an original client, or is not on the mesh's signed list of members: files are asked for \
                         and answered encrypted only"
                    );
                    return Err(ErrorFrame::new(ErrorCode::NoSuchPeer, text).at("/peer").into());
                }
                Ok(Peer {
                    member: key,
                    address: session.unwrap_or(key),
                    name,
                })
            }
            Resolved::Multicast { .. } => Err(ClientError::invalid("peer", "name one peer, not a group")),
        }
    }
}

fn open(ask: &PeerAsk, sealed: Option<&Base64>, error: Option<String>) -> Result<(Answer, Vec<u8>), ClientError> {
    if let (None, Some(reason)) = (sealed, error) {
        let reason: String = reason.chars().take(500).collect();
        let text = format!("the peer could not answer: {reason} (nothing proves that the peer said so)");
        return Err(ClientError::refused(ErrorCode::Refused, text));
    }
    let sealed = sealed.and_then(|sealed| decode_base64(sealed.as_str()));
    let sealed = sealed.ok_or_else(|| ClientError::Crypto {
        message: "the answer is not sealed; do not trust it".to_owned(),
    })?;
    let text = ask.open(&sealed).map_err(ClientError::crypto)?;
    match Answer::read(&text) {
        Some((Answer::Denied { reason }, _)) => Err(ErrorFrame::new(
            ErrorCode::NotFound,
            format!("the peer answers: {reason}"),
        )
        .at("/path")
        .into()),
        Some(answer) => Ok(answer),
        None => Err(ClientError::Protocol {
            message: "an answer of a later version of claudemesh".to_owned(),
        }),
    }
}

fn odd(answer: &Answer) -> ClientError {
    let what = match answer {
        Answer::Part { .. } => "a part of a file",
        Answer::Names { .. } => "names",
        Answer::Denied { .. } => "a refusal",
    };
    ClientError::Protocol {
        message: format!("the peer answers with {what} that does not fit the question"),
    }
}
