//! The mesh as a whole.

use std::time::Duration;

use claudemesh_proto::ErrorFrame;
use claudemesh_proto::model::{Capability, Timestamp};
use claudemesh_proto::ops::{MeshInfo, MeshInfoResult, MeshStats, MeshStatsResult};
use tokio::time::timeout;

use super::OrFrame as _;
use crate::Broker;
use crate::context::{Context, Handle};

/// How long the overview waits for the vector collections, which may be on a server.
const COLLECTIONS: Duration = Duration::from_secs(2);

impl Handle<MeshInfo> for Broker {
    async fn handle(cx: Context, _: MeshInfo) -> Result<MeshInfoResult, ErrorFrame> {
        let (store, mesh) = (&cx.broker.store, cx.session.mesh_id());
        let keys = store.list_state(mesh).await.or_frame()?;
        let hidden = {
            let state = cx.session.mesh.lock();
            state.mesh.hidden_from(&cx.session.member, Capability::StateRead)
        };
        let memory_count = store.memory_count(mesh, &hidden).await.or_frame()?;
        let tasks = store
            .task_counts(mesh, Timestamp::from_ms(cx.now_ms), &hidden)
            .await
            .or_frame()?;
        // An overview without the tables or collections is better than none.
        let tables = cx.broker.sql.schema(mesh).await.unwrap_or_default();
        let listing = timeout(COLLECTIONS, cx.broker.vectors.collections(mesh, &hidden));
        let collections = listing.await.unwrap_or(Ok(Vec::new())).unwrap_or_default();
        let file_count = cx.file_count().await?;
        let skill_count = store.skill_count(mesh).await.or_frame()?;
        let state = cx.session.mesh.lock();
        let overview = state.mesh.overview_for(&cx.session.presence);
        let facts = state.mesh.facts();
        Ok(MeshInfoResult {
            mesh: facts.id.0.clone(),
            slug: Some(facts.slug.clone()),
            name: Some(facts.name.clone()),
            peers: overview.peers,
            members: overview.members,
            groups: overview.groups,
            state_keys: super::state::readable(&state, &cx.session, keys)
                .map(|row| row.key)
                .collect(),
            memory_count,
            tasks,
            tables: tables.into_iter().map(|table| table.name).collect(),
            collections: collections.into_iter().map(|collection| collection.name).collect(),
            streams: state
                .streams
                .list()
                .into_iter()
                .map(|stream| stream.row.name.clone())
                .collect(),
            file_count,
            skill_count,
            your_name: overview.your_name,
            your_groups: overview.your_groups,
        })
    }
}

impl Handle<MeshStats> for Broker {
    async fn handle(cx: Context, _: MeshStats) -> Result<MeshStatsResult, ErrorFrame> {
        Ok(MeshStatsResult {
            members: cx.session.mesh.lock().mesh.stats_list(&cx.session.member),
        })
    }
}
