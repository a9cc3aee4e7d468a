//! Messages that wait at the broker.

use crate::connection::take_ping;
use crate::inbox::Offer;
use crate::{ClientError, MeshClient, Message};
use claudemesh_proto::limits::MAX_BATCH;
use claudemesh_proto::model::{ClientStage, MessageId, Priority};
use claudemesh_proto::ops::{PullMessages, Waiting};
use claudemesh_proto::tools::ReceivedMessages;
use std::collections::HashSet;

/// What put a message of `check_messages` in front of the model.
const ADAPTER: &str = "tool-result";
/// Most batches that one `check_messages` fetches: 4096 messages.
const MAX_ROUNDS: usize = 16;

/// Messages that were waiting at the broker.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The messages, the oldest first.
    pub messages: Vec<Message>,
    /// What still waits after these.
    pub waiting: Waiting,
}

impl MeshClient {
    /// Fetches up to 256 messages of these delivery classes (all if empty) that wait at the broker, whatever this
    /// session's status. They are acknowledged as delivered and given to nobody else, not to [`MeshClient::recv`] either. In a
    /// persistent client they are to be confirmed like others.
    /// With `peek` they are only looked at and stay where they are.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`]; [`ClientError::Unsupported`] with an original broker, where nothing waits.
    pub async fn pull(&self, priorities: &[Priority], peek: bool) -> Result<Pulled, ClientError> {
        let request = PullMessages {
            priorities: priorities.to_vec(),
            limit: u32::try_from(MAX_BATCH).ok(),
            peek,
        };
        let pulled = self.request(request).await?;
        let inner = self.inner();
        let mut messages = Vec::with_capacity(pulled.messages.len());
        for push in pulled.messages {
            match inner.inbox.repeated(&push.message_id, inner.loan_of(&push).as_ref()) {
                // It came another way in the meantime.
                Some(Offer::Taken) if !peek => {
                    self.acknowledge(&push.message_id, ClientStage::Delivered, None);
                    continue;
                }
                Some(_) if !peek => continue,
                _ => {}
            }
            let opened = inner.secure.open(&push, inner.as_ref()).await;
            if peek {
                messages.push(Message::of_push(inner, &push, opened));
                continue;
            }
            if take_ping(inner, &push, &opened) {
                continue;
            }
            let message = Message::of_push(inner, &push, opened);
            let acknowledge = |id: &MessageId| self.acknowledge(id, ClientStage::Delivered, None);
            match inner.inbox.take_past(&message, acknowledge) {
                Ok(()) => {}
                Err(error) if messages.is_empty() => return Err(error),
                // The broker has the rest.
                Err(error) => {
                    inner.warn(error.to_string());
                    break;
                }
            }
            inner.stats.count(|stats| stats.messages_in += 1);
            messages.push(message);
        }
        Ok(Pulled {
            messages,
            waiting: pulled.waiting,
        })
    }

    /// The tool `check_messages`: everything that waits for this session, here and at the broker, priority `low` included.
    /// The messages are acknowledged as read. In a persistent client they are to be confirmed like others: see
    /// [`MeshClient::confirm`].
    ///
    /// # Errors
    /// Those of [`MeshClient::request`] when nothing was here; otherwise what was here is returned.
    pub async fn check_messages(&self) -> Result<ReceivedMessages, ClientError> {
        let mut messages: Vec<Message> = std::iter::from_fn(|| self.try_recv()).collect();
        for _ in 0..MAX_ROUNDS {
            match self.pull(&[], false).await {
                Ok(pulled) => {
                    messages.extend(pulled.messages);
                    if pulled.waiting.total() == 0 {
                        break;
                    }
                }
                Err(ClientError::Unsupported { .. }) => break,
                Err(error) if messages.is_empty() => return Err(error),
                Err(error) => {
                    self.inner().warn(format!(
                        "messages that wait at the broker could not be fetched: {error}"
                    ));
                    break;
                }
            }
        }
        let mut seen = HashSet::new();
        messages.retain(|message| seen.insert(message.message_id.clone()));
        messages.sort_by_key(|message| message.sent_at);
        for message in &messages {
            message.ack_surfaced(ADAPTER);
            message.ack_read();
        }
        Ok(ReceivedMessages {
            messages: messages.into_iter().map(Message::into_received).collect(),
        })
    }
}
