//! What is kept open for meshes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use claudemesh_proto::model::MeshId;

/// One thing for each mesh, of which so many are kept: those that were not used for the longest time are closed.
#[derive(Debug)]
pub(super) struct PerMesh<T> {
    most: usize,
    open: Mutex<Open<T>>,
}

#[derive(Debug)]
struct Open<T> {
    /// Each with the number of its last use.
    things: HashMap<MeshId, (Arc<T>, u64)>,
    uses: u64,
}

impl<T: Send + Sync + 'static> PerMesh<T> {
    /// At most `most`, and more only while all of them work.
    pub(super) fn new(most: usize) -> Self {
        let open = Open {
            things: HashMap::new(),
            uses: 0,
        };
        Self {
            most,
            open: Mutex::new(open),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open<T>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mesh's.
    pub(super) fn get(&self, mesh: &MeshId, make: impl FnOnce() -> T) -> Arc<T> {
        let mut open = self.lock();
        open.uses += 1;
        let uses = open.uses;
        if let Some((thing, used)) = open.things.get_mut(mesh) {
            *used = uses;
            return thing.clone();
        }
        let mut closing = Vec::new();
        while open.things.len() >= self.most {
            let idle = open
                .things
                .iter()
                // One that works is not closed: what it does goes on, and the same would be open twice.
                .filter(|(_, (thing, _))| Arc::strong_count(thing) == 1)
                .min_by_key(|(_, (_, used))| *used)
                .map(|(mesh, _)| mesh.clone());
            match idle.and_then(|idle| open.things.remove(&idle)) {
                Some((thing, _)) => closing.push(thing),
                None => break,
            }
        }
        let thing = Arc::new(make());
        open.things.insert(mesh.clone(), (thing.clone(), uses));
        drop(open);
        close_elsewhere(closing);
        thing
    }

    /// All that are open.
    pub(super) fn all(&self) -> Vec<Arc<T>> {
        self.lock().things.values().map(|(thing, _)| thing.clone()).collect()
    }

    /// All that were open; none is now.
    pub(super) fn take_all(&self) -> Vec<Arc<T>> {
        let things = std::mem::take(&mut self.lock().things);
        things.into_values().map(|(thing, _)| thing).collect()
    }
}

/// Closes on a thread where it holds nobody up: the last one to close a file may have to write.
fn close_elsewhere<T: Send + 'static>(things: Vec<T>) {
    if things.is_empty() {
        return;
    }
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(things))),
        Err(_) => drop(things),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_used_is_closed_unless_it_works() {
        let open = PerMesh::new(2);
        let mesh = |name: &str| MeshId::from(name);
        let working = open.get(&mesh("a"), || 1);
        open.get(&mesh("b"), || 2);
        open.get(&mesh("c"), || 3);
        assert_eq!(*open.get(&mesh("b"), || 20), 20, "it was closed");
        assert_eq!(*open.get(&mesh("a"), || 10), 1, "it works");
        assert_eq!(open.all().len(), 2);
        drop(working);
        open.get(&mesh("d"), || 4);
        assert_eq!(*open.get(&mesh("a"), || 10), 1, "it was used last");
        assert_eq!(open.take_all().len(), 2);
        assert!(open.all().is_empty());
    }
}
