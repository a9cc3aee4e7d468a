//! A SQLite file for each mesh. Searches compare the query with every vector of the collection, which is held in memory while
//! it is used: the result is exact, and there is no index that could be lost or could differ from the file.

mod change;
mod file;
mod matrix;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::sleep;
use std::time::Duration;

use claudemesh_proto::model::{MemberId, MeshId};
use claudemesh_proto::ops::VectorCollection;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Actor, Hit, NewVector, Query, Stored, VectorBackend, VectorError, VectorLimits};
use crate::backends::mesh_file;
use crate::backends::per_mesh::PerMesh;
use file::{CollectionRow, MeshFile};
use matrix::{Deadline, Matrix, Memory, Reservation, row_bytes};

/// How many requests of one mesh read at once.
const READERS: usize = 4;
/// How many requests of all meshes run at once: each takes a thread.
const RUNNING: usize = 16;
/// How long a request for memory waits between two tries.
const WAIT: Duration = Duration::from_millis(20);

/// The vectors of all meshes, in a directory.
#[derive(Debug)]
pub struct SqliteVectors {
    shared: Arc<Shared>,
    running: Arc<Semaphore>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    limits: VectorLimits,
    memory: Arc<Memory>,
    open: PerMesh<Mesh>,
    /// Uses of collections, counted.
    uses: AtomicU64,
}

/// One mesh's file and what of it is in memory.
#[derive(Debug)]
struct Mesh {
    path: PathBuf,
    /// Whoever has it is the only one who writes.
    writer: Arc<tokio::sync::Mutex<Option<MeshFile>>>,
    reading: Arc<Semaphore>,
    idle_readers: Mutex<Vec<MeshFile>>,
    collections: Mutex<HashMap<String, (Arc<Collection>, u64)>>,
}

/// What of a collection is in memory; nothing before its first search. Whoever changes the collection's rows holds it for
/// writing until memory has the change too, so that a search that holds it for reading finds both alike.
#[derive(Debug, Default)]
struct Collection(RwLock<Option<Matrix>>);

impl Collection {
    fn read(&self) -> RwLockReadGuard<'_, Option<Matrix>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Matrix>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> VectorError {
    VectorError::Unavailable("it is closed".to_owned())
}

impl SqliteVectors {
    /// Vectors in `directory`, which is created.
    ///
    /// # Errors
    /// If the directory cannot be created.
    pub fn new(directory: impl Into<PathBuf>, limits: VectorLimits) -> std::io::Result<Self> {
        let directory = directory.into();
        mesh_file::make_directory(&directory)?;
        Ok(Self {
            shared: Arc::new(Shared {
                directory,
                limits,
                memory: Arc::new(Memory::new(limits.memory)),
                open: PerMesh::new(limits.open),
                uses: AtomicU64::new(0),
            }),
            running: Arc::new(Semaphore::new(RUNNING)),
        })
    }

    /// Waits for a turn, within the time that there is for it.
    async fn turn<T>(&self, turn: impl Future<Output = Result<T, VectorError>>) -> Result<(T, Place), VectorError> {
        let waiting = async {
            let turn = turn.await?;
            let place = self.running.clone().acquire_owned().await.map_err(|_| closed())?;
            Ok((turn, place))
        };
        let time = self.shared.limits.time;
        timeout(time, waiting).await.map_err(|_| VectorError::Busy)?
    }

    /// Runs what changes a mesh, in its turn. It is not given up half-way: its caller must know how it ended.
    async fn change<T: Send + 'static>(
        &self,
        mesh: Arc<Mesh>,
        work: impl FnOnce(&Shared, &Mesh, &mut MeshFile) -> Result<T, VectorError> + Send + 'static,
    ) -> Result<T, VectorError> {
        let writer = mesh.writer.clone();
        // Those who wait get their turn in the order in which they came.
        let turn = async move { Ok(writer.lock_owned().await) };
        let (mut writer, place) = self.turn(turn).await?;
        let shared = self.shared.clone();
        on_thread(move || {
            let _place = place;
            let mut file = match writer.take() {
                Some(file) => file,
                None => MeshFile::open(&mesh.path, &shared.limits)?,
            };
            let result = work(&shared, &mesh, &mut file);
            *writer = Some(file);
            result
        })
        .await
    }

    /// Runs what only reads.
    async fn read<T: Send + 'static>(
        &self,
        mesh: Arc<Mesh>,
        work: impl FnOnce(&Shared, &Mesh, &MeshFile) -> Result<T, VectorError> + Send + 'static,
    ) -> Result<T, VectorError> {
        let reading = mesh.reading.clone();
        let turn = async move { reading.acquire_owned().await.map_err(|_| closed()) };
        let turn = self.turn(turn).await?;
        let shared = self.shared.clone();
        let time = shared.limits.time;
        let working = on_thread(move || {
            let _turn = turn;
            let idle = lock(&mesh.idle_readers).pop();
            let file = match idle {
                Some(file) => file,
                None => MeshFile::open(&mesh.path, &shared.limits)?,
            };
            let result = work(&shared, &mesh, &file);
            lock(&mesh.idle_readers).push(file);
            result
        });
        // What is given up goes on: a collection that took too long to load is there for the next search.
        timeout(time.saturating_mul(2), working)
            .await
            .map_err(|_| VectorError::Busy)?
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VectorError> + Send + 'static,
) -> Result<T, VectorError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(VectorError::Unavailable(error.to_string())))
}

