//! Sealing a message to one member.

use super::channel::SecureChannel;
use super::heads;
use crate::ClientError;
use crate::clock::now_ms;
use crate::identity::key_hex;
use claudemesh_crypto::{DirectMeta, Envelope, PublicKey, SenderProof, seal_direct, seal_meta};
use claudemesh_proto::model::{Base64, Priority, SealedMeta};
use claudemesh_proto::ops::SendEnvelope;

impl SecureChannel {
    /// Seals a message from this session to `recipient`: a member's key, or the session key of an original client, which opens
    /// with that key only. Beside the body goes what the broker must not change: id, number, priority, time, our head of the
    /// group log, and the proof that this session is our member's.
    ///
    /// # Errors
    /// When `recipient` is no usable key.
    pub fn seal_direct(
        &self,
        recipient: &PublicKey,
        session_hint: Option<&PublicKey>,
        text: &[u8],
        id: &str,
        priority: Priority,
        subtype: Option<&str>,
    ) -> Result<SendEnvelope, ClientError> {
        let body = seal_direct(&self.session, recipient, text).map_err(ClientError::crypto)?;
        let target = key_hex(recipient);
        let head = self.head().map(|head| heads::to_meta(&head));
        let proof = SenderProof::sign(
            &self.identity.member,
            self.mesh_id(),
            id,
            &self.session.public(),
            recipient,
        );
        let seq = self.lanes().next(target.as_str(), priority.as_str());
        let meta = DirectMeta::for_body(text, id.to_owned(), seq, priority.as_str().to_owned(), now_ms(), head);
        let Envelope { nonce, ciphertext } =
            seal_meta(&self.session, recipient, &meta.with_sender(proof)).map_err(ClientError::crypto)?;
        Ok(SendEnvelope {
            target_spec: target.0,
            priority,
            nonce: Base64(body.nonce),
            ciphertext: Base64(body.ciphertext),
            id: Some(id.to_owned()),
            meta: Some(SealedMeta {
                nonce: Base64(nonce),
                ciphertext: Base64(ciphertext),
            }),
            sealed: None,
            session_hint: session_hint.map(key_hex),
            ttl_ms: None,
            subtype: subtype.map(str::to_owned),
        })
    }
}
