//! Events of the mesh: `push` frames with `subtype: "system"`, never stored.

use claudemesh_crypto::random_id;
use claudemesh_proto::frame::{Push, ServerFrame};
use claudemesh_proto::model::{Base64, MeshId, Priority, Timestamp};
use serde_json::Value;

use crate::broker::now_ms;

/// The frame of an event.
pub(crate) fn system_event(mesh: &MeshId, event: &str, data: Value) -> ServerFrame {
    ServerFrame::Push(Box::new(Push {
        message_id: random_id().into(),
        mesh_id: mesh.0.clone(),
        sender_pubkey: "system".to_owned(),
        priority: Priority::Low,
        nonce: Base64::default(),
        ciphertext: Base64::default(),
        created_at: Timestamp::from_ms(now_ms()),
        subtype: Some("system".to_owned()),
        event: Some(event.to_owned()),
        event_data: Some(data),
        sender_member: None,
        sender_name: None,
        target: None,
        meta: None,
        sealed: None,
        attempt: None,
    }))
}
