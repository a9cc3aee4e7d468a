//! `ping_mesh`.

use super::send::{Post, post};
use crate::pending::lock;
use crate::{ClientError, MeshClient, Resolved};
use claudemesh_crypto::random_id;
use claudemesh_proto::model::{DeliveryStage, MessageId, PeerStatus, Priority};
use claudemesh_proto::ops::{ListPeers, MessageStatus};
use claudemesh_proto::tools::{PingLeg, PingMesh, PingResult};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// How long a test message may be on its way.
const ROUND_TRIP_LIMIT: Duration = Duration::from_secs(5);
/// When a test message that is held disappears at the broker, in milliseconds.
const TEST_TTL_MS: u64 = 60_000;

impl MeshClient {
    /// The tool `ping_mesh`: sends encrypted test messages to this session itself and measures how long they take. A
    /// message that is held (its priority waits for another status) is explained, not an error.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`], for the list of peers.
    pub async fn ping_mesh(&self, params: PingMesh) -> Result<PingResult, ClientError> {
        let peers = self.request(ListPeers {}).await?.peers;
        let own_key = self.session_key().to_string();
        let own = peers.iter().find(|peer| peer.pubkey.as_str() == own_key);
        let status = own.map_or(PeerStatus::Idle, |peer| peer.status);
        let others = peers.len() - usize::from(own.is_some());
        let mut legs = Vec::new();
        for priority in params.priorities {
            legs.push(self.ping(priority, status).await);
        }
        Ok(PingResult {
            mesh: self.identity().slug.clone(),
            connected: self.state().is_open(),
            status,
            peers: u32::try_from(others).unwrap_or(u32::MAX),
            legs,
        })
    }

    async fn ping(&self, priority: Priority, status: PeerStatus) -> PingLeg {
        let inner = self.inner();
        let mut leg = PingLeg {
            priority,
            message_id: None,
            accepted_ms: None,
            round_trip_ms: None,
            stage: None,
            note: None,
        };
        let to = Resolved::Direct {
            key: self.session_key(),
            session: None,
            name: "this session".to_owned(),
        };
        let id = MessageId::from(random_id());
        let (arrived, arrival) = oneshot::channel();
        // Before it is sent: it can be back at once.
        lock(&inner.pings).insert(id.clone(), arrived);
        let began = Instant::now();
        let how = Post {
            priority,
            subtype: Some("ping"),
            ttl_ms: Some(TEST_TTL_MS),
            id: Some(id.as_str()),
        };
        let pending = match post(inner, &to, "ping", how).await {
            Ok(pending) => pending,
            Err(error) => {
                lock(&inner.pings).remove(&id);
                leg.note = Some(super::error_text(&error));
                return leg;
            }
        };
        match inner.settle(pending).await {
            Ok(ack) => {
                leg.accepted_ms = Some(milliseconds(began, Instant::now()));
                leg.message_id = Some(ack.message_id);
                leg.stage = Some(DeliveryStage::Accepted);
            }
            Err(error) => {
                lock(&inner.pings).remove(&id);
                leg.note = Some(super::error_text(&error));
                return leg;
            }
        }
        // One that is held on purpose does not come: no need to wait for long.
        let held = held_note(priority, status);
        let limit = if held.is_some() {
            Duration::from_millis(300)
        } else {
            ROUND_TRIP_LIMIT
        };
        let arrival = timeout(limit, arrival).await;
        lock(&inner.pings).remove(&id);
        if let Ok(Ok(at)) = arrival {
            leg.round_trip_ms = Some(milliseconds(began, at));
            leg.stage = Some(DeliveryStage::Read);
            return leg;
        }
        if let Ok(found) = self.request(MessageStatus { message_id: id }).await {
            leg.stage = found
                .recipients
                .first()
                .and_then(|recipient| recipient.stage)
                .or(leg.stage);
        }
        leg.note = Some(held.unwrap_or_else(|| {
            format!(
                "it did not come back within {} s although nothing holds it back",
                ROUND_TRIP_LIMIT.as_secs()
            )
        }));
        leg
    }
}

/// Why a message of this priority waits for a session of this status.
fn held_note(priority: Priority, status: PeerStatus) -> Option<String> {
    match (priority, status) {
        (Priority::Low, _) => {
            Some("held, as it should be: `low` waits until the recipient calls check_messages".to_owned())
        }
        (Priority::Next, PeerStatus::Working | PeerStatus::Dnd) => Some(format!(
            "held, as it should be: `next` waits until the recipient is `idle`, and this session is `{}`",
            status.as_str()
        )),
        _ => None,
    }
}

fn milliseconds(from: Instant, to: Instant) -> f64 {
    (to.duration_since(from).as_secs_f64() * 1_000_000.0).round() / 1_000.0
}
