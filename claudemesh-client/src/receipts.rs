//! Receipts of sent messages.

use crate::ClientError;
use crate::claims::{self, Doubt, Doubts};
use crate::inner::Inner;
use crate::pending::lock;
use claudemesh_proto::ErrorCode;
use claudemesh_proto::model::{DeliveryStage, KeyHex, MessageId, Receipt, RecipientStatus, Timestamp};
use claudemesh_proto::ops::{MessageStatus, MessageStatusResult};
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;

/// Of how many sent messages the receipts are kept.
const REMEMBERED: usize = 4096;
/// How often a stream asks the broker while nothing is told: receipts of a lost connection are not repeated.
const ASK_AGAIN: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Track {
    /// Where the message went: a key, `@group`, `@all` or `*`; empty if this client does not know.
    target_spec: String,
    receipts: Vec<Receipt>,
    /// How far each recipient is in `receipts`.
    known: HashMap<KeyHex, DeliveryStage>,
    /// Keys of all recipients, once `message_status` has named them.
    recipients: Option<HashSet<KeyHex>>,
    /// Receipts from before that: what `message_status` tells comes first, so that nobody's story lacks its beginning.
    early: Vec<Receipt>,
}

impl Track {
    /// Stages only advance: one that is behind what was told already is no news.
    fn add(&mut self, receipt: Receipt, doubts: &Doubts) {
        let known = self.known.get(&receipt.recipient).copied();
        if let Some(first) = known.filter(|known| known.is_final() && receipt.stage.is_final()) {
            if first != receipt.stage {
                let (name, then) = (receipt.name, receipt.stage);
                doubts.push(Doubt::TakenBack { name, first, then });
            }
            return;
        }
        if known.is_none_or(|known| rank(known) < rank(receipt.stage)) {
            self.known.insert(receipt.recipient.clone(), receipt.stage);
            self.receipts.push(receipt);
        }
    }

    fn is_final(&self) -> bool {
        let Some(recipients) = &self.recipients else {
            return false;
        };
        let ended = |key: &KeyHex| {
            let end = |receipt: &Receipt| receipt.recipient == *key && receipt.stage.is_final();
            self.receipts.iter().any(end)
        };
        recipients.iter().all(ended)
    }
}

/// Place of a stage on the way of a message.
fn rank(stage: DeliveryStage) -> u8 {
    match stage {
        DeliveryStage::Accepted => 0,
        DeliveryStage::Delivered => 1,
        DeliveryStage::Surfaced => 2,
        DeliveryStage::Read | DeliveryStage::Expired | DeliveryStage::Refused | DeliveryStage::Revoked => 3,
    }
}

#[derive(Default)]
struct State {
    tracks: HashMap<MessageId, Track>,
    order: VecDeque<MessageId>,
}

/// Receipts of the messages that one client sent.
#[derive(Default)]
pub(crate) struct ReceiptBook {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Receipts that may be false.
    pub(crate) doubts: Doubts,
}

impl ReceiptBook {
    /// Keeps receipts of this message from now on. `target_spec` is where it goes, if that is known here.
    pub(crate) fn track(&self, id: &MessageId, target_spec: Option<&str>) {
        let mut state = lock(&self.state);
        if state.tracks.contains_key(id) {
            return;
        }
        let track = Track {
            target_spec: target_spec.unwrap_or_default().to_owned(),
            ..Track::default()
        };
        state.tracks.insert(id.clone(), track);
        state.order.push_back(id.clone());
        if state.order.len() > REMEMBERED
            && let Some(oldest) = state.order.pop_front()
        {
            state.tracks.remove(&oldest);
        }
    }

