//! What a handler knows about the request that it serves.

use std::sync::Arc;

use claudemesh_proto::model::{KeyHex, MemberId, MeshId, PresenceId};
use claudemesh_proto::{ErrorFrame, Operation};

use crate::Broker;
use crate::hub::LiveMesh;
use crate::outbound::Outbound;
use crate::send_order::SendOrder;

/// One authenticated connection. Facts that may change (name, groups, status) are in the mesh's live state.
#[derive(Debug)]
pub struct Session {
    /// The session's row.
    pub presence: PresenceId,
    /// The mesh that it is in.
    pub mesh: Arc<LiveMesh>,
    /// The member that it belongs to.
    pub member: MemberId,
    /// Proven key of the member.
    pub member_key: KeyHex,
    /// Key of the session; proven from protocol 2 on.
    pub session_key: Option<KeyHex>,
    /// Protocol version of the client.
    pub protocol: u32,
    /// Address of the broker that the client reached it at; proven to be one from protocol 2 on.
    pub origin: Option<String>,
    /// What the client can do.
    pub caps: Vec<String>,
    /// A one-shot connection: not listed, not announced, gets no mail unless it asks.
    pub observer: bool,
    /// Frames to the client.
    pub outbound: Outbound,
    /// Which of its messages has to come first.
    pub sends: SendOrder,
}

impl Session {
    /// The mesh's id.
    #[must_use]
    pub fn mesh_id(&self) -> &MeshId {
        &self.mesh.id
    }

    /// The key that messages of this session are shown as sent by.
    #[must_use]
    pub fn sender_key(&self) -> &KeyHex {
        self.session_key.as_ref().unwrap_or(&self.member_key)
    }

    /// Whether the client announced this capability.
    #[must_use]
    pub fn has_cap(&self, cap: &str) -> bool {
        self.caps.iter().any(|have| have == cap)
    }
}

/// One request: the broker, the session that sent it, and its id.
#[derive(Clone, Debug)]
pub struct Context {
    /// The broker.
    pub broker: Arc<Broker>,
    /// The session.
    pub session: Arc<Session>,
    /// The request's `_reqId`.
    pub request_id: Option<String>,
    /// When the request arrived, in milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// Serves one operation. Implemented by [`Broker`] for every row of the operation table; a missing one does not compile.
///
/// For operations whose ordering is `Pipelined`, everything that decides the order must happen before the first `await`:
/// the gateway polls the future once before it reads the next frame.
pub trait Handle<O: Operation> {
    /// Serves `request`.
    fn handle(cx: Context, request: O) -> impl Future<Output = Result<O::Response, ErrorFrame>> + Send;
}
