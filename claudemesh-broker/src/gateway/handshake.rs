//! `hello`: who connects, and the proof. The socket has no session yet, so that everything here is bounded: the time,
//! the number of frames and their size.

use std::sync::Arc;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use claudemesh_crypto::{
    HelloError, HelloV2, HelloV2Proof, encode_base64_url, hello_v1_text, random_bytes, verify_hello_v1,
};
use claudemesh_proto::frame::Frame;
use claudemesh_proto::hello::{Challenge, HELLO, HELLO_CHALLENGE, Hello};
use claudemesh_proto::model::{KeyHex, Timestamp};
use claudemesh_proto::{ErrorCode, ErrorFrame, PROTOCOL_VERSION};
use serde_json::Value;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::connection::{is_too_large, too_large};
use super::pipeline::{Incoming, error_frame, parse};
use super::writer::close_message;
use super::{Ends, Gateway};
use crate::broker::now_ms;
use crate::context::Session;
use crate::errors::ToErrorFrame as _;
use crate::hub::{self, Admitted, LiveMesh};
use crate::outbound::{self, CloseReason, OutboundFrames};
use crate::security::origin;
use crate::security::replay::ReplayError;
use crate::store::StoreError;

/// Most frames that a socket may send before it is authenticated.
const MAX_FRAMES: usize = 16;
/// Largest frame that a socket may send before it is authenticated, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// How long one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits for a `hello` whose proof holds and registers its session. `None`: the socket is closed.
pub(super) async fn shake_hands(
    gateway: &Gateway,
    socket: &mut WebSocket,
    ends: Ends,
) -> Option<(Arc<Session>, OutboundFrames)> {
    let broker = &gateway.broker;
    let deadline = Instant::now() + broker.config.hello_timeout;
    let mut nonce = None;
    for _ in 0..MAX_FRAMES {
        let received = tokio::select! {
            biased;
            () = broker.stopping.cancelled() => {
                close(socket, CloseReason::ShuttingDown.code(), CloseReason::ShuttingDown.as_str()).await;
                return None;
            }
            received = timeout_at(deadline, socket.recv()) => received,
        };
        let Ok(message) = received else {
            let waited = broker.config.hello_timeout.as_millis();
            let error = ErrorFrame::new(ErrorCode::HelloTimeout, format!("no hello within {waited} ms"));
            reject(gateway, socket, &error).await;
            return None;
        };
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            // What is not UTF-8 is not JSON either.
            Some(Ok(Message::Binary(bytes))) => Utf8Bytes::try_from(bytes).unwrap_or_default(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Err(error)) if is_too_large(&error) => {
                oversized(gateway, socket, broker.config.max_message_bytes).await;
                return None;
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
        };
        if text.len() > MAX_BYTES {
            oversized(gateway, socket, MAX_BYTES).await;
            return None;
        }
        let answer = match parse(&text) {
            Err(error) => error_frame(None, &error),
            Ok(Incoming { kind, request_id, .. }) if kind == HELLO_CHALLENGE => challenge(
                nonce.insert(encode_base64_url(&random_bytes::<32>())),
                request_id.as_deref(),
            ),
            Ok(Incoming { kind, body, .. }) if kind == HELLO => {
                return match admit(gateway, body, nonce.take(), ends).await {
                    Ok(accepted) => Some(accepted),
                    Err(error) => {
                        reject(gateway, socket, &error).await;
                        None
                    }
                };
            }
            Ok(_) => error_frame(None, &ErrorFrame::new(ErrorCode::NoHello, "must send hello first")),
        };
        if !write(socket, Message::Text(answer)).await {
            return None;
        }
    }
    reject(
        gateway,
        socket,
        &ErrorFrame::new(ErrorCode::NoHello, "too many frames before hello"),
    )
    .await;
    None
}

fn challenge(nonce: &str, request_id: Option<&str>) -> Utf8Bytes {
    let body = Challenge {
        nonce: nonce.to_owned(),
        protocol: PROTOCOL_VERSION,
        server_time: Timestamp::from_ms(now_ms()),
    };
    let text = Frame {
        kind: "challenge",
        request_id,
        body: &body,
    }
    .to_json();
    Utf8Bytes::from(text.unwrap_or_default())
}

