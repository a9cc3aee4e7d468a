//! Live meshes: the pure state of `mesh`, the sockets that hang on it, and the store behind it.
//!
//! Each mesh is one lock. Whoever holds it changes the state and queues the resulting frames in the same breath, so that
//! every socket sees changes in the order in which they happened. Nothing waits while it holds the lock.

mod connect;
mod deliver;
mod events;
mod hooks;
mod live;
mod members;
mod rows;
mod streams;

pub use connect::{Admitted, connect, disconnect};
pub(crate) use connect::{PENDING_STATUS_MS, close_all, name_of, record_event, save_peer_state};
pub(crate) use deliver::{answer_load, by_mesh, change, end_reason, message_facts, read_again, told};
pub use deliver::{run_outputs, send_receipts};
pub(crate) use events::system_event;
pub use hooks::hook_status;
pub use live::{LiveMesh, LiveState};
pub use members::{archive, member_added, member_updated, policy_changed, remove_member};
use rows::peer_state_row;
pub use streams::{Stream, Streams};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use claudemesh_proto::ErrorFrame;
use claudemesh_proto::model::MeshId;

use crate::Broker;
use crate::errors::ToErrorFrame as _;

/// The meshes that somebody has asked for since the broker started.
#[derive(Debug, Default)]
pub struct Hub {
    meshes: Mutex<HashMap<MeshId, Arc<LiveMesh>>>,
    loading: tokio::sync::Mutex<()>,
}

impl Hub {
    /// The mesh with this id, loaded from the store on first use; `None` if there is no such mesh.
    ///
    /// # Errors
    /// `unavailable` while the store cannot be read.
    pub async fn mesh(&self, broker: &Arc<Broker>, id: &MeshId) -> Result<Option<Arc<LiveMesh>>, ErrorFrame> {
        if let Some(mesh) = self.loaded(id) {
            return Ok(Some(mesh));
        }
        // One load at a time: two must not end with two live states of one mesh.
        let _loading = self.loading.lock().await;
        if let Some(mesh) = self.loaded(id) {
            return Ok(Some(mesh));
        }
        let Some(rows) = broker
            .store
            .load_mesh(id)
            .await
            .map_err(|error| error.to_error_frame())?
        else {
            return Ok(None);
        };
        let mesh = Arc::new(LiveMesh::new(rows, &broker.config).map_err(|error| error.to_error_frame())?);
        self.lock().insert(id.clone(), mesh.clone());
        Ok(Some(mesh))
    }

    /// The mesh with this id if it is loaded.
    #[must_use]
    pub fn loaded(&self, id: &MeshId) -> Option<Arc<LiveMesh>> {
        self.lock().get(id).cloned()
    }

    /// Every loaded mesh.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<LiveMesh>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<MeshId, Arc<LiveMesh>>> {
        self.meshes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
