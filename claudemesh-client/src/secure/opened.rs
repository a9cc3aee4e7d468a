//! A received message, opened.

use claudemesh_crypto::PublicKey;
use claudemesh_proto::tools::MessageKind;
use std::fmt;

/// What a `push` says, and how far it can be trusted.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenedPush {
    /// The text; `None` for events and for what cannot be read or must not be shown.
    pub text: Option<String>,
    /// Direct, group, broadcast or event. From what is sealed where there is something sealed.
    pub kind: MessageKind,
    /// Whether the sender is proven. If not, the name beside the message is the broker's word.
    pub authenticated: bool,
    /// The sending member; proven if `authenticated`.
    pub sender_member: Option<PublicKey>,
    /// This session has opened the same message before: acknowledge it again and show it once.
    pub duplicate: bool,
    /// It may become readable when this device gets another group key.
    pub key_missing: bool,
    /// Remarks for the reader.
    pub warnings: Vec<String>,
}

impl OpenedPush {
    pub(super) fn new(kind: MessageKind) -> Self {
        Self {
            text: None,
            kind,
            authenticated: false,
            sender_member: None,
            duplicate: false,
            key_missing: false,
            warnings: Vec::new(),
        }
    }
}

impl fmt::Debug for OpenedPush {
    /// Length instead of the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedPush")
            .field("bytes", &self.text.as_ref().map(String::len))
            .field("kind", &self.kind)
            .field("authenticated", &self.authenticated)
            .field("sender_member", &self.sender_member)
            .field("duplicate", &self.duplicate)
            .field("warnings", &self.warnings)
            .finish()
    }
}