/// Checks a `hello` and registers its session.
async fn admit(
    gateway: &Gateway,
    body: Value,
    nonce: Option<String>,
    ends: Ends,
) -> Result<(Arc<Session>, OutboundFrames), ErrorFrame> {
    let broker = &gateway.broker;
    let now = now_ms();
    if !broker.store.is_available() {
        // At once: a client that waits for an answer takes the broker for dead.
        return Err(StoreError::Unavailable("it is lost".into()).to_error_frame());
    }
    has_room(gateway, &body)?;
    let mut hello = read_hello(gateway, body)?;
    let protocol = hello.protocol.unwrap_or(1).clamp(1, PROTOCOL_VERSION);
    let timestamp_ms = whole_ms(hello.timestamp)?;
    if protocol == 1 {
        // What version 1 does not know is not in force: nothing vouches for it.
        hello.caps.clear();
        hello.head = None;
        let Hello {
            mesh_id,
            member_id,
            pubkey,
            signature,
            ..
        } = &hello;
        verify_hello_v1(
            mesh_id.as_str(),
            member_id.as_str(),
            pubkey,
            timestamp_ms,
            signature,
            now,
        )
        .map_err(refusal)?;
    } else {
        verify_v2(gateway, &hello, timestamp_ms, nonce.as_deref(), ends, now)?;
    }
    let (mesh, admitted) = find_member(gateway, hello, protocol).await?;
    if protocol == 1 {
        // Last, so that only members can fill the memory of used proofs.
        let Hello {
            mesh_id,
            member_id,
            pubkey,
            ..
        } = &admitted.hello;
        let text = hello_v1_text(mesh_id.as_str(), member_id.as_str(), pubkey, timestamp_ms);
        broker
            .replay
            .take_hello(&text, timestamp_ms, now)
            .map_err(|error| match error {
                ReplayError::Replayed => rejected(ErrorCode::Replayed),
                ReplayError::Full => ErrorFrame::new(ErrorCode::Unavailable, error.to_string()).retry_after(60_000),
            })?;
    }
    let (outbound, frames) = outbound::channel();
    let session = hub::connect(broker, &mesh, admitted, outbound).await?;
    Ok((session, frames))
}

/// The original's first check: a full mesh is full for everybody. Judged again when the session is registered.
fn has_room(gateway: &Gateway, body: &Value) -> Result<(), ErrorFrame> {
    let mesh = body.get("meshId").and_then(Value::as_str);
    let loaded = mesh.and_then(|mesh| gateway.broker.hub.loaded(&mesh.into()));
    match loaded {
        Some(mesh) if mesh.lock().mesh.connection_count() >= gateway.broker.config.max_connections_per_mesh => {
            Err(ErrorFrame::new(ErrorCode::Capacity, "mesh at connection capacity").retry_after(5_000))
        }
        _ => Ok(()),
    }
}

fn read_hello(gateway: &Gateway, body: Value) -> Result<Hello, ErrorFrame> {
    if !body.get("timestamp").is_some_and(Value::is_number) {
        return Err(rejected(ErrorCode::TimestampSkew));
    }
    let malformed = |problem: String| ErrorFrame {
        message: format!("hello rejected: malformed: {problem}"),
        ..rejected(ErrorCode::Malformed)
    };
    gateway.hello.check(&body).map_err(|error| ErrorFrame {
        field: error.field,
        ..malformed(error.message)
    })?;
    serde_json::from_value(body).map_err(|error| malformed(error.to_string()))
}

/// The client's clock as it stands in the signed text.
fn whole_ms(timestamp: f64) -> Result<i64, ErrorFrame> {
    // Beyond 2^53 a number of JavaScript is not a whole number of milliseconds any more.
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    if timestamp.abs() > LARGEST {
        return Err(rejected(ErrorCode::TimestampSkew));
    }
    if timestamp.fract() != 0.0 {
        return Err(rejected(ErrorCode::Malformed));
    }
    #[allow(clippy::cast_possible_truncation)]
    Ok(timestamp as i64)
}

