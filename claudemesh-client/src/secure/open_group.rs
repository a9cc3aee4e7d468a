//! Opening messages to groups and to everybody.

use super::channel::SecureChannel;
use super::open::{claimed_member, sender_name};
use super::opened::OpenedPush;
use super::seal_group::EPOCH_1;
use super::target::{claimed_kind, kind_of, label_of};
use super::warning;
use crate::Transport;
use claudemesh_crypto::group::{
    ContentContext, EpochId, GroupEnvelope, GroupError, GroupKeys as _, Label, Opened, RequestReason, Scheme,
    open_group,
};
use claudemesh_crypto::{PublicKey, decode_base64};
use claudemesh_proto::frame::Push;
use claudemesh_proto::model::{GroupSeal, Priority};
use claudemesh_proto::tools::MessageKind;

struct Read {
    opened: Opened,
    /// As the sender meant it.
    priority: Priority,
}

impl SecureChannel {
    pub(super) async fn open_multicast(
        &self,
        push: &Push,
        sealed: &GroupSeal,
        transport: &dyn Transport,
    ) -> OpenedPush {
        let mut opened = OpenedPush::new(claimed_kind(push.target.as_ref()).unwrap_or(MessageKind::Group));
        opened.sender_member = claimed_member(push);
        let Some((envelope, session)) = to_envelope(push, sealed) else {
            opened.warnings.push(warning::group_altered());
            return opened;
        };
        opened.kind = kind_of(&envelope.label);
        let mut outcome = self.read(&envelope, &session, push);
        if may_be_behind(&outcome) {
            // A failure shows in the next try.
            let caught_up = self.catch_up(transport).await;
            outcome = self.read(&envelope, &session, push);
            if caught_up.is_ok() {
                self.tell_withheld(&outcome, &envelope, &sender_name(push));
            }
        }
        match outcome {
            Some(Ok(read)) => self.accept(push, &envelope, &session, read, &mut opened),
            None => self.explain_missing(&mut opened, transport).await,
            Some(Err(error)) => self.explain(error, &mut opened, transport).await,
        }
        opened
    }

    /// `None` without a log. A changed priority is found out by trying the others: it is bound, not encrypted.
    fn read(&self, envelope: &GroupEnvelope, session: &PublicKey, push: &Push) -> Option<Result<Read, GroupError>> {
        self.with_keys(|keys| {
            let open = |priority: Priority| {
                let context = ContentContext {
                    message_id: push.message_id.as_str(),
                    seq: envelope.seq,
                    priority: priority.as_str(),
                    sender_session: *session,
                };
                open_group(keys, envelope, &context).map(|opened| Read { opened, priority })
            };
            match open(push.priority) {
                Err(GroupError::Unreadable) => Priority::ALL
                    .into_iter()
                    .filter(|priority| *priority != push.priority)
                    .find_map(|priority| open(priority).ok())
                    .ok_or(GroupError::Unreadable),
                other => other,
            }
        })
    }

    fn accept(&self, push: &Push, envelope: &GroupEnvelope, session: &PublicKey, read: Read, opened: &mut OpenedPush) {
        let Read {
            opened: content,
            priority,
        } = read;
        self.count_message();
        let from = sender_name(push);
        let claimed = opened.sender_member;
        opened.authenticated = true;
        opened.sender_member = Some(content.member);
        match std::str::from_utf8(&content.plaintext) {
            Ok(text) => opened.text = Some(text.to_owned()),
            Err(_) => opened.warnings.push(warning::not_text()),
        }
        if claimed.is_some_and(|member| member != content.member) {
            opened.warnings.push(warning::other_sender(&from, &content.member));
        }
        if push
            .sender_pubkey
            .parse::<PublicKey>()
            .is_ok_and(|shown| shown != *session && shown != content.member)
        {
            opened.warnings.push(warning::changed(
                "sending session",
                &session.short(),
                &push.sender_pubkey,
            ));
        }
        if priority != push.priority {
            opened
                .warnings
                .push(warning::changed("priority", priority.as_str(), push.priority.as_str()));
        }
        if let Some(target) = &push.target
            && label_of(&target.spec).ok().as_ref() != Some(&envelope.label)
        {
            opened
                .warnings
                .push(warning::changed("target", &shown_label(&envelope.label), &target.spec));
        }
        if content.former {
            opened.warnings.push(warning::former(&from));
        }
        self.judge_arrival(opened, session, &envelope.label, priority.as_str(), envelope.seq, push);
    }

    async fn explain(&self, error: GroupError, opened: &mut OpenedPush, transport: &dyn Transport) {
        match error {
            GroupError::UnknownEpoch { .. } => self.explain_missing(opened, transport).await,
            GroupError::NotOnRoster(device) => opened.warnings.push(warning::ghost(&device)),
            GroupError::Fork => opened.warnings.push(warning::group_fork()),
            _ => opened.warnings.push(warning::group_altered()),
        }
    }

    /// The message is under a key that the log does not name, although it was read to its end: the log that we are shown is
    /// not the whole. Told at once and once for each key, since the message itself waits.
    fn tell_withheld(&self, outcome: &Option<Result<Read, GroupError>>, envelope: &GroupEnvelope, from: &str) {
        let id = EpochId {
            generation: envelope.generation,
            epoch: envelope.epoch,
        };
        let is_later = self.with_keys(|keys| id > keys.epoch_id()) == Some(true);
        if !is_later || !matches!(outcome, Some(Err(GroupError::UnknownEpoch { .. }))) {
            return;
        }
        let is_news = self.cache().withheld.replace(id) != Some(id);
        if is_news {
            self.events.warn(warning::withheld_epoch(from));
        }
    }

    /// Asks for the key, or for admission.
    async fn explain_missing(&self, opened: &mut OpenedPush, transport: &dyn Transport) {
        let member = self.with_keys(|keys| keys.is_member()) == Some(true);
        opened.key_missing = true;
        opened.warnings.push(if member {
            warning::keys_missing()
        } else {
            warning::no_groups()
        });
        if self.cache().served == Some(false) {
            return;
        }
        // The warning stands whether or not the request gets through; `maintain` repeats it.
        let _ = if member {
            self.request_keys(transport, RequestReason::Missed).await
        } else {
            self.settle(transport).await
        };
    }
}

/// Whether a newer log may open it.
fn may_be_behind(outcome: &Option<Result<Read, GroupError>>) -> bool {
    matches!(
        outcome,
        None | Some(Err(GroupError::UnknownEpoch { .. }
            | GroupError::NotOnRoster(_)
            | GroupError::Fork))
    )
}

fn to_envelope(push: &Push, sealed: &GroupSeal) -> Option<(GroupEnvelope, PublicKey)> {
    if sealed.scheme != EPOCH_1 {
        return None;
    }
    let envelope = GroupEnvelope {
        scheme: Scheme::Epoch1,
        generation: sealed.generation,
        epoch: sealed.epoch,
        key_id: sealed.key_id.clone(),
        seq: sealed.seq,
        label: Label::try_from(sealed.label.clone()).ok()?,
        sender: sealed.device.as_str().parse().ok()?,
        nonce: decode_base64(push.nonce.as_str())?,
        ciphertext: decode_base64(push.ciphertext.as_str())?,
    };
    Some((envelope, sealed.session.as_str().parse().ok()?))
}

fn shown_label(label: &Label) -> String {
    match label.as_str().strip_prefix("group:") {
        Some(name) => format!("@{name}"),
        None => format!("@{label}"),
    }
}
