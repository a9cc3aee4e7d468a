//! A received message.

use crate::identity::key_hex;
use crate::inner::Inner;
use crate::journal::Taken;
use crate::secure::OpenedPush;
use claudemesh_crypto::PublicKey;
use claudemesh_proto::frame::Push;
use claudemesh_proto::model::{ClientStage, KeyHex};
use claudemesh_proto::tools::{MessageKind, ReceivedMessage};
use std::ops::Deref;
use std::sync::{Arc, Weak};

/// A received and opened message. Its client acknowledges it as `delivered` when the program takes it; what happens after
/// that is for the program to say with [`Message::ack_surfaced`] and [`Message::ack_read`], and in a persistent client with
/// [`Message::confirm`].
#[derive(Clone)]
pub struct Message {
    received: ReceivedMessage,
    sender_session: Option<KeyHex>,
    redelivered: bool,
    client: Weak<Inner>,
}

impl Message {
    /// The message as its reader sees it.
    pub(crate) fn of_push(inner: &Arc<Inner>, push: &Push, opened: OpenedPush) -> Self {
        let from_pubkey = opened
            .sender_member
            .map(|key| key_hex(&key))
            .or_else(|| push.sender_member.clone());
        let name = push.sender_name.clone().filter(|name| !name.is_empty());
        let from = name.unwrap_or_else(|| match &from_pubkey {
            Some(key) => key.short().to_owned(),
            None => push.sender_pubkey.clone(),
        });
        let text = match (opened.text, &push.event_data) {
            (None, Some(data)) if opened.kind == MessageKind::Event => Some(data.to_string()),
            (text, _) => text,
        };
        let received = ReceivedMessage {
            message_id: push.message_id.clone(),
            mesh: inner.identity.slug.clone(),
            from,
            from_pubkey,
            kind: opened.kind,
            target: push
                .target
                .as_ref()
                .filter(|_| opened.kind != MessageKind::Direct)
                .map(|target| target.spec.clone()),
            priority: push.priority,
            text,
            authenticated: opened.authenticated,
            subtype: push.subtype.clone(),
            warnings: opened.warnings,
            sent_at: push.created_at,
        };
        let session = push.sender_pubkey.parse::<PublicKey>().ok().map(|key| key_hex(&key));
        Self::new(received, session, Arc::downgrade(inner))
    }

    pub(crate) fn new(received: ReceivedMessage, sender_session: Option<KeyHex>, client: Weak<Inner>) -> Self {
        Self {
            received,
            sender_session,
            redelivered: false,
            client,
        }
    }

    /// A message that the program had before it was started again.
    pub(crate) fn restored(taken: Taken, client: Weak<Inner>) -> Self {
        Self {
            redelivered: true,
            ..Self::new(taken.received, taken.sender_session, client)
        }
    }

    /// For the journal.
    pub(crate) fn to_taken(&self) -> Taken {
        Taken {
            received: self.received.clone(),
            sender_session: self.sender_session.clone(),
        }
    }

    /// Says that the program is done with the message: a persistent client gives it out again after a restart until then.
    /// Survives a kill of the process from here on. Does nothing in other clients.
    pub fn confirm(&self) {
        if let Some(client) = self.client.upgrade() {
            client.confirm(&self.received.message_id);
        }
    }

    /// Whether the program was given the message before it was started again, and did not confirm it: it may have dealt with
    /// it.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// Tells the sender that the message is in front of the model or person. `adapter` says how: `channel`,
    /// `tool-result`, `terminal` (at most 32 characters). Sent in the background, also after a reconnect.
    pub fn ack_surfaced(&self, adapter: &str) {
        self.acknowledge(ClientStage::Surfaced, Some(adapter));
    }

    /// Tells the sender that the model or person acknowledged the message. Sent in the background, also after a
    /// reconnect.
    pub fn ack_read(&self) {
        self.acknowledge(ClientStage::Read, None);
    }

    /// Key of the session that sent it: an answer prefers this session.
    #[must_use]
    pub fn sender_session(&self) -> Option<&KeyHex> {
        self.sender_session.as_ref()
    }

    /// The message without its client.
    #[must_use]
    pub fn into_received(self) -> ReceivedMessage {
        self.received
    }

    fn acknowledge(&self, stage: ClientStage, adapter: Option<&str>) {
        if let Some(client) = self.client.upgrade() {
            client.acknowledge(&self.received.message_id, stage, adapter);
        }
    }
}

impl Deref for Message {
    type Target = ReceivedMessage;

    fn deref(&self) -> &ReceivedMessage {
        &self.received
    }
}

impl std::fmt::Debug for Message {
    /// Without the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("message_id", &self.received.message_id)
            .field("from", &self.received.from)
            .field("kind", &self.received.kind)
            .field("priority", &self.received.priority)
            .finish_non_exhaustive()
    }
}
