//! A connection that costs the driver little: the frames of protocol 2, written and read as text. Nothing is encrypted:
//! to the broker one ciphertext is as good as another.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use claudemesh_crypto::{HelloV2, SecretKey};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async};

/// A WebSocket on a plain TCP connection.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// A member that can connect.
#[derive(Clone)]
pub(crate) struct Member {
    /// Its mesh.
    pub(crate) mesh: String,
    /// Its row.
    pub(crate) id: String,
    /// Its key.
    pub(crate) secret: SecretKey,
    /// Its public key in the form of the wire.
    pub(crate) key: String,
}

/// A connected session.
pub(crate) struct Wire {
    /// Frames.
    pub(crate) socket: Socket,
    /// Public key of the session.
    pub(crate) session: String,
    /// Head of the group log, as the broker told it.
    pub(crate) head: Value,
}

/// Opens a WebSocket without delaying small frames.
pub(crate) async fn dial(address: SocketAddr, path: &str) -> anyhow::Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (socket, _) = client_async(format!("ws://{address}{path}"), stream).await?;
    Ok(socket)
}

/// Connects as `member`, as a program that acknowledges messages.
pub(crate) async fn connect(address: SocketAddr, member: &Member) -> anyhow::Result<Wire> {
    let mut socket = dial(address, "/ws").await?;
    socket.send(Message::text(r#"{"type":"hello_challenge"}"#)).await?;
    let challenge = next_json(&mut socket, "challenge").await?;
    let nonce = challenge["nonce"]
        .as_str()
        .context("a challenge without nonce")?
        .to_owned();
    let session = SecretKey::generate();
    let origin = format!("ws://{address}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let timestamp_ms = i64::try_from(now)?;
    let text = HelloV2 {
        origin: &origin,
        nonce: &nonce,
        mesh_id: &member.mesh,
        member_id: &member.id,
        pubkey: member.secret.public(),
        session_pubkey: session.public(),
        timestamp_ms,
    };
    let proof = text.sign(&member.secret, &session)?;
    let hello = json!({
        "type": "hello", "meshId": member.mesh, "memberId": member.id, "pubkey": member.key,
        "sessionPubkey": session.public().to_string(), "timestamp": timestamp_ms,
        "signature": proof.signature.to_string(), "sessionSignature": proof.session_signature.to_string(),
        "protocol": 2, "caps": ["ack"], "nonce": nonce, "origin": origin,
    });
    socket.send(Message::text(hello.to_string())).await?;
    let ack = next_json(&mut socket, "hello_ack").await?;
    Ok(Wire {
        socket,
        session: session.public().to_string(),
        head: ack["head"].clone(),
    })
}

async fn next_json(socket: &mut Socket, wanted: &str) -> anyhow::Result<Value> {
    loop {
        let message = socket.next().await.context("the broker closed the connection")??;
        let Message::Text(text) = message else { continue };
        let value: Value = serde_json::from_str(&text)?;
        match value["type"].as_str() {
            Some(kind) if kind == wanted => return Ok(value),
            Some("error") => bail!("the broker refuses: {text}"),
            _ => {}
        }
    }
}

/// A frame as far as the driver reads it.
#[derive(Debug)]
pub(crate) enum Received<'a> {
    /// A message or an event of the mesh, with its id.
    Push(&'a str),
    /// A message of ours is on disk, for so many members.
    Sent(&'a str, u64),
    /// So many acknowledgements of ours are on disk.
    Acked(u64),
    /// A refusal.
    Error(&'a str),
    /// Anything else.
    Other,
}

/// Reads a frame without building a tree of it. The broker writes `type` first.
pub(crate) fn read(frame: &Utf8Bytes) -> Received<'_> {
    let text = frame.as_str();
    if text.starts_with(r#"{"type":"push""#) {
        return field(text, r#""messageId":""#).map_or(Received::Other, Received::Push);
    }
    if text.starts_with(r#"{"type":"ack""#) {
        let recipients = number(text, r#""recipients":"#);
        return field(text, r#""messageId":""#).map_or(Received::Other, |id| Received::Sent(id, recipients));
    }
    if text.contains(r#""acked":"#) {
        return Received::Acked(number(text, r#""acked":"#));
    }
    if text.starts_with(r#"{"type":"error""#) {
        return Received::Error(text);
    }
    Received::Other
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let start = text.find(name)? + name.len();
    let end = text[start..].find('"')?;
    Some(&text[start..start + end])
}

/// The number behind a name in the text of a frame; 0 if it is not there.
pub(crate) fn number(text: &str, name: &str) -> u64 {
    let Some(start) = text.find(name) else { return 0 };
    let digits = text[start + name.len()..]
        .split(|letter: char| !letter.is_ascii_digit())
        .next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