fn verify_v2(
    gateway: &Gateway,
    hello: &Hello,
    timestamp_ms: i64,
    expected_nonce: Option<&str>,
    ends: Ends,
    now: i64,
) -> Result<(), ErrorFrame> {
    if now.abs_diff(timestamp_ms) > claudemesh_crypto::HELLO_SKEW_MS.unsigned_abs() {
        return Err(rejected(ErrorCode::TimestampSkew));
    }
    let missing = |field: &str| {
        let message = format!("hello rejected: malformed: {field} is missing or has the wrong shape");
        ErrorFrame {
            message,
            ..rejected(ErrorCode::Malformed)
        }
        .at(format!("/{field}"))
    };
    let pubkey = hello.pubkey.parse().map_err(|_| missing("pubkey"))?;
    let session_key = hello.session_pubkey.as_ref().and_then(|key| key.as_str().parse().ok());
    let session_signature = hello
        .session_signature
        .as_ref()
        .and_then(|signature| signature.as_str().parse().ok());
    let proof = HelloV2Proof {
        signature: hello.signature.parse().map_err(|_| missing("signature"))?,
        session_signature: session_signature.ok_or_else(|| missing("sessionSignature"))?,
    };
    let origin = hello.origin.as_deref().ok_or_else(|| missing("origin"))?;
    let nonce = hello.nonce.as_deref().ok_or_else(|| missing("nonce"))?;
    if !origin::is_ours(origin, &gateway.broker.config.public_origins, ends.local) {
        let shown: String = origin.chars().take(200).collect();
        let message = format!("hello rejected: wrong_origin: `{shown}` is not an address of this broker");
        return Err(ErrorFrame {
            message,
            ..rejected(ErrorCode::WrongOrigin)
        });
    }
    // The nonce of this socket, taken out of its place: it cannot match twice.
    if expected_nonce != Some(nonce) {
        return Err(rejected(ErrorCode::Replayed));
    }
    let text = HelloV2 {
        origin,
        nonce,
        mesh_id: hello.mesh_id.as_str(),
        member_id: hello.member_id.as_str(),
        pubkey,
        session_pubkey: session_key.ok_or_else(|| missing("sessionPubkey"))?,
        timestamp_ms,
    };
    text.verify(&proof, now).map_err(refusal)
}

/// The member with the proven key. Its row counts, not the one that the frame names.
async fn find_member(gateway: &Gateway, hello: Hello, protocol: u32) -> Result<(Arc<LiveMesh>, Admitted), ErrorFrame> {
    let broker = &gateway.broker;
    let unknown = || ErrorFrame::new(ErrorCode::Unauthorized, "pubkey not found in mesh");
    let mesh = broker.hub.mesh(broker, &hello.mesh_id).await?.ok_or_else(unknown)?;
    let member = mesh
        .lock()
        .mesh
        .member_by_key(&hello.pubkey)
        .map(|member| member.facts.id.clone());
    let Some(member) = member else {
        let row = broker
            .store
            .member(&mesh.id, &hello.member_id)
            .await
            .map_err(|error| error.to_error_frame())?;
        // The original's clients know no such code; and only the holder of the key is told.
        let is_revoked = row.is_some_and(|row| row.revoked_at.is_some() && row.pubkey.as_str() == hello.pubkey);
        return Err(match is_revoked && protocol > 1 {
            true => ErrorFrame::new(ErrorCode::Revoked, "this member was removed from the mesh"),
            false => unknown(),
        });
    };
    let member_key = KeyHex(hello.pubkey.clone());
    Ok((
        mesh,
        Admitted {
            member,
            member_key,
            hello,
            protocol,
        },
    ))
}

/// The original's text for a refused proof.
fn rejected(code: ErrorCode) -> ErrorFrame {
    let message = format!("hello rejected: {code}");
    ErrorFrame::new(code, message)
}

fn refusal(error: HelloError) -> ErrorFrame {
    rejected(ErrorCode::from(error.code()))
}

async fn oversized(gateway: &Gateway, socket: &mut WebSocket, limit: usize) {
    let error = too_large(limit);
    gateway.broker.metrics.connection_rejected(&error.code);
    if write(socket, Message::Text(error_frame(None, &error))).await {
        close(socket, CloseReason::TooLarge.code(), CloseReason::TooLarge.as_str()).await;
    }
}

/// Tells why, then closes with the code as the reason.
async fn reject(gateway: &Gateway, socket: &mut WebSocket, error: &ErrorFrame) {
    gateway.broker.metrics.connection_rejected(&error.code);
    tracing::debug!(code = %error.code, "a connection is refused");
    if write(socket, Message::Text(error_frame(None, error))).await {
        close(socket, 1008, error.code.as_str()).await;
    }
}

async fn write(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(WRITE_TIMEOUT, socket.send(message)).await, Ok(Ok(())))
}

/// Closes, and reads away what is still coming so that the close arrives.
async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    if write(socket, close_message(code, reason)).await {
        let drained = async { while let Some(Ok(_)) = socket.recv().await {} };
        let _closed = timeout(Duration::from_secs(2), drained).await;
    }
}
