//! The WebSocket itself.

use super::Address;
use crate::ClientError;
use crate::tls;
use claudemesh_proto::frame::{REQUEST_ID, TYPE};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long TCP, TLS and the upgrade may take together.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Largest message that is read: the broker has no limit of its own for what it sends.
const MAX_INCOMING: usize = 16 * 1024 * 1024;

/// Opens the socket. TLS settings are made here; nothing is installed for the process.
pub(super) async fn dial(address: &Address) -> Result<Socket, ClientError> {
    let connector = match address.url.scheme() {
        "wss" => Connector::Rustls(Arc::new(tls::client_config()?)),
        _ => Connector::Plain,
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_INCOMING))
        .max_frame_size(Some(MAX_INCOMING));
    let dialling =
        tokio_tungstenite::connect_async_tls_with_config(address.url.as_str(), Some(config), true, Some(connector));
    match tokio::time::timeout(DIAL_LIMIT, dialling).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(ClientError::not_connected(describe(&error))),
        Err(_) => Err(ClientError::not_connected(format!(
            "no connection within {} s",
            DIAL_LIMIT.as_secs()
        ))),
    }
}

pub(super) fn describe(error: &Error) -> String {
    match error {
        Error::Http(response) => format!("the address answers HTTP {} instead of a WebSocket", response.status()),
        Error::ConnectionClosed | Error::AlreadyClosed => "the broker closed the connection".to_owned(),
        other => other.to_string(),
    }
}

/// Why the broker closed.
pub(super) fn describe_close(frame: Option<&CloseFrame>) -> String {
    match frame {
        Some(frame) if !frame.reason.is_empty() => {
            format!(
                "the broker closed the connection: {} ({})",
                frame.reason,
                u16::from(frame.code)
            )
        }
        Some(frame) => format!("the broker closed the connection ({})", u16::from(frame.code)),
        None => "the broker closed the connection".to_owned(),
    }
}

/// A frame of the broker, split into what it is, what it answers, and the rest.
pub(super) struct Incoming {
    pub(super) kind: String,
    pub(super) request_id: Option<String>,
    pub(super) body: Value,
}

impl Incoming {
    /// The frame in a WebSocket message; `None` for control messages.
    pub(super) fn read(message: &Message) -> Option<Result<Self, ClientError>> {
        let bytes: &[u8] = match message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
            _ => return None,
        };
        Some(Self::parse(bytes))
    }

    fn parse(bytes: &[u8]) -> Result<Self, ClientError> {
        let protocol = |message: String| ClientError::Protocol { message };
        let mut body: Value = serde_json::from_slice(bytes).map_err(|error| protocol(error.to_string()))?;
        let Some(members) = body.as_object_mut() else {
            return Err(protocol("a frame is no object".to_owned()));
        };
        let text = |value: Value| match value {
            Value::String(text) => Some(text),
            _ => None,
        };
        let kind = members
            .remove(TYPE)
            .and_then(text)
            .ok_or_else(|| protocol("a frame has no type".to_owned()))?;
        let request_id = members.remove(REQUEST_ID).and_then(text);
        Ok(Self { kind, request_id, body })
    }
}
