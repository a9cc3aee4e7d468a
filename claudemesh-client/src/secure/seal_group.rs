//! Sealing a message to a group or to everybody.

use super::channel::SecureChannel;
use super::group_error::{group_error, keys_missing};
use super::target::label_of;
use crate::identity::key_hex;
use crate::{ClientError, Transport};
use claudemesh_crypto::encode_base64;
use claudemesh_crypto::group::{ContentContext, GroupEnvelope, GroupError, Label, seal_group};
use claudemesh_proto::model::{Base64, GroupSeal, Priority};
use claudemesh_proto::ops::SendEnvelope;
use std::time::Instant;

/// The scheme's name on the wire.
pub(super) const EPOCH_1: &str = "epoch/1";
/// Most rotations of others that one seal follows.
const MAX_ROTATIONS: usize = 8;

impl SecureChannel {
    /// Seals a message to `@group`, `@all` or `*` under the newest group key. Replaces the key first if a removed member
    /// knows it; if this device has no key yet, asks for it and waits a moment.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`](claudemesh_proto::ErrorCode) while no key has come: an online member must hand it out.
    /// [`ClientError::Unsupported`] on a broker without group keys.
    pub async fn seal_multicast(
        &self,
        target_spec: &str,
        text: &[u8],
        id: &str,
        priority: Priority,
        subtype: Option<&str>,
        transport: &dyn Transport,
    ) -> Result<SendEnvelope, ClientError> {
        let label = label_of(target_spec)?;
        let envelope = self.seal_waiting(&label, text, id, priority, None, transport).await?;
        Ok(self.to_wire(envelope, target_spec, id, priority, subtype))
    }

    /// Seals again what the broker refused as `stale_epoch`: under the newest key, with the same id and number, so that it is
    /// the same message to everybody. `text` is what `envelope` holds.
    ///
    /// # Errors
    /// As [`SecureChannel::seal_multicast`].
    pub async fn reseal(
        &self,
        envelope: &SendEnvelope,
        text: &[u8],
        transport: &dyn Transport,
    ) -> Result<SendEnvelope, ClientError> {
        let (Some(sealed), Some(id)) = (&envelope.sealed, &envelope.id) else {
            return Err(ClientError::invalid(
                "sealed",
                "only group messages with an id are sealed again",
            ));
        };
        self.catch_up(transport).await?;
        let label = label_of(&envelope.target_spec)?;
        let seq = Some(sealed.seq);
        let fresh = self
            .seal_waiting(&label, text, id, envelope.priority, seq, transport)
            .await?;
        let mut again = self.to_wire(
            fresh,
            &envelope.target_spec,
            id,
            envelope.priority,
            envelope.subtype.as_deref(),
        );
        again.ttl_ms = envelope.ttl_ms;
        Ok(again)
    }

    async fn seal_waiting(
        &self,
        label: &Label,
        text: &[u8],
        id: &str,
        priority: Priority,
        seq: Option<u64>,
        transport: &dyn Transport,
    ) -> Result<GroupEnvelope, ClientError> {
        // Also with a key: such a broker tells nobody who was removed.
        if self.cache().served == Some(false) {
            return Err(ClientError::Unsupported {
                what: "encrypted group messages".to_owned(),
            });
        }
        let deadline = Instant::now() + self.options.key_wait;
        let mut asked = false;
        let mut rotations = 0;
        loop {
            // Registered before looking: what comes in between is not missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.try_seal(label, text, id, priority, seq) {
                Some(Ok(envelope)) => {
                    self.count_message();
                    return Ok(envelope);
                }
                Some(Err(GroupError::RekeyNeeded)) if rotations < MAX_ROTATIONS => {
                    rotations += 1;
                    self.rotate(transport).await?;
                    continue;
                }
                None | Some(Err(GroupError::UnknownEpoch { .. } | GroupError::NotOnRoster(_))) => {}
                Some(Err(error)) => return Err(group_error(error)),
            }
            if !asked {
                asked = true;
                self.catch_up(transport).await?;
                self.settle(transport).await?;
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || tokio::time::timeout(left, changed).await.is_err() {
                return Err(keys_missing(self.why_missing()));
            }
        }
    }

    fn why_missing(&self) -> &'static str {
        match self.with_keys(|keys| keys.is_member()) {
            None => "the owner of this mesh has not started its group log yet (it does when its client connects)",
            Some(false) => "this device is not admitted to the encrypted group yet (the owner or an admin does it)",
            Some(true) => "this device waits for the newest group key",
        }
    }

    /// `None` without a log. A number is used up only by a message that was sealed.
    fn try_seal(
        &self,
        label: &Label,
        text: &[u8],
        id: &str,
        priority: Priority,
        seq: Option<u64>,
    ) -> Option<Result<GroupEnvelope, GroupError>> {
        let mut lanes = self.lanes();
        let lane = label.as_str();
        let number = seq.unwrap_or_else(|| lanes.peek(lane, priority.as_str()));
        let context = ContentContext {
            message_id: id,
            seq: number,
            priority: priority.as_str(),
            sender_session: self.session.public(),
        };
        let sealed = self.with_keys(|keys| seal_group(keys, label, &context, self.device(), text))?;
        if sealed.is_ok() && seq.is_none() {
            lanes.next(lane, priority.as_str());
        }
        Some(sealed)
    }

    fn to_wire(
        &self,
        envelope: GroupEnvelope,
        target_spec: &str,
        id: &str,
        priority: Priority,
        subtype: Option<&str>,
    ) -> SendEnvelope {
        SendEnvelope {
            target_spec: target_spec.to_owned(),
            priority,
            nonce: Base64(encode_base64(&envelope.nonce)),
            ciphertext: Base64(encode_base64(&envelope.ciphertext)),
            id: Some(id.to_owned()),
            meta: None,
            sealed: Some(GroupSeal {
                scheme: EPOCH_1.to_owned(),
                generation: envelope.generation,
                epoch: envelope.epoch,
                label: envelope.label.as_str().to_owned(),
                key_id: envelope.key_id,
                device: key_hex(&envelope.sender),
                session: key_hex(&self.session.public()),
                seq: envelope.seq,
            }),
            session_hint: None,
            ttl_ms: None,
            subtype: subtype.map(str::to_owned),
        }
    }
}
