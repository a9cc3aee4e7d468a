//! One live mesh.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use claudemesh_crypto::group::LogState;
use claudemesh_proto::Permission;
use claudemesh_proto::frame::ServerFrame;
use claudemesh_proto::model::{EpochHead, KeyHex, MemberId, MeshId, PresenceId};

use super::Streams;
use super::rows::{member_facts, mesh_facts, peer_state};
use crate::config::Config;
use crate::context::Session;
use crate::mesh::{Delivery, Limits, Mesh, Settings};
use crate::store::{LoadedMesh, StoreError};

/// A mesh with its live sessions. Shared by all of its connections.
pub struct LiveMesh {
    /// Its id.
    pub id: MeshId,
    state: Mutex<LiveState>,
}

/// What is behind the mesh's lock.
pub struct LiveState {
    /// Members and sessions.
    pub mesh: Mesh,
    /// Messages on their way.
    pub delivery: Delivery,
    /// Streams and their subscribers.
    pub streams: Streams,
    /// Sockets.
    sessions: HashMap<PresenceId, Arc<Session>>,
    /// The group log as far as the broker has checked it; absent while the mesh has none.
    pub group: Option<LogState>,
    /// Whether the owner has closed the mesh.
    pub archived: bool,
}

impl fmt::Debug for LiveMesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveMesh").field("id", &self.id).finish_non_exhaustive()
    }
}

impl LiveMesh {
    /// A mesh as the store has it, without sessions.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the stored group log cannot be read.
    pub fn new(rows: LoadedMesh, config: &Config) -> Result<Self, StoreError> {
        let id = rows.mesh.id.clone();
        let archived = rows.mesh.archived_at.is_some();
        let group = match &rows.group_head {
            Some(head) => Some(
                LogState::from_json(head.state.as_bytes())
                    .map_err(|refusal| StoreError::Corrupt(format!("group log of mesh {id}: {refusal}")))?,
            ),
            None => None,
        };
        let settings = Settings {
            status_ttl_ms: config.status_ttl_ms,
            fresh_window_ms: config.hook_fresh_window_ms,
        };
        let mut mesh = Mesh::new(mesh_facts(&rows.mesh), settings);
        for member in rows.members {
            let saved = rows
                .peer_states
                .iter()
                .find(|state| state.member_id == member.id)
                .map(peer_state);
            mesh.upsert_member(member_facts(member), saved);
        }
        let limits = Limits {
            lease_ms: config.lease_ms,
            ..Limits::default()
        };
        let state = LiveState {
            mesh,
            delivery: Delivery::new(limits),
            streams: Streams::new(rows.streams),
            sessions: HashMap::new(),
            group,
            archived,
        };
        Ok(Self {
            id,
            state: Mutex::new(state),
        })
    }

    /// Locks the state. Never held over an `await`.
    pub fn lock(&self) -> MutexGuard<'_, LiveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the member may call operations of this class.
    #[must_use]
    pub fn may(&self, member: &MemberId, permission: Permission) -> bool {
        self.lock().mesh.permission(member, permission)
    }
}

impl LiveState {
    /// Registers a socket.
    pub(super) fn attach(&mut self, session: Arc<Session>) {
        self.sessions.insert(session.presence.clone(), session);
    }

    /// Forgets a socket.
    pub(super) fn detach(&mut self, presence: &PresenceId) -> Option<Arc<Session>> {
        self.streams.forget(presence);
        self.sessions.remove(presence)
    }

    /// The socket of a session.
    #[must_use]
    pub fn session(&self, presence: &PresenceId) -> Option<&Arc<Session>> {
        self.sessions.get(presence)
    }

    /// Every socket, observers included.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values()
    }

    /// Sockets of the member with this key, observers included.
    pub fn sessions_of_key<'a>(&'a self, member: &'a KeyHex) -> impl Iterator<Item = &'a Arc<Session>> {
        self.sessions
            .values()
            .filter(move |session| session.member_key == *member)
    }

    /// Queues a frame for each of these sessions.
    pub fn send<'a>(&self, to: impl IntoIterator<Item = &'a PresenceId>, frame: &ServerFrame) {
        let mut text: Option<Utf8Bytes> = None;
        for presence in to {
            let Some(session) = self.sessions.get(presence) else {
                continue;
            };
            let text = match &text {
                Some(text) => text,
                None => match frame.to_json() {
                    Ok(json) => text.insert(Utf8Bytes::from(json)),
                    Err(error) => {
                        tracing::error!(kind = frame.kind(), %error, "a frame does not serialize");
                        return;
                    }
                },
            };
            session.outbound.send(text.clone());
        }
    }

    /// Head of the group log.
    #[must_use]
    pub fn head(&self) -> Option<EpochHead> {
        self.group.as_ref().map(|log| crate::ops::epoch_head(&log.head()))
    }
}
