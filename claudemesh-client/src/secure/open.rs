//! Opening what the broker pushes.

use super::channel::SecureChannel;
use super::lanes::Arrival;
use super::opened::OpenedPush;
use super::warning;
use crate::Transport;
use claudemesh_crypto::PublicKey;
use claudemesh_crypto::group::{Head, HeadRelation, Label};
use claudemesh_proto::frame::Push;
use claudemesh_proto::tools::MessageKind;

impl SecureChannel {
    /// Opens a message and says how far it can be trusted. Asks the broker for the group log when the message needs a newer
    /// one than we have. Never fails: what is wrong is in the warnings.
    pub async fn open(&self, push: &Push, transport: &dyn Transport) -> OpenedPush {
        if push.is_event() {
            return OpenedPush::new(MessageKind::Event);
        }
        if let Some(sealed) = &push.sealed {
            return self.open_multicast(push, sealed, transport).await;
        }
        let (mut opened, head) = self.open_classic(push);
        if let Some(head) = head {
            self.compare_heads(&head, &sender_name(push), &mut opened, transport)
                .await;
        }
        opened
    }

    /// The sender of a direct message stands elsewhere in the group log: follow, or tell.
    async fn compare_heads(&self, theirs: &Head, from: &str, opened: &mut OpenedPush, transport: &dyn Transport) {
        let compare = || self.with_keys(|keys| keys.state().compare(theirs));
        let mut relation = compare();
        if matches!(relation, None | Some(HeadRelation::Ahead)) && self.cache().served != Some(false) {
            // A failure shows in the comparison, and has its own warning.
            let caught_up = self.catch_up(transport).await;
            relation = compare();
            if caught_up.is_err() && relation.is_none() {
                return;
            }
        }
        match relation {
            Some(HeadRelation::Fork) => opened.warnings.push(warning::fork()),
            None | Some(HeadRelation::Ahead) => opened.warnings.push(warning::withheld(from)),
            Some(HeadRelation::Same | HeadRelation::Behind | HeadRelation::Unknown) => {}
        }
    }

    /// Judges number and id of an opened message; hides a replay.
    pub(super) fn judge_arrival(
        &self,
        opened: &mut OpenedPush,
        session: &PublicKey,
        label: &Label,
        priority: &str,
        seq: u64,
        push: &Push,
    ) {
        let arrival = self
            .lanes()
            .arrived(session, label, priority, seq, push.message_id.as_str());
        match arrival {
            Arrival::New { missing: 0 } => {}
            Arrival::New { missing } => opened.warnings.push(warning::gap(missing, &sender_name(push))),
            Arrival::Late => opened.warnings.push(warning::late()),
            Arrival::Duplicate => opened.duplicate = true,
            Arrival::Replay => {
                opened.text = None;
                opened.duplicate = true;
                opened.warnings.push(warning::replay(&sender_name(push)));
            }
        }
    }
}

/// How to call the sender in a sentence.
pub(super) fn sender_name(push: &Push) -> String {
    let key = || {
        push.sender_member
            .as_ref()
            .map_or(push.sender_pubkey.as_str(), |key| key.as_str())
    };
    match &push.sender_name {
        Some(name) if !name.is_empty() => name.clone(),
        _ => key().get(..8).unwrap_or(key()).to_owned(),
    }
}

/// The sending member, as the broker says.
pub(super) fn claimed_member(push: &Push) -> Option<PublicKey> {
    push.sender_member.as_ref().and_then(|key| key.as_str().parse().ok())
}
