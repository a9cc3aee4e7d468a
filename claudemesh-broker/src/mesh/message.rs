//! A sealed message on its way, and the frame that carries it.

use axum::extract::ws::Utf8Bytes;
use claudemesh_proto::frame::{Push, ServerFrame};
use claudemesh_proto::model::{
    Base64, Capability, GroupSeal, KeyHex, MeshId, MessageId, Priority, SealedMeta, Target, TargetKind, Timestamp,
};
use std::ops::Deref;
use std::sync::OnceLock;

/// What the store has about a message.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageFacts {
    /// The same for every recipient.
    pub id: MessageId,
    /// Its mesh.
    pub mesh_id: MeshId,
    /// Place in the order of acceptance; larger is later.
    pub seq: i64,
    /// Delivery class.
    pub priority: Priority,
    /// Key of the sending session (of the member without session keys), `system`, or `webhook:<name>`.
    pub sender_pubkey: String,
    /// Key of the sending member; absent for messages of the mesh itself.
    pub sender_member: Option<KeyHex>,
    /// Name of the sending session.
    pub sender_name: Option<String>,
    /// How it was addressed.
    pub target: Target,
    /// Key of the recipient's session to prefer.
    pub session_hint: Option<KeyHex>,
    /// 24 bytes of the envelope, or empty.
    pub nonce: Base64,
    /// The sealed message.
    pub ciphertext: Base64,
    /// Sealed facts about a direct message.
    pub meta: Option<SealedMeta>,
    /// How a group or broadcast message is sealed.
    pub sealed: Option<GroupSeal>,
    /// What kind of message it is, if not an ordinary one.
    pub subtype: Option<String>,
    /// When it was accepted.
    pub created_at_ms: i64,
    /// When it is of no use any more.
    pub expires_at_ms: i64,
}

/// A message, shared by all of its recipients. Its frame is made once.
#[derive(Debug)]
pub struct Message {
    facts: MessageFacts,
    frame: OnceLock<Utf8Bytes>,
}

impl Deref for Message {
    type Target = MessageFacts;

    fn deref(&self) -> &MessageFacts {
        &self.facts
    }
}

impl From<MessageFacts> for Message {
    fn from(facts: MessageFacts) -> Self {
        Self {
            facts,
            frame: OnceLock::new(),
        }
    }
}

impl Message {
    /// Whom it is from, for the order between one sender and one recipient: the member if there is one.
    #[must_use]
    pub fn sender(&self) -> &str {
        self.sender_member
            .as_ref()
            .map_or(self.sender_pubkey.as_str(), KeyHex::as_str)
    }

    /// Whether it is for a group or for everybody.
    #[must_use]
    pub fn is_multicast(&self) -> bool {
        self.target.kind != TargetKind::Direct
    }

    /// Name of the group that it is for, without `@`.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        (self.target.kind == TargetKind::Group).then(|| self.target.spec.strip_prefix('@').unwrap_or(&self.target.spec))
    }

    /// What a recipient has to let the sender do.
    #[must_use]
    pub fn needed_capability(&self) -> Capability {
        if self.is_multicast() {
            Capability::Broadcast
        } else {
            Capability::Dm
        }
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_expired(&self, now_ms: i64) -> bool {
        now_ms >= self.expires_at_ms
    }

    /// About how many bytes it holds.
    #[must_use]
    pub fn size(&self) -> usize {
        const FIXED: usize = 512;
        FIXED + self.ciphertext.as_str().len() + self.meta.as_ref().map_or(0, |meta| meta.ciphertext.as_str().len())
    }

    /// The push for this delivery attempt (from 1; the first is not numbered).
    #[must_use]
    pub fn to_push(&self, attempt: u32) -> Push {
        Push {
            message_id: self.id.clone(),
            mesh_id: self.mesh_id.0.clone(),
            sender_pubkey: self.sender_pubkey.clone(),
            priority: self.priority,
            nonce: self.nonce.clone(),
            ciphertext: self.ciphertext.clone(),
            created_at: Timestamp::from_ms(self.created_at_ms),
            subtype: self.subtype.clone(),
            event: None,
            event_data: None,
            sender_member: self.sender_member.clone(),
            sender_name: self.sender_name.clone(),
            target: Some(self.facts.target.clone()),
            meta: self.meta.clone(),
            sealed: self.sealed.clone(),
            attempt: (attempt > 1).then_some(attempt),
        }
    }

    /// The text of the `push` frame for this delivery attempt. The first attempt's is made once for all recipients.
    ///
    /// # Panics
    /// Never: a push without an event holds only text and numbers, which always serialize.
    #[must_use]
    pub fn push_frame(&self, attempt: u32) -> Utf8Bytes {
        let make = |attempt| -> Utf8Bytes {
            let frame = ServerFrame::Push(Box::new(self.to_push(attempt)));
            frame.to_json().expect("a push of text and numbers serializes").into()
        };
        if attempt > 1 {
            make(attempt)
        } else {
            self.frame.get_or_init(|| make(1)).clone()
        }
    }
}
