//! The hello: version 2 with a challenge of the broker, or the original's where the broker knows no other.

use super::Address;
use super::socket::{Incoming, Socket, describe, describe_close, dial};
use crate::ClientError;
use crate::clock::now_ms;
use crate::identity::key_hex;
use crate::inner::Inner;
use claudemesh_crypto::{HelloV2, sign_hello_v1};
use claudemesh_proto::frame::Frame;
use claudemesh_proto::hello::{Challenge, HELLO, HELLO_CHALLENGE, Hello, HelloAck, HelloChallenge, caps};
use claudemesh_proto::model::{EpochHead, HexHash, HexSignature};
use claudemesh_proto::{ErrorCode, ErrorFrame, PROTOCOL_VERSION};
use futures_util::{SinkExt as _, StreamExt as _};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;

/// How long the broker may take to acknowledge the hello.
const ACK_LIMIT: Duration = Duration::from_secs(5);
/// How long to wait for a challenge before the broker is taken for an original one that dropped the question.
const CHALLENGE_LIMIT: Duration = Duration::from_secs(2);
/// Difference of the clocks from which on the person is told.
const CLOCK_WARNING_MS: u64 = 30_000;

/// An accepted connection.
pub(super) struct Established {
    pub(super) socket: Socket,
    pub(super) ack: HelloAck,
    /// Frames that came before the acknowledgement.
    pub(super) early: Vec<Incoming>,
}

/// Dials and says hello.
pub(super) async fn establish(inner: &Inner) -> Result<Established, ClientError> {
    let address = Address::parse(&inner.identity.broker_url)?;
    let mut handshake = Handshake {
        socket: dial(&address).await?,
        early: Vec::new(),
    };
    handshake.write(HELLO_CHALLENGE, &HelloChallenge {}).await?;
    let hello = match handshake.challenge().await? {
        Some(challenge) => hello_v2(inner, &address, challenge)?,
        None if inner.options.protocol_v1_fallback => hello_v1(inner),
        None => {
            return Err(ClientError::Unsupported {
                what: "the hello of protocol 2".to_owned(),
            });
        }
    };
    handshake.write(HELLO, &hello).await?;
    let ack = handshake.acknowledgement().await?;
    Ok(Established {
        socket: handshake.socket,
        ack,
        early: handshake.early,
    })
}

struct Handshake {
    socket: Socket,
    early: Vec<Incoming>,
}

impl Handshake {
    async fn write(&mut self, kind: &str, body: &impl serde::Serialize) -> Result<(), ClientError> {
        let text = Frame::new(kind, body)
            .to_json()
            .map_err(|error| ClientError::Protocol {
                message: error.to_string(),
            })?;
        self.socket
            .send(Message::text(text))
            .await
            .map_err(|error| ClientError::not_connected(describe(&error)))
    }

    /// The next frame; `None` at the deadline.
    async fn read(&mut self, deadline: Instant) -> Result<Option<Incoming>, ClientError> {
        loop {
            let message = match timeout_at(deadline, self.socket.next()).await {
                Err(_) => return Ok(None),
                Ok(None) => return Err(ClientError::not_connected(describe_close(None))),
                Ok(Some(Err(error))) => return Err(ClientError::not_connected(describe(&error))),
                Ok(Some(Ok(message))) => message,
            };
            match message {
                Message::Close(frame) => return Err(ClientError::not_connected(describe_close(frame.as_ref()))),
                message => {
                    if let Some(frame) = Incoming::read(&message) {
                        return frame.map(Some);
                    }
                }
            }
        }
    }

    /// The broker's challenge; `None` from a broker that knows none.
    async fn challenge(&mut self) -> Result<Option<Challenge>, ClientError> {
        let deadline = Instant::now() + CHALLENGE_LIMIT;
        while let Some(frame) = self.read(deadline).await? {
            match frame.kind.as_str() {
                "challenge" => return read(frame).map(Some),
                "error" => {
                    let error: ErrorFrame = read(frame)?;
                    return match error.code {
                        ErrorCode::NoHello | ErrorCode::UnknownType => Ok(None),
                        _ => Err(error.into()),
                    };
                }
                _ => self.early.push(frame),
            }
        }
        Ok(None)
    }