impl Shared {
    fn path(&self, mesh: &MeshId) -> PathBuf {
        mesh_file::path(&self.directory, mesh)
    }

    fn mesh(&self, id: &MeshId) -> Arc<Mesh> {
        self.open.get(id, || Mesh {
            path: self.path(id),
            writer: Arc::default(),
            reading: Arc::new(Semaphore::new(READERS)),
            idle_readers: Mutex::default(),
            collections: Mutex::default(),
        })
    }

    /// The place of a collection in memory.
    fn place(&self, mesh: &Mesh, name: &str) -> Arc<Collection> {
        let uses = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut collections = lock(&mesh.collections);
        let (collection, used) = collections.entry(name.to_owned()).or_default();
        *used = uses;
        collection.clone()
    }

    /// Memory for the collection that the caller holds; others are forgotten for it, the least used one first.
    fn reserve(&self, bytes: u64) -> Result<Reservation, VectorError> {
        let deadline = Deadline::after(self.limits.time);
        loop {
            if let Some(reservation) = self.memory.reserve(bytes) {
                return Ok(reservation);
            }
            if !self.forget_one() {
                // All of them are being searched right now.
                deadline.check().map_err(|_| VectorError::Busy)?;
                sleep(WAIT);
            }
        }
    }

    /// Takes the collection that was not used for the longest time out of memory. `false` if all are in use, or none is there.
    fn forget_one(&self) -> bool {
        let mut candidates: Vec<(u64, Arc<Collection>)> = Vec::new();
        for mesh in self.open.all() {
            let collections = lock(&mesh.collections);
            candidates.extend(
                collections
                    .values()
                    .map(|(collection, used)| (*used, collection.clone())),
            );
        }
        candidates.sort_unstable_by_key(|(used, _)| *used);
        candidates.iter().any(|(_, collection)| {
            // Never waits: whoever asks holds a collection itself.
            collection.0.try_write().is_ok_and(|mut matrix| matrix.take().is_some())
        })
    }

    /// Searches in the collection, which is loaded if it is not in memory.
    fn search(&self, mesh: &Mesh, file: &MeshFile, name: &str, query: &Query) -> Result<Vec<Hit>, VectorError> {
        let missing = || VectorError::NoCollection(name.to_owned());
        // Names that lead nowhere get no place in memory.
        file.collection(name, &self.limits)?.ok_or_else(missing)?;
        let collection = self.place(mesh, name);
        let mut loaded = collection.read();
        if loaded.is_none() {
            drop(loaded);
            let mut matrix = collection.write();
            if matrix.is_none() {
                let row = file.collection(name, &self.limits)?.ok_or_else(missing)?;
                *matrix = Some(self.load(file, &row)?);
            }
            loaded = RwLockWriteGuard::downgrade(matrix);
        }
        let row = file.collection(name, &self.limits)?.ok_or_else(missing)?;
        let Some(matrix) = loaded.as_ref() else {
            return Err(VectorError::Busy);
        };
        let found = query.vector.dimensions();
        if found != row.dimensions {
            return Err(VectorError::Dimension {
                collection: name.to_owned(),
                expected: row.dimensions,
                found,
            });
        }
        let deadline = Deadline::after(self.limits.time);
        let nearest = match query.filter.all.is_empty() && query.hidden.is_empty() {
            true => matrix.nearest(&query.vector, query.limit, deadline)?,
            false => {
                let rows = file.matching(row.id, &query.filter, &query.hidden, &self.limits)?;
                matrix.nearest_of(&rows, &query.vector, query.limit, deadline)?
            }
        };
        file.hits(&nearest, &self.limits)
    }

