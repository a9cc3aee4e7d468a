//! What is known of a mesh's collections, and who waits for whom.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{MutexGuard, RwLock};
use uuid::Uuid;

use crate::backends::vector::VectorError;

/// Meshes of which something is remembered.
pub(super) const MESHES: usize = 1_024;
/// How many vectors take turns apart.
const TURNS: usize = 64;
/// How long a count of the mesh's vectors is believed.
const COUNT_LIFE: Duration = Duration::from_secs(60);

/// A collection on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Length of its vectors.
    pub(super) dimensions: usize,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    vectors: u64,
    at: Instant,
}

/// One mesh.
#[derive(Debug)]
pub(super) struct MeshState {
    /// Whoever creates a collection has it.
    pub(super) creating: tokio::sync::Mutex<()>,
    /// Those who write share it; whoever ends a collection has it alone.
    pub(super) ending: RwLock<()>,
    turns: [tokio::sync::Mutex<()>; TURNS],
    hasher: RandomState,
    known: Mutex<HashMap<String, Known>>,
    counted: tokio::sync::Mutex<Option<Counted>>,
}

impl Default for MeshState {
    fn default() -> Self {
        Self {
            creating: tokio::sync::Mutex::default(),
            ending: RwLock::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            hasher: RandomState::new(),
            known: Mutex::default(),
            counted: tokio::sync::Mutex::default(),
        }
    }
}

impl MeshState {
    fn collections(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a collection by its name on the server.
    pub(super) fn known(&self, on_server: &str) -> Option<Known> {
        self.collections().get(on_server).copied()
    }

    /// Remembers a collection.
    pub(super) fn learn(&self, on_server: &str, known: Known) {
        self.collections().insert(on_server.to_owned(), known);
    }

    /// Asks the server the next time.
    pub(super) fn forget(&self, on_server: &str) {
        self.collections().remove(on_server);
    }

    /// Waits until nobody works on a vector with this id.
    pub(super) async fn turn(&self, id: Uuid) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one(id);
        let turn = usize::try_from(hash % TURNS as u64).unwrap_or_default();
        self.turns[turn].lock().await
    }

    /// Takes room for one more vector; `false` if there is none. The mesh's vectors are counted now and then.
    pub(super) async fn take_room<Count>(&self, most: u64, count: impl Fn() -> Count) -> Result<bool, VectorError>
    where
        Count: Future<Output = Result<u64, VectorError>>,
    {
        let mut counted = self.counted.lock().await;
        let recent = counted.filter(|counted| counted.at.elapsed() < COUNT_LIFE && counted.vectors < most);
        let mut now = match recent {
            Some(recent) => recent,
            None => Counted {
                vectors: count().await?,
                at: Instant::now(),
            },
        };
        let has_room = now.vectors < most;
        if has_room {
            now.vectors += 1;
        }
        *counted = Some(now);
        Ok(has_room)
    }

    /// A vector was deleted.
    pub(super) async fn gave_room(&self) {
        if let Some(counted) = self.counted.lock().await.as_mut() {
            counted.vectors = counted.vectors.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test]
    async fn room_is_counted_seldom_and_when_it_seems_to_be_used_up() {
        let (state, asked, there) = (MeshState::default(), AtomicU64::new(0), AtomicU64::new(1));
        let count = || {
            asked.fetch_add(1, Ordering::Relaxed);
            let there = there.load(Ordering::Relaxed);
            async move { Ok(there) }
        };
        assert!(state.take_room(3, count).await.unwrap());
        assert!(state.take_room(3, count).await.unwrap());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        there.store(3, Ordering::Relaxed);
        assert!(!state.take_room(3, count).await.unwrap());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        state.gave_room().await;
        assert!(state.take_room(3, count).await.unwrap());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
