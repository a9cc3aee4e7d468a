//! Sending text.

use crate::inner::Inner;
use crate::outbox::{ClearText, PendingSend};
use crate::{ClientError, MeshClient, Message, Resolved, resolve};
use claudemesh_crypto::{PublicKey, random_id};
use claudemesh_proto::limits::MAX_MESSAGE_BYTES;
use claudemesh_proto::model::{DeliveryStage, MessageId, Priority};
use claudemesh_proto::ops::SendAck;
use claudemesh_proto::tools::{MessageSent, SendMessage, SendOutcome};
use futures_util::future::join_all;
use zeroize::Zeroizing;

/// A message that is on disk at the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its id: for receipts and `message_status`.
    pub message_id: MessageId,
    /// Name of the recipient, or the group.
    pub to: String,
    /// How many members it is for.
    pub recipients: u32,
    /// How many members were left out because they refuse such messages from this member.
    pub refused: u32,
    /// Whether an earlier send with the same id had stored it.
    pub duplicate: bool,
}

impl From<&Sent> for MessageId {
    fn from(sent: &Sent) -> Self {
        sent.message_id.clone()
    }
}

impl Sent {
    fn new(to: &Resolved, ack: SendAck) -> Self {
        let SendAck {
            message_id,
            recipients,
            refused,
            duplicate,
            ..
        } = ack;
        // An original broker does not count.
        let recipients = if recipients == 0 && refused == 0 { 1 } else { recipients };
        Self {
            message_id,
            to: to.name().to_owned(),
            recipients,
            refused,
            duplicate,
        }
    }
}

impl MeshClient {
    /// Encrypts `text` and sends it to a peer or group: see [`MeshClient::resolve`] for what `target` may be. Returns when
    /// the broker has it on disk.
    ///
    /// # Errors
    /// Those of [`MeshClient::resolve`], of sealing, and of [`MeshClient::send_sealed`]. Nothing is ever sent in the clear.
    pub async fn send_text(&self, target: &str, text: &str, priority: Priority) -> Result<Sent, ClientError> {
        let to = self.resolve(target).await?;
        self.send_to(&to, text, priority).await
    }

    /// [`MeshClient::send_text`] to a target that is resolved already.
    ///
    /// # Errors
    /// Those of sealing, and of [`MeshClient::send_sealed`].
    pub async fn send_to(&self, to: &Resolved, text: &str, priority: Priority) -> Result<Sent, ClientError> {
        let pending = self.queue_to(to, text, priority).await?;
        let ack = self.inner().settle(pending).await?;
        Ok(Sent::new(to, ack))
    }

    /// Encrypts `text`, puts it into the outbox and returns at once. Many messages may be on their way; those to one
    /// recipient arrive in the order of the calls.
    ///
    /// # Errors
    /// Those of sealing, and [`ClientError::QueueFull`].
    pub async fn queue_to(&self, to: &Resolved, text: &str, priority: Priority) -> Result<PendingSend, ClientError> {
        post(
            self.inner(),
            to,
            text,
            Post {
                priority,
                ..Post::default()
            },
        )
        .await
    }