    fn load(&self, file: &MeshFile, row: &CollectionRow) -> Result<Matrix, VectorError> {
        let bytes = row.vectors.saturating_mul(row_bytes(row.dimensions));
        if bytes > self.limits.memory {
            return Err(VectorError::Limit(format!(
                "the collection needs {} MiB of memory, and the broker has {} MiB for vectors; ask the operator to raise \
                 VECTOR_MEMORY_MB",
                bytes / 1024 / 1024,
                self.limits.memory / 1024 / 1024
            )));
        }
        let reserved = self.reserve(bytes)?;
        file.load(row, reserved, &self.limits)
    }
}

impl Mesh {
    /// Forgets a place that holds nothing and that nobody else has.
    fn tidy(&self, name: &str, collection: &Arc<Collection>) {
        let mut collections = lock(&self.collections);
        // The one in the list and the caller's: nobody can get another one while the list is held.
        if Arc::strong_count(collection) == 2 && collection.read().is_none() {
            collections.remove(name);
        }
    }
}

impl VectorBackend for SqliteVectors {
    fn engine(&self) -> &'static str {
        "sqlite"
    }

    fn store<'a>(
        &'a self,
        mesh: &'a MeshId,
        collection: &'a str,
        new: NewVector,
        actor: &'a Actor,
    ) -> BoxFuture<'a, Result<Stored, VectorError>> {
        let (name, actor) = (collection.to_owned(), actor.clone());
        self.change(self.shared.mesh(mesh), move |shared, mesh, file| {
            let collection = shared.place(mesh, &name);
            let stored = {
                let mut matrix = collection.write();
                let stored = file.store(&name, &new, &actor, &shared.limits);
                if let (Ok(stored), Some(loaded)) = (&stored, matrix.as_mut())
                    && !loaded.put(stored.row, new.vector.as_slice())
                {
                    // The next search loads it, and makes room for it.
                    *matrix = None;
                }
                stored
            };
            mesh.tidy(&name, &collection);
            Ok(Stored {
                replaced: stored?.replaced,
            })
        })
        .boxed()
    }

    fn search<'a>(
        &'a self,
        mesh: &'a MeshId,
        collection: &'a str,
        query: Query,
    ) -> BoxFuture<'a, Result<Vec<Hit>, VectorError>> {
        let name = collection.to_owned();
        async move {
            if !self.shared.path(mesh).exists() {
                return Err(VectorError::NoCollection(name));
            }
            let searching = self.read(self.shared.mesh(mesh), move |shared, mesh, file| {
                shared.search(mesh, file, &name, &query)
            });
            searching.await
        }
        .boxed()
    }

    fn delete<'a>(
        &'a self,
        mesh: &'a MeshId,
        collection: &'a str,
        id: Uuid,
        actor: &'a Actor,
    ) -> BoxFuture<'a, Result<(), VectorError>> {
        let (name, actor) = (collection.to_owned(), actor.clone());
        async move {
            if !self.shared.path(mesh).exists() {
                return Err(VectorError::NoCollection(name));
            }
            let deleting = self.change(self.shared.mesh(mesh), move |shared, mesh, file| {
                let collection = shared.place(mesh, &name);
                let deleted = {
                    let mut matrix = collection.write();
                    let deleted = file.delete(&name, id, &actor, &shared.limits);
                    match (&deleted, matrix.as_mut()) {
                        (Ok(deleted), Some(loaded)) if !deleted.was_last => loaded.remove(deleted.row),
                        (Ok(_), _) => *matrix = None,
                        _ => {}
                    }
                    deleted
                };
                mesh.tidy(&name, &collection);
                deleted.map(drop)
            });
            deleting.await
        }
        .boxed()
    }

    fn collections<'a>(
        &'a self,
        mesh: &'a MeshId,
        hidden: &'a [MemberId],
    ) -> BoxFuture<'a, Result<Vec<VectorCollection>, VectorError>> {
        let hidden = hidden.to_vec();
        async move {
            if !self.shared.path(mesh).exists() {
                return Ok(Vec::new());
            }
            let listing = self.read(self.shared.mesh(mesh), move |shared, _, file| {
                file.collections(&hidden, &shared.limits)
            });
            listing.await
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.running.close();
            let meshes = self.shared.open.take_all();
            let closing = on_thread(move || {
                drop(meshes);
                Ok(())
            });
            if let Err(error) = closing.await {
                tracing::warn!(%error, "vectors were not closed well");
            }
        }
        .boxed()
    }
}
