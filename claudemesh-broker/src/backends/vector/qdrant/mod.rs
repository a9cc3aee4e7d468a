//! Vectors in a Qdrant server: a collection of its for each collection of a mesh.
//!
//! The broker is the only one who writes there. What has to be in order (who creates a collection, who ends it, who replaces a
//! vector) is put in order here, and holds if another program gets in between all the same: what the server says is looked
//! at again before it is believed.

mod known;
mod names;
mod points;
mod server;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use claudemesh_proto::model::{MemberId, MeshId};
use claudemesh_proto::ops::VectorCollection;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use super::{Actor, Filter, Hit, NewVector, Query, Stored, VectorBackend, VectorError, VectorLimits};
use crate::config::QdrantSettings;
use known::{Known, MeshState};
use names::{collection_name, own_name, prefix};
use points::{AUTHOR, AUTHOR_NAME, MESH, hit, point, text, visible};
use server::{Failure, Server};

/// Questions about collections that are under way at once for one list.
const UNDER_WAY: usize = 8;
/// How often a write is tried when its collection vanishes.
const TRIES: usize = 3;

/// Vectors in a Qdrant server.
pub struct QdrantVectors {
    server: Server,
    limits: VectorLimits,
    meshes: Mutex<HashMap<MeshId, Arc<MeshState>>>,
}

