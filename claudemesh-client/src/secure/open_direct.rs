//! Opening messages in the classic formats: sealed to this member, or clear text of original clients.

use super::channel::SecureChannel;
use super::open::{claimed_member, sender_name};
use super::opened::OpenedPush;
use super::target::claimed_kind;
use super::{heads, warning};
use claudemesh_crypto::group::{Head, Label};
use claudemesh_crypto::{DirectMeta, EnvelopeError, Opened, PublicKey, SecretKey, open_incoming, open_meta};
use claudemesh_proto::frame::Push;
use claudemesh_proto::model::Timestamp;
use claudemesh_proto::tools::MessageKind;

impl SecureChannel {
    /// Opens a message that is not sealed to a group; also gives the sender's head of the group log.
    pub(super) fn open_classic(&self, push: &Push) -> (OpenedPush, Option<Head>) {
        let claimed = claimed_kind(push.target.as_ref());
        let subtype = push.subtype.as_deref();
        let keys = [&self.session, &self.identity.member];
        let (nonce, ciphertext) = (push.nonce.as_str(), push.ciphertext.as_str());
        let mut opened = OpenedPush::new(claimed.unwrap_or(MessageKind::Direct));
        opened.sender_member = claimed_member(push);
        match open_incoming(&keys, subtype, &push.sender_pubkey, nonce, ciphertext) {
            Opened::Event => (OpenedPush::new(MessageKind::Event), None),
            Opened::Plaintext { text, .. } => {
                opened.text = Some(text);
                opened
                    .warnings
                    .push(warning::clear_text(claimed == Some(MessageKind::Direct)));
                (opened, None)
            }
            Opened::Undecryptable => {
                opened.warnings.push(warning::unreadable());
                (opened, None)
            }
            Opened::Direct { text } => {
                opened.kind = MessageKind::Direct;
                match push.sender_pubkey.parse() {
                    Ok(session) => self.check_direct(push, &session, text, opened),
                    Err(_) => (opened, None),
                }
            }
        }
    }

    fn check_direct(
        &self,
        push: &Push,
        session: &PublicKey,
        text: String,
        mut opened: OpenedPush,
    ) -> (OpenedPush, Option<Head>) {
        let from = sender_name(push);
        let claimed = opened.sender_member;
        // The box is proof enough where the member key itself sealed.
        opened.authenticated = claimed.is_none_or(|member| member == *session);
        let meta = self.open_meta_of(push, session, text.as_bytes());
        opened.text = Some(text);
        let (meta, recipient) = match meta {
            Some(Ok(meta)) => meta,
            Some(Err(error)) => {
                opened.authenticated = false;
                opened.warnings.push(warning::meta_bad(&reason(error)));
                return (opened, None);
            }
            None => {
                let mut lanes = self.lanes();
                let expected = lanes.had_meta(session) || claimed.is_some_and(|member| lanes.had_meta(&member));
                opened.duplicate = lanes.seen(session, push.message_id.as_str());
                lanes.note(session, push.message_id.as_str());
                drop(lanes);
                if expected {
                    opened.authenticated = false;
                    opened.warnings.push(warning::meta_missing(&from));
                } else if !opened.authenticated {
                    opened.warnings.push(warning::unproven(&from));
                }
                return (opened, None);
            }
        };
        self.check_sender(push, session, &recipient, &meta, &mut opened);
        check_facts(push, &meta, &mut opened);
        if let Ok(label) = Label::custom("direct", &recipient.to_string()) {
            self.judge_arrival(&mut opened, session, &label, &meta.priority, meta.seq, push);
        }
        (opened, meta.head.as_ref().and_then(heads::from_meta))
    }

    /// The metadata and the key of ours that it was sealed to.
    fn open_meta_of(
        &self,
        push: &Push,
        session: &PublicKey,
        body: &[u8],
    ) -> Option<Result<(DirectMeta, PublicKey), EnvelopeError>> {
        let sealed = push.meta.as_ref()?;
        let open = |key: &SecretKey| {
            open_meta(&[key], session, sealed.nonce.as_str(), sealed.ciphertext.as_str(), body)
                .map(|meta| (meta, key.public()))
        };
        Some(match open(&self.session) {
            Err(EnvelopeError::Undecryptable) => open(&self.identity.member),
            other => other,
        })
    }

    /// Which member the session belongs to.
    fn check_sender(
        &self,
        push: &Push,
        session: &PublicKey,
        recipient: &PublicKey,
        meta: &DirectMeta,
        opened: &mut OpenedPush,
    ) {
        let from = sender_name(push);
        let claimed = opened.sender_member;
        let mut lanes = self.lanes();
        lanes.has_meta(*session);
        let Some(proof) = &meta.sender else {
            drop(lanes);
            if !opened.authenticated {
                opened.warnings.push(warning::unproven(&from));
            }
            return;
        };
        // Over the sealed id, so that a changed one shows as such and not as a false proof.
        if proof.verify(self.mesh_id(), &meta.id, session, recipient).is_err() {
            drop(lanes);
            opened.authenticated = false;
            opened.warnings.push(warning::bad_proof(&from));
            return;
        }
        lanes.has_meta(proof.member);
        drop(lanes);
        if claimed.is_some_and(|member| member != proof.member) {
            opened.warnings.push(warning::other_sender(&from, &proof.member));
        }
        opened.authenticated = true;
        opened.sender_member = Some(proof.member);
    }
}

/// How much later than it was sealed a message may reach the broker without a remark: clocks differ.
const MAX_AGE_MS: i64 = 10 * 60 * 1000;

/// What the broker shows beside the message must be what was sealed.
fn check_facts(push: &Push, meta: &DirectMeta, opened: &mut OpenedPush) {
    if meta.id != push.message_id.as_str() {
        opened
            .warnings
            .push(warning::changed("id", &meta.id, push.message_id.as_str()));
    }
    if meta.priority != push.priority.as_str() {
        opened
            .warnings
            .push(warning::changed("priority", &meta.priority, push.priority.as_str()));
    }
    // A new process has no numbers to tell a repetition by, but an old message has an old time.
    if push.created_at.as_ms().saturating_sub(meta.sent_at) > MAX_AGE_MS {
        opened
            .warnings
            .push(warning::old(Timestamp::from_ms(meta.sent_at), push.created_at));
    }
    if let Some(kind) = claimed_kind(push.target.as_ref())
        && kind != MessageKind::Direct
    {
        opened
            .warnings
            .push(warning::changed("target", "a direct message", "a message to several"));
    }
}

fn reason(error: EnvelopeError) -> String {
    match error {
        EnvelopeError::DigestMismatch => "they belong to another message".to_owned(),
        EnvelopeError::WrongDirection => "they name another sender or recipient".to_owned(),
        EnvelopeError::MetaFormat { .. } => "a newer version wrote them".to_owned(),
        _ => "they cannot be opened".to_owned(),
    }
}
