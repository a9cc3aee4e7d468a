//! What the broker does by itself: leases, status timeouts, expiry, purging.

use std::sync::Arc;
use std::time::Duration;

use claudemesh_proto::limits::SKILL_UPLOAD_MS;
use claudemesh_proto::model::{DeliveryStage, Timestamp};

use crate::Broker;
use crate::broker::{now, now_ms};
use crate::files;
use crate::hub::{PENDING_STATUS_MS, by_mesh, run_outputs, send_receipts};

/// How often leases and deadlines of deliveries are looked at.
const DELIVERY_TICK: Duration = Duration::from_millis(250);
/// How often statuses that nobody confirms are ended, and kept hook reports dropped.
const STATUS_SWEEP: Duration = Duration::from_secs(15);
/// How often claims of tasks whose time is over are ended. Until then they count as ended all the same.
const CLAIM_SWEEP: Duration = Duration::from_secs(5);
/// How often messages whose time is over are ended in the store.
const EXPIRY_SWEEP: Duration = Duration::from_secs(30);
/// How often files whose time is over are removed, and what is left of them.
const FILE_SWEEP: Duration = Duration::from_secs(15);
/// How often bundles of skills are removed that were not deployed in time.
const UPLOAD_SWEEP: Duration = Duration::from_secs(300);
/// How often old messages are removed.
const PURGE: Duration = Duration::from_secs(600);
/// Most rows that one step of a sweep touches: a sweep must not hold up deliveries.
const STEP: usize = 1000;

/// Starts the jobs; they end when the broker stops.
pub(crate) fn start(broker: &Arc<Broker>) {
    every(broker, DELIVERY_TICK, |broker| async move { delivery_tick(&broker) });
    every(
        broker,
        STATUS_SWEEP,
        |broker| async move { status_sweep(&broker).await },
    );
    every(broker, CLAIM_SWEEP, |broker| async move { end_claims(&broker).await });
    every(broker, EXPIRY_SWEEP, |broker| async move { expire(&broker).await });
    every(broker, FILE_SWEEP, |broker| async move { files::sweep(&broker).await });
    every(
        broker,
        UPLOAD_SWEEP,
        |broker| async move { drop_uploads(&broker).await },
    );
    every(broker, PURGE, |broker| async move { purge(&broker).await });
}

fn every<F, Task>(broker: &Arc<Broker>, period: Duration, job: F)
where
    F: Fn(Arc<Broker>) -> Task + Send + 'static,
    Task: Future<Output = ()> + Send,
{
    let broker = broker.clone();
    broker.tasks.clone().spawn(async move {
        let mut interval = tokio::time::interval(period);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = broker.stopping.cancelled() => return,
                _ = interval.tick() => job(broker.clone()).await,
            }
        }
    });
}

fn delivery_tick(broker: &Arc<Broker>) {
    let now = now();
    for mesh in broker.hub.all() {
        let mut guard = mesh.lock();
        let state = &mut *guard;
        if state.delivery.next_deadline().is_due(now) {
            state.delivery.tick(now, &state.mesh);
            run_outputs(broker, &mesh, state, now.wall_ms);
        }
    }
}

async fn status_sweep(broker: &Arc<Broker>) {
    let now = now();
    let mut flipped = 0;
    for mesh in broker.hub.all() {
        let mut guard = mesh.lock();
        let state = &mut *guard;
        // Becoming idle lets through what waited.
        for presence in state.mesh.sweep(now) {
            flipped += 1;
            if let Some(view) = state.mesh.session_view(&presence) {
                state.delivery.session_changed(now, view, &state.mesh);
            }
        }
        run_outputs(broker, &mesh, state, now.wall_ms);
    }
    broker.metrics.sweep_done();
    tracing::debug!(flipped, "status sweep");
    if let Err(error) = broker
        .store
        .sweep_pending_status(Timestamp::from_ms(now.wall_ms.saturating_sub(PENDING_STATUS_MS)))
        .await
    {
        tracing::warn!(%error, "kept hook reports were not swept");
    }
    match broker.store.queue_depth().await {
        Ok(depth) => broker.metrics.set_queue_depth(depth.total()),
        Err(error) => tracing::warn!(%error, "the queue was not counted"),
    }
}

async fn expire(broker: &Arc<Broker>) {
    let now = now_ms();
    loop {
        let ended = match broker.store.expire_due(Timestamp::from_ms(now), STEP).await {
            Ok(ended) => ended,
            Err(error) => return tracing::warn!(%error, "messages whose time is over were not ended"),
        };
        let step = ended.len();
        for (mesh, ended) in by_mesh(ended) {
            if let Some(mesh) = broker.hub.loaded(&mesh) {
                send_receipts(&mesh.lock(), &ended, DeliveryStage::Expired, now);
            }
        }
        if step < STEP {
            return;
        }
    }
}

async fn end_claims(broker: &Arc<Broker>) {
    loop {
        match crate::ops::end_claims(broker, Timestamp::from_ms(now_ms()), STEP).await {
            Ok(ended) if ended >= STEP => {}
            Ok(_) => return,
            Err(error) => return tracing::warn!(%error, "claims of tasks were not ended"),
        }
    }
}

async fn drop_uploads(broker: &Arc<Broker>) {
    let before = Timestamp::from_ms(now_ms().saturating_sub(SKILL_UPLOAD_MS));
    // Each may hold megabytes: few at once.
    loop {
        match broker.store.purge_skill_uploads(before, STEP / 50).await {
            Ok(removed) if removed >= STEP as u64 / 50 => {}
            Ok(_) => return,
            Err(error) => return tracing::warn!(%error, "uploads for skills were not removed"),
        }
    }
}

async fn purge(broker: &Arc<Broker>) {
    let before = Timestamp::from_ms(now_ms().saturating_sub(broker.config.retention_ms));
    loop {
        match broker.store.purge(before, STEP).await {
            Ok(removed) if removed >= STEP as u64 => {}
            Ok(_) => break,
            Err(error) => return tracing::warn!(%error, "old messages were not removed"),
        }
    }
    loop {
        match broker.store.purge_forgotten(before, STEP).await {
            Ok(removed) if removed >= STEP as u64 => {}
            Ok(_) => return,
            Err(error) => return tracing::warn!(%error, "forgotten memories were not removed"),
        }
    }
}
