//! What is written: one record for each thing that happened.

use claudemesh_crypto::SecretKey;
use claudemesh_proto::model::{ClientStage, KeyHex, MessageId, Priority};
use claudemesh_proto::ops::{MessageAck, SendEnvelope};
use claudemesh_proto::tools::ReceivedMessage;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use zeroize::Zeroizing;

/// One thing that happened, in the order in which it did.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(Debug))]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// A session with this key began: numbers start anew.
    Session(SessionSecret),
    /// A message is to be sent, or was sealed again.
    Queued(Box<Queued>),
    /// The broker has a message, or refused it for good, or the program took it back.
    Sent(String),
    /// The program was given a message.
    Taken(Box<Taken>),
    /// A stage is to be told to the broker.
    Acked(MessageAck),
    /// The broker has these stages.
    Settled(Vec<(MessageId, ClientStage)>),
    /// The program is done with a message.
    Confirmed(MessageId),
    /// Messages that were given to the program before, the oldest first.
    Known(Vec<MessageId>),
    /// The last number that the session used for each recipient or label.
    Numbers(Vec<(String, Priority, u64)>),
}

/// A message on its way out.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Queued {
    /// Sealed, with its id.
    pub(crate) envelope: SendEnvelope,
    /// Its sequence number, or a later one that the session has used.
    pub(crate) number: u64,
    /// What it holds, if it may have to be sealed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<Text>,
}

#[cfg(test)]
impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Queued").field(&self.envelope.id).finish()
    }
}

impl Queued {
    /// Recipient or label, and class, whose numbers the message counts in.
    pub(super) fn lane(&self) -> (String, Priority) {
        let envelope = &self.envelope;
        let lane = envelope
            .sealed
            .as_ref()
            .map_or(&envelope.target_spec, |seal| &seal.label);
        (lane.clone(), envelope.priority)
    }
}

/// A message that the program was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// As the program saw it.
    pub(crate) received: ReceivedMessage,
    /// The session that sent it.
    pub(crate) sender_session: Option<KeyHex>,
}

/// Clear text of a message.
#[derive(Clone)]
pub(crate) struct Text(pub(crate) Zeroizing<Vec<u8>>);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(&self.0).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text.into_bytes())))
    }
}

/// Secret key of a session: what was sealed by it can be sent by nobody else.
#[derive(Clone)]
pub(super) struct SessionSecret(pub(super) SecretKey);

#[cfg(test)]
impl std::fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionSecret(of {})", self.0.public())
    }
}

impl Serialize for SessionSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_hex())
    }
}

impl<'de> Deserialize<'de> for SessionSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        SecretKey::from_hex(&text).map(Self).map_err(serde::de::Error::custom)
    }
}