impl fmt::Debug for QdrantVectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QdrantVectors")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl QdrantVectors {
    /// Vectors at this server, which is asked when it is needed.
    ///
    /// # Errors
    /// [`VectorError::Unavailable`] if the settings cannot be used.
    pub fn new(settings: &QdrantSettings, limits: VectorLimits) -> Result<Self, VectorError> {
        Ok(Self {
            server: Server::new(settings, limits.time)?,
            limits,
            meshes: Mutex::default(),
        })
    }

    fn mesh(&self, id: &MeshId) -> Arc<MeshState> {
        let mut meshes = self.meshes.lock().unwrap_or_else(PoisonError::into_inner);
        if meshes.len() >= known::MESHES && !meshes.contains_key(id) {
            meshes.retain(|_, mesh| Arc::strong_count(mesh) > 1);
        }
        meshes.entry(id.clone()).or_default().clone()
    }

    /// What is known of a collection; `None` if there is none.
    async fn find(&self, state: &MeshState, on_server: &str) -> Result<Option<Known>, VectorError> {
        if let Some(known) = state.known(on_server) {
            return Ok(Some(known));
        }
        let found = self.server.collection(on_server).await?;
        if let Some(info) = &found {
            // The one who created it may not have come to the end.
            self.server.index(on_server, &info.not_indexed).await?;
            state.learn(on_server, info.known);
        }
        Ok(found.map(|info| info.known))
    }

    /// The server's names of a mesh's collections, with ours.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, String)>, VectorError> {
        let names = self.server.names().await?;
        let own = names.into_iter().filter_map(|on_server| {
            let name = own_name(prefix, &on_server)?;
            Some((on_server, name))
        });
        Ok(own.collect())
    }

    /// Makes sure that the collection is there and takes vectors of this length.
    async fn ensure(&self, mesh: &MeshId, state: &MeshState, name: &str, dimensions: usize) -> Result<(), VectorError> {
        let prefix = prefix(mesh);
        let on_server = collection_name(&prefix, name);
        let fits = |known: Known| match known.dimensions == dimensions {
            true => Ok(()),
            false => Err(VectorError::Dimension {
                collection: name.to_owned(),
                expected: known.dimensions,
                found: dimensions,
            }),
        };
        if let Some(known) = state.known(&on_server) {
            return fits(known);
        }
        let _alone = state.creating.lock().await;
        if let Some(known) = self.find(state, &on_server).await? {
            return fits(known);
        }
        let count = u64::try_from(self.list(&prefix).await?.len()).unwrap_or(u64::MAX);
        if count >= self.limits.mesh_collections {
            return Err(VectorError::too_many_collections(&self.limits));
        }
        let known = self.server.create(&on_server, dimensions).await?;
        state.learn(&on_server, known);
        fits(known)
    }

    /// How many vectors of the mesh members may see, of a collection or all.
    async fn count_all(&self, mesh: &MeshId) -> Result<u64, VectorError> {
        let filter = visible(mesh, &Filter::default(), &[]);
        let names = self.list(&prefix(mesh)).await?;
        let counts = stream::iter(names.into_iter().map(|(on_server, _)| {
            let filter = filter.clone();
            async move {
                self.server
                    .count(&on_server, Some(filter))
                    .await
                    .map(Option::unwrap_or_default)
            }
        }));
        let counts = counts.buffer_unordered(UNDER_WAY);
        counts.try_fold(0, |sum, count| async move { Ok(sum + count) }).await
    }

    /// Whether one more vector fits.
    async fn check_room(&self, mesh: &MeshId, state: &MeshState) -> Result<(), VectorError> {
        let counting = state.take_room(self.limits.mesh_vectors, || self.count_all(mesh));
        match counting.await? {
            true => Ok(()),
            false => Err(VectorError::too_many_vectors(&self.limits)),
        }
    }

    /// Author of the vector, if there is one with this id.
    async fn author(&self, mesh: &MeshId, on_server: &str, id: Uuid) -> Result<Option<(MemberId, String)>, Failure> {
        let Some(payload) = self.server.payload(on_server, id, &[MESH, AUTHOR, AUTHOR_NAME]).await? else {
            return Ok(None);
        };
        let field = |key| text(&payload, key).unwrap_or_default().to_owned();
        if field(MESH) != mesh.as_str() {
            return Ok(None);
        }
        Ok(Some((MemberId::from(field(AUTHOR)), field(AUTHOR_NAME))))
    }

    async fn store_once(
        &self,
        mesh: &MeshId,
        state: &MeshState,
        name: &str,
        new: &NewVector,
        actor: &Actor,
    ) -> Result<Stored, Failure> {
        self.ensure(mesh, state, name, new.vector.dimensions()).await?;
        let on_server = collection_name(&prefix(mesh), name);
        let existing = match new.is_chosen {
            true => self.author(mesh, &on_server, new.id).await?,
            false => None,
        };
        let replaced = existing.is_some();
        match existing {
            Some((author, author_name)) => {
                actor.may_change(&author, &author_name).map_err(VectorError::taken)?;
            }
            None => self.check_room(mesh, state).await?,
        }
        self.server.upsert(&on_server, point(mesh, new, actor)?).await?;
        Ok(Stored { replaced })
    }

    async fn delete_once(
        &self,
        mesh: &MeshId,
        state: &MeshState,
        name: &str,
        id: Uuid,
        actor: &Actor,
    ) -> Result<(), Failure> {
        let on_server = collection_name(&prefix(mesh), name);
        let (author, author_name) = self.author(mesh, &on_server, id).await?.ok_or(VectorError::NoVector)?;
        actor.may_change(&author, &author_name)?;
        self.server.delete(&on_server, id).await?;
        state.gave_room().await;
        Ok(())
    }

    /// Ends a collection that holds nothing any more. The vector is deleted: what fails here is told to nobody.
    async fn end_if_empty(&self, state: &MeshState, on_server: &str) {
        let is_empty = || async {
            let count = self.server.count(on_server, None).await;
            matches!(count, Ok(Some(0)))
        };
        if !is_empty().await {
            return;
        }
        // Nobody stores while it is looked at again and ended.
        let _alone = state.ending.write().await;
        if is_empty().await {
            state.forget(on_server);
            if let Err(error) = self.server.end(on_server).await {
                tracing::warn!(%error, "an empty vector collection was not ended");
            }
        }
    }

    async fn search_once(&self, mesh: &MeshId, name: &str, query: &Query) -> Result<Vec<Hit>, Failure> {
        let state = self.mesh(mesh);
        let on_server = collection_name(&prefix(mesh), name);
        let known = self.find(&state, &on_server).await?.ok_or(Failure::NoCollection)?;
        let found = query.vector.dimensions();
        if known.dimensions != found {
            // It may have ended, and begun anew.
            state.forget(&on_server);
            let known = self.find(&state, &on_server).await?.ok_or(Failure::NoCollection)?;
            if known.dimensions != found {
                return Err(Failure::Other(VectorError::Dimension {
                    collection: name.to_owned(),
                    expected: known.dimensions,
                    found,
                }));
            }
        }
        let filter = visible(mesh, &query.filter, &query.hidden);
        let points = self
            .server
            .nearest(&on_server, &query.vector, filter, query.limit)
            .await;
        if points.is_err() {
            state.forget(&on_server);
        }
        Ok(points?.iter().filter_map(hit).collect())
    }
}