    /// Notes a receipt.
    pub(crate) fn add(&self, receipt: &Receipt) {
        let mut state = lock(&self.state);
        if let Some(track) = state.tracks.get_mut(&receipt.message_id) {
            if !track.target_spec.is_empty() {
                let doubt = claims::doubt(&track.target_spec, &receipt.recipient, &receipt.name, receipt.stage);
                doubt.into_iter().for_each(|doubt| self.doubts.push(doubt));
            }
            match track.recipients {
                Some(_) => track.add(receipt.clone(), &self.doubts),
                None => track.early.push(receipt.clone()),
            }
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Notes what `message_status` told.
    fn merge(&self, status: &MessageStatusResult) {
        let mut state = lock(&self.state);
        if let Some(track) = state.tracks.get_mut(&status.message_id) {
            track.recipients = Some(
                status
                    .recipients
                    .iter()
                    .map(|recipient| recipient.pubkey.clone())
                    .collect(),
            );
            for recipient in &status.recipients {
                for receipt in receipts_of(status, recipient) {
                    track.add(receipt, &self.doubts);
                }
            }
            for receipt in std::mem::take(&mut track.early) {
                track.add(receipt, &self.doubts);
            }
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Looks for what cannot be true in an answer of `message_status`, also for messages of other sessions: where those went
    /// is the broker's word, too, but it has to agree with itself.
    pub(crate) fn look_into(&self, status: &MessageStatusResult) {
        let known = lock(&self.state)
            .tracks
            .get(&status.message_id)
            .map(|track| track.target_spec.clone());
        let target_spec = known
            .filter(|spec| !spec.is_empty())
            .unwrap_or(status.target_spec.clone());
        for line in &status.recipients {
            let stage = line.stage.unwrap_or(DeliveryStage::Accepted);
            let doubt = claims::doubt(&target_spec, &line.pubkey, &line.name, stage);
            doubt.into_iter().for_each(|doubt| self.doubts.push(doubt));
        }
    }

    /// The receipt at `index`, and whether no further one will come.
    fn look(&self, id: &MessageId, index: usize) -> (Option<Receipt>, bool) {
        let state = lock(&self.state);
        let Some(track) = state.tracks.get(id) else {
            return (None, true);
        };
        (track.receipts.get(index).cloned(), track.is_final())
    }

    fn knows_recipients(&self, id: &MessageId) -> bool {
        lock(&self.state)
            .tracks
            .get(id)
            .is_some_and(|track| track.recipients.is_some())
    }
}

/// The receipts that a recipient's line of `message_status` stands for.
fn receipts_of(status: &MessageStatusResult, recipient: &RecipientStatus) -> Vec<Receipt> {
    let at = |time: Option<Timestamp>| time.or(status.accepted_at).unwrap_or_default();
    let make = |stage: DeliveryStage, time: Option<Timestamp>| Receipt {
        message_id: status.message_id.clone(),
        recipient: recipient.pubkey.clone(),
        name: recipient.name.clone(),
        stage,
        at: at(time),
        adapter: recipient.adapter.clone().filter(|_| stage == DeliveryStage::Surfaced),
        reason: recipient.reason.clone().filter(|_| stage.is_final()),
    };
    let mut receipts = vec![make(DeliveryStage::Accepted, status.accepted_at)];
    let times = [
        (DeliveryStage::Delivered, recipient.delivered_at),
        (DeliveryStage::Surfaced, recipient.surfaced_at),
        (DeliveryStage::Read, recipient.read_at),
    ];
    receipts.extend(
        times
            .into_iter()
            .filter(|(_, time)| time.is_some())
            .map(|(stage, time)| make(stage, time)),
    );
    if let Some(stage) = recipient.stage
        && !receipts.iter().any(|receipt| receipt.stage == stage)
    {
        receipts.push(make(stage, None));
    }
    receipts
}

/// Receipts of one message: see [`MeshClient::receipts`](crate::MeshClient::receipts).
pub struct ReceiptStream(BoxStream<'static, Receipt>);

impl ReceiptStream {
    pub(crate) fn new(inner: Arc<Inner>, id: MessageId) -> Self {
        inner.receipts.track(&id, None);
        let receipts = stream::unfold((inner, id, 0), |(inner, id, index)| async move {
            let receipt = next(&inner, &id, index).await?;
            Some((receipt, (inner, id, index + 1)))
        });
        Self(receipts.boxed())
    }

    /// The next receipt; `None` when no further one will come, or the client is closed.
    pub async fn next(&mut self) -> Option<Receipt> {
        self.0.next().await
    }
}

async fn next(inner: &Arc<Inner>, id: &MessageId, index: usize) -> Option<Receipt> {
    let mut changed = inner.receipts.changed.subscribe();
    if !inner.receipts.knows_recipients(id) {
        ask(inner, id).await.ok()?;
    }
    loop {
        changed.borrow_and_update();
        match inner.receipts.look(id, index) {
            (Some(receipt), _) => return Some(receipt),
            (None, true) => return None,
            (None, false) => {}
        }
        tokio::select! {
            () = inner.shutdown.cancelled() => return None,
            _ = changed.changed() => {}
            () = tokio::time::sleep(ASK_AGAIN) => ask(inner, id).await.ok()?,
        }
    }
}

/// Asks the broker how far the message is. An error only when it is of no use to ask again.
async fn ask(inner: &Arc<Inner>, id: &MessageId) -> Result<(), ClientError> {
    match inner.request(&MessageStatus { message_id: id.clone() }).await {
        Ok(status) => inner.receipts.merge(&status),
        // Not on disk yet.
        Err(error)
            if error.retryable() || (error.code() == ErrorCode::NotFound && inner.outbox.contains(id.as_str())) =>
        {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

impl Stream for ReceiptStream {
    type Item = Receipt;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Receipt>> {
        self.0.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for ReceiptStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReceiptStream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(recipient: &str, stage: DeliveryStage) -> Receipt {
        Receipt {
            message_id: "m".into(),
            recipient: recipient.into(),
            name: recipient.to_owned(),
            stage,
            at: Timestamp::from_ms(1),
            adapter: None,
            reason: None,
        }
    }

    #[test]
    fn a_message_is_final_when_every_recipient_is() {
        let book = ReceiptBook::default();
        let id = MessageId::from("m");
        book.track(&id, None);
        book.add(&receipt("a", DeliveryStage::Delivered));
        book.add(&receipt("a", DeliveryStage::Delivered));
        let line = |key: &str, read_at| RecipientStatus {
            name: key.to_owned(),
            pubkey: key.into(),
            status: "delivered".to_owned(),
            stage: Some(DeliveryStage::Delivered),
            delivered_at: Some(Timestamp::from_ms(1)),
            surfaced_at: None,
            read_at,
            adapter: None,
            reason: None,
        };
        book.merge(&MessageStatusResult {
            message_id: id.clone(),
            target_spec: "@all".to_owned(),
            delivered: true,
            delivered_at: None,
            accepted_at: Some(Timestamp::from_ms(0)),
            recipients: vec![line("a", Some(Timestamp::from_ms(2))), line("b", None)],
        });
        assert!(!book.look(&id, 0).1);
        book.add(&receipt("b", DeliveryStage::Expired));
        let stages: Vec<_> = (0..)
            .map_while(|index| book.look(&id, index).0)
            .map(|found| found.stage)
            .collect();
        use DeliveryStage::{Accepted, Delivered, Expired, Read};
        assert_eq!(stages, [Accepted, Delivered, Read, Accepted, Delivered, Expired]);
        assert!(book.look(&id, stages.len()).1);
    }
}
