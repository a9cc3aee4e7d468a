//! Files of peers: questions and answers that the broker passes on and cannot read.

use std::sync::Arc;
use std::time::Duration;

use claudemesh_proto::frame::{PeerDirRequestForward, PeerFileRequestForward, ServerFrame};
use claudemesh_proto::hello::caps;
use claudemesh_proto::model::{Capability, KeyHex};
use claudemesh_proto::ops::{
    PeerAnswerTaken, PeerDirRequest, PeerDirResponse, PeerDirResult, PeerFileRequest, PeerFileResponse, PeerFileResult,
};
use claudemesh_proto::{ErrorCode, ErrorFrame};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::Broker;
use crate::context::{Context, Handle, Session};

/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(15);
const FILE: &str = "file";
const DIR: &str = "dir";

/// The session that answers for the holder of a key. Whether there is one is told only to who may ask.
fn target(cx: &Context, key: &KeyHex, is_sealed: bool) -> Result<Arc<Session>, ErrorFrame> {
    let state = cx.session.mesh.lock();
    let member = state
        .mesh
        .member_by_key(key.as_str())
        .map(|member| member.facts.id.clone());
    let member = member.or_else(|| {
        state
            .mesh
            .session_by_key(key.as_str())
            .map(|session| session.facts.member.clone())
    });
    let unknown = || {
        ErrorFrame::new(
            ErrorCode::NoSuchPeer,
            "target peer not connected: no such member or session",
        )
        .at("/targetPubkey")
    };
    let member = state.mesh.member(&member.ok_or_else(unknown)?).ok_or_else(unknown)?;
    let name = &member.facts.name;
    if !state
        .mesh
        .allows(&member.facts.id, &cx.session.member, Capability::FileRead)
    {
        let text = format!(
            "{name} does not let you read files: {name} has to grant it (`claudemesh grant <your name> file-read`)"
        );
        return Err(ErrorFrame::new(ErrorCode::Refused, text));
    }
    // An original client serves its working directory without being asked to, and answers in clear text.
    let serves = |session: &Session| match is_sealed {
        true => session.has_cap(caps::PEER_FILES),
        false => session.protocol < 2 && !session.observer,
    };
    let mut sessions: Vec<_> = state
        .sessions()
        .filter(|session| {
            session.member == member.facts.id && session.presence != cx.session.presence && serves(session)
        })
        .collect();
    // The session that was named, else always the same one.
    sessions.sort_by_key(|session| (session.session_key.as_ref() != Some(key), session.presence.clone()));
    match sessions.first() {
        Some(session) => Ok((*session).clone()),
        None => {
            let text = format!(
                "no connected session of {name} shares a directory: {name} has to start one with \
                 `claudemesh mcp --share DIR`"
            );
            Err(ErrorFrame::new(ErrorCode::NoSuchPeer, text).at("/targetPubkey"))
        }
    }
}

/// Passes a question on and waits for its answer.
async fn ask<T: DeserializeOwned>(
    cx: &Context,
    kind: &'static str,
    target: &Session,
    frame: impl FnOnce(String) -> ServerFrame,
) -> Result<T, ErrorFrame> {
    let mut question = cx.broker.relay.ask(kind, &target.presence);
    let frame = frame(question.id.clone());
    cx.session.mesh.lock().send([&target.presence], &frame);
    let late = || {
        let text = "timeout waiting for peer response: it is connected but does not answer";
        ErrorFrame::new(ErrorCode::Timeout, text)
    };
    let answer = timeout(PATIENCE, &mut question.answer).await;
    let answer = answer.map_err(|_| late())?.map_err(|_| late())?;
    serde_json::from_value(answer).map_err(|error| {
        tracing::error!(%error, "an answer lost its shape");
        ErrorFrame::new(ErrorCode::Internal, "the broker could not pass the answer on")
    })
}

fn answer(
    cx: &Context,
    kind: &'static str,
    relay_id: Option<String>,
    answer: &impl Serialize,
) -> Result<PeerAnswerTaken, ErrorFrame> {
    let value = serde_json::to_value(answer)
        .map_err(|_| ErrorFrame::new(ErrorCode::Internal, "the broker could not pass the answer on"))?;
    // Original clients send the forwarded id as the request's own.
    let id = relay_id.or_else(|| cx.request_id.clone()).unwrap_or_default();
    let delivered = cx.broker.relay.answer(kind, &id, &cx.session.presence, value);
    Ok(PeerAnswerTaken { delivered })
}

impl Handle<PeerFileRequest> for Broker {
    async fn handle(cx: Context, request: PeerFileRequest) -> Result<PeerFileResult, ErrorFrame> {
        let target = target(&cx, &request.target_pubkey, request.sealed.is_some())?;
        ask(&cx, FILE, &target, |id| {
            ServerFrame::PeerFileRequest(Box::new(PeerFileRequestForward {
                requester_pubkey: cx.session.sender_key().clone(),
                file_path: request.file_path,
                sealed: request.sealed,
                relay_id: id.clone(),
                request_id: Some(id),
            }))
        })
        .await
    }
}

impl Handle<PeerFileResponse> for Broker {
    async fn handle(cx: Context, request: PeerFileResponse) -> Result<PeerAnswerTaken, ErrorFrame> {
        let result = PeerFileResult {
            file_path: request.file_path,
            content: request.content,
            error: request.error,
            sealed: request.sealed,
        };
        answer(&cx, FILE, request.relay_id, &result)
    }
}

impl Handle<PeerDirRequest> for Broker {
    async fn handle(cx: Context, request: PeerDirRequest) -> Result<PeerDirResult, ErrorFrame> {
        let target = target(&cx, &request.target_pubkey, request.sealed.is_some())?;
        ask(&cx, DIR, &target, |id| {
            ServerFrame::PeerDirRequest(Box::new(PeerDirRequestForward {
                requester_pubkey: cx.session.sender_key().clone(),
                dir_path: request.dir_path,
                pattern: request.pattern,
                sealed: request.sealed,
                relay_id: id.clone(),
                request_id: Some(id),
            }))
        })
        .await
    }
}

impl Handle<PeerDirResponse> for Broker {
    async fn handle(cx: Context, request: PeerDirResponse) -> Result<PeerAnswerTaken, ErrorFrame> {
        let result = PeerDirResult {
            dir_path: request.dir_path,
            entries: request.entries,
            error: request.error,
            sealed: request.sealed,
        };
        answer(&cx, DIR, request.relay_id, &result)
    }
}