    async fn acknowledgement(&mut self) -> Result<HelloAck, ClientError> {
        let deadline = Instant::now() + ACK_LIMIT;
        while let Some(frame) = self.read(deadline).await? {
            match frame.kind.as_str() {
                "hello_ack" => return read(frame),
                "error" => {
                    let error: ErrorFrame = read(frame)?;
                    // Late answer of an original broker to the question for a challenge.
                    if error.code != ErrorCode::NoHello {
                        return Err(error.into());
                    }
                }
                _ => self.early.push(frame),
            }
        }
        Err(ClientError::not_connected(format!(
            "hello was not acknowledged within {} s",
            ACK_LIMIT.as_secs()
        )))
    }
}

fn read<T: serde::de::DeserializeOwned>(frame: Incoming) -> Result<T, ClientError> {
    serde_json::from_value(frame.body).map_err(|error| ClientError::Protocol {
        message: format!("{}: {error}", frame.kind),
    })
}

/// What both versions tell. `timestamp` and `signature` are left to fill in.
fn hello(inner: &Inner) -> Hello {
    let options = &inner.options;
    let settings = inner.session.snapshot();
    Hello {
        mesh_id: inner.identity.mesh_id.clone(),
        member_id: inner.identity.member_id.clone(),
        pubkey: inner.identity.public().to_string(),
        session_pubkey: Some(key_hex(&inner.session_public())),
        display_name: options.display_name.clone(),
        session_id: options.session_id.clone(),
        pid: options.pid,
        cwd: options.cwd.clone(),
        hostname: options.hostname.clone(),
        peer_type: options.peer_type.clone(),
        channel: options.channel.clone(),
        model: options.model.clone(),
        groups: settings.groups.unwrap_or_default(),
        timestamp: 0.0,
        signature: String::new(),
        protocol: None,
        caps: Vec::new(),
        nonce: None,
        origin: None,
        session_signature: None,
        observer: options.observer,
        head: None,
        visible: settings.visible,
    }
}

fn hello_v2(inner: &Inner, address: &Address, challenge: Challenge) -> Result<Hello, ClientError> {
    let here = now_ms();
    let there = challenge.server_time.as_ms();
    let mut timestamp_ms = here;
    if here.abs_diff(there) > CLOCK_WARNING_MS {
        // The nonce makes the proof fresh, so the broker's clock serves as well as ours.
        timestamp_ms = there;
        inner.warn(format!(
            "this machine's clock is {} s off the broker's: set it, or times of messages will be wrong",
            here.abs_diff(there) / 1000
        ));
    }
    let identity = &inner.identity;
    let proof = HelloV2 {
        origin: &address.origin,
        nonce: &challenge.nonce,
        mesh_id: identity.mesh_id.as_str(),
        member_id: identity.member_id.as_str(),
        pubkey: identity.public(),
        session_pubkey: inner.session_public(),
        timestamp_ms,
    }
    .sign(&identity.member, &inner.session_key)
    .map_err(ClientError::crypto)?;
    Ok(Hello {
        timestamp: as_number(timestamp_ms),
        signature: proof.signature.to_string(),
        protocol: Some(PROTOCOL_VERSION),
        caps: capabilities(inner),
        session_signature: Some(HexSignature(proof.session_signature.to_string())),
        origin: Some(address.origin.clone()),
        nonce: Some(challenge.nonce),
        head: inner.secure.head().map(|head| EpochHead {
            generation: head.generation,
            index: head.index,
            epoch: head.epoch,
            hash: HexHash(head.hash.to_string()),
        }),
        ..hello(inner)
    })
}

fn capabilities(inner: &Inner) -> Vec<String> {
    let shares = inner.shared.is_some().then_some(caps::PEER_FILES);
    let all = [caps::ACK, caps::RECEIPTS, caps::EPOCH_1].into_iter().chain(shares);
    all.map(str::to_owned).collect()
}

fn hello_v1(inner: &Inner) -> Hello {
    let identity = &inner.identity;
    let timestamp_ms = now_ms();
    let signature = sign_hello_v1(
        &identity.member,
        identity.mesh_id.as_str(),
        identity.member_id.as_str(),
        timestamp_ms,
    );
    Hello {
        timestamp: as_number(timestamp_ms),
        signature: signature.to_string(),
        ..hello(inner)
    }
}

/// Milliseconds as JSON's number: exact for the next 285,000 years.
#[allow(clippy::cast_precision_loss)]
fn as_number(ms: i64) -> f64 {
    ms as f64
}