    /// Answers a message: to its sender, of whom the same session is preferred.
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] when the message has no sender that can be answered (events, webhooks), and those of
    /// [`MeshClient::send_to`].
    pub async fn reply(&self, message: &Message, text: &str, priority: Priority) -> Result<Sent, ClientError> {
        let parse = |key: &str| key.parse::<PublicKey>().ok();
        let member = message.from_pubkey.as_ref().and_then(|key| parse(key.as_str()));
        let session = message.sender_session().and_then(|key| parse(key.as_str()));
        let key = member
            .or(session)
            .ok_or_else(|| ClientError::invalid("message", "has no sender that can be answered"))?;
        // Original clients open with their session's key only.
        let is_original = self.protocol() < 2
            || (!message.authenticated && resolve::runs_original_clients(self.inner(), &key).await?);
        let key = if is_original { session.unwrap_or(key) } else { key };
        let session = session.filter(|session| *session != key);
        self.send_to(
            &Resolved::Direct {
                key,
                session,
                name: message.from.clone(),
            },
            text,
            priority,
        )
        .await
    }

    /// The tool `send_message`: one outcome per distinct recipient, so that one unknown name does not hold up the others.
    ///
    /// # Errors
    /// When the text is empty or too long. Failures of single recipients are in the outcomes.
    pub async fn send_message(&self, request: SendMessage) -> Result<MessageSent, ClientError> {
        check_text(&request.message)?;
        let targets: Vec<&str> = request.to.as_slice().iter().map(String::as_str).collect();
        Ok(MessageSent {
            results: self.send_each(&targets, &request.message, request.priority).await,
        })
    }

    /// Sends to each target once, in order; waits for the acknowledgements of all together.
    pub(crate) async fn send_each(&self, targets: &[&str], text: &str, priority: Priority) -> Vec<SendOutcome> {
        let mut seen: Vec<Resolved> = Vec::new();
        let mut outcomes = Vec::new();
        for target in targets {
            let to = match self.resolve(target).await {
                Ok(to) => to,
                Err(error) => {
                    outcomes.push((*target, Err(error)));
                    continue;
                }
            };
            if seen.iter().any(|known| known.same_as(&to)) {
                continue;
            }
            outcomes.push((*target, self.queue_to(&to, text, priority).await));
            seen.push(to);
        }
        let settled = outcomes.into_iter().map(|(target, queued)| async move {
            let settled = match queued {
                Ok(pending) => self.inner().settle(pending).await,
                Err(error) => Err(error),
            };
            self.outcome(target, settled)
        });
        join_all(settled).await
    }

    fn outcome(&self, target: &str, settled: Result<SendAck, ClientError>) -> SendOutcome {
        let mut outcome = SendOutcome {
            to: target.to_owned(),
            mesh: Some(self.identity().slug.clone()),
            message_id: None,
            stage: None,
            recipients: 0,
            error: None,
        };
        match settled {
            Ok(ack) => {
                outcome.recipients = ack.recipients;
                outcome.message_id = Some(ack.message_id);
                outcome.stage = Some(DeliveryStage::Accepted);
            }
            Err(error) => outcome.error = Some(error_text(&error)),
        }
        outcome
    }
}

/// What went wrong and what to do, in one text.
pub(crate) fn error_text(error: &ClientError) -> String {
    let code = error.code();
    match error {
        // The message says it.
        ClientError::InvalidArgument { .. }
        | ClientError::Unsupported { .. }
        | ClientError::Crypto { .. }
        | ClientError::Journal { .. } => error.to_string(),
        _ => format!("{code}: {} {}", error.message(), code.next_step()),
    }
}

fn check_text(text: &str) -> Result<(), ClientError> {
    if text.is_empty() {
        return Err(ClientError::invalid("message", "is empty"));
    }
    if text.len() > MAX_MESSAGE_BYTES {
        let message = format!(
            "has {} bytes, the limit is {MAX_MESSAGE_BYTES}; put large content into a file and send its name",
            text.len()
        );
        return Err(ClientError::invalid("message", message));
    }
    Ok(())
}

/// What goes with a text.
#[derive(Clone, Copy, Default)]
pub(crate) struct Post<'a> {
    pub(crate) priority: Priority,
    pub(crate) subtype: Option<&'a str>,
    /// How long it may wait, in milliseconds.
    pub(crate) ttl_ms: Option<u64>,
    /// Id of the message, for a caller that has to know it before the message can arrive; a new one if absent.
    pub(crate) id: Option<&'a str>,
}

/// Seals a text and puts it into the outbox.
pub(crate) async fn post(inner: &Inner, to: &Resolved, text: &str, how: Post<'_>) -> Result<PendingSend, ClientError> {
    check_text(text)?;
    let id = how.id.map_or_else(random_id, str::to_owned);
    let bytes = text.as_bytes();
    let secure = &inner.secure;
    let (mut envelope, kept) = match to {
        Resolved::Direct { key, session, .. } => (
            secure.seal_direct(key, session.as_ref(), bytes, &id, how.priority, how.subtype)?,
            None,
        ),
        Resolved::Multicast { spec } => {
            let sealed = secure
                .seal_multicast(spec, bytes, &id, how.priority, how.subtype, inner)
                .await?;
            let text: ClearText = Zeroizing::new(bytes.to_vec());
            (sealed, Some(text))
        }
    };
    envelope.ttl_ms = how.ttl_ms;
    inner.enqueue(envelope, kept)
}