fn no_collection(name: &str) -> impl FnOnce(Failure) -> VectorError + '_ {
    move |failure| match failure {
        Failure::NoCollection => VectorError::NoCollection(name.to_owned()),
        Failure::Other(error) => error,
    }
}

impl VectorBackend for QdrantVectors {
    fn engine(&self) -> &'static str {
        "qdrant"
    }

    fn store<'a>(
        &'a self,
        mesh: &'a MeshId,
        collection: &'a str,
        new: NewVector,
        actor: &'a Actor,
    ) -> BoxFuture<'a, Result<Stored, VectorError>> {
        async move {
            let state = self.mesh(mesh);
            let _not_ending = state.ending.read().await;
            // Two who store with one id, or one who deletes it meanwhile, take turns.
            let _turn = state.turn(new.id).await;
            let on_server = collection_name(&prefix(mesh), collection);
            for _ in 1..TRIES {
                match self.store_once(mesh, &state, collection, &new, actor).await {
                    Ok(stored) => return Ok(stored),
                    // What was known of it is no longer so: somebody else has ended it.
                    Err(Failure::NoCollection) => state.forget(&on_server),
                    Err(Failure::Other(error)) => {
                        let is_known = state.known(&on_server).is_some();
                        state.forget(&on_server);
                        match error {
                            // By what the server says now, not by what was known.
                            VectorError::Dimension { .. } if is_known => {}
                            error => return Err(error),
                        }
                    }
                }
            }
            let last = self.store_once(mesh, &state, collection, &new, actor).await;
            last.map_err(no_collection(collection))
        }
        .boxed()
    }

    fn search<'a>(
        &'a self,
        mesh: &'a MeshId,
        collection: &'a str,
        query: Query,
    ) -> BoxFuture<'a, Result<Vec<Hit>, VectorError>> {
        async move {
            let found = self.search_once(mesh, collection, &query).await;
            found.map_err(no_collection(collection))
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
        async move {
            let state = self.mesh(mesh);
            {
                let _not_ending = state.ending.read().await;
                let _turn = state.turn(id).await;
                let deleted = self.delete_once(mesh, &state, collection, id, actor).await;
                deleted.map_err(no_collection(collection))?;
            }
            self.end_if_empty(&state, &collection_name(&prefix(mesh), collection))
                .await;
            Ok(())
        }
        .boxed()
    }

    fn collections<'a>(
        &'a self,
        mesh: &'a MeshId,
        hidden: &'a [MemberId],
    ) -> BoxFuture<'a, Result<Vec<VectorCollection>, VectorError>> {
        async move {
            let state = self.mesh(mesh);
            let filter = visible(mesh, &Filter::default(), hidden);
            let names = self.list(&prefix(mesh)).await?;
            let looks = names.into_iter().map(|(on_server, name)| {
                let (filter, state) = (filter.clone(), &state);
                async move {
                    let Some(vectors) = self
                        .server
                        .count(&on_server, Some(filter))
                        .await?
                        .filter(|count| *count > 0)
                    else {
                        return Ok::<_, VectorError>(None);
                    };
                    // One that ends just now is none.
                    let known = self.find(state, &on_server).await?;
                    Ok(known.map(|known| VectorCollection {
                        name,
                        dimensions: u32::try_from(known.dimensions).unwrap_or(u32::MAX),
                        vectors,
                    }))
                }
            });
            let found: Vec<Option<VectorCollection>> =
                stream::iter(looks).buffer_unordered(UNDER_WAY).try_collect().await?;
            let mut collections: Vec<_> = found.into_iter().flatten().collect();
            collections.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            Ok(collections)
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}
