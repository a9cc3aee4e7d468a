//! Does what the delivery core asks for: writes to sockets, marks in the store, reads from it, receipts to senders.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use claudemesh_proto::frame::ServerFrame;
use claudemesh_proto::hello::caps;
use claudemesh_proto::model::{DeliveryStage, KeyHex, MemberId, MeshId, MessageId, Receipt, Timestamp};

use super::{LiveMesh, LiveState};
use crate::Broker;
use crate::broker::now;
use crate::mesh::{LoadRequest, Message, MessageFacts, Output};
use crate::store::{EndedDelivery, Outcome, StageChange, StageOutcome, StoreError, StoredMessage, Write, WriteKind};

/// Messages in the first page of a read.
const FIRST_PAGE: usize = 16;
/// About how many bytes of messages one read brings into memory, beyond its last page.
const LOAD_BYTES: usize = 8 << 20;

/// Carries out what delivery has decided. Called after every event, under the same lock.
pub fn run_outputs(broker: &Arc<Broker>, mesh: &Arc<LiveMesh>, state: &mut LiveState, now: i64) {
    let outputs: Vec<Output> = state.delivery.drain_outputs().collect();
    let mut changes = Vec::new();
    for output in outputs {
        match output {
            Output::Push {
                presence,
                message,
                attempt,
            } => {
                if let Some(session) = state.session(&presence) {
                    broker.metrics.routed(message.priority);
                    session.outbound.send(message.push_frame(attempt));
                }
            }
            Output::MarkDelivered { member, message, .. } => {
                changes.push(change(
                    &mesh.id,
                    &member,
                    &message.id,
                    DeliveryStage::Delivered,
                    now,
                    None,
                ));
            }
            Output::Ended {
                member,
                message,
                stage,
                reason,
            } => {
                changes.push(change(
                    &mesh.id,
                    &member,
                    &message.id,
                    stage,
                    now,
                    Some(reason.to_owned()),
                ));
            }
            Output::Load(request) => load(broker, mesh, request),
        }
    }
    if !changes.is_empty() {
        record(broker, mesh, changes);
    }
}

/// How long to wait before marks that could not be written are tried again.
const MARK_AGAIN: Duration = Duration::from_millis(500);

/// Writes steps of deliveries that nobody waits for; senders hear of those that advanced. While the store cannot take them
/// they are tried again: what is not marked would be delivered twice after a restart, which not every recipient detects.
/// They are of messages that were in memory, so their number is bounded.
fn record(broker: &Arc<Broker>, mesh: &Arc<LiveMesh>, changes: Vec<StageChange>) {
    let (broker_, mesh_) = (broker.clone(), mesh.clone());
    let changes: Arc<[StageChange]> = changes.into();
    let kept = changes.clone();
    let done = move |outcome| match outcome {
        Ok(Outcome::Stages(outcomes)) => told(&broker_, &mesh_.lock(), &kept, &outcomes),
        Ok(_) => {}
        Err(error) => record_later(&broker_, &mesh_, kept, error),
    };
    let write = Write::new(WriteKind::Stages(changes.clone()));
    if let Err(error) = broker.store.committer().submit(write, Box::new(done)) {
        record_later(broker, mesh, changes, error);
    }
}

fn record_later(broker: &Arc<Broker>, mesh: &Arc<LiveMesh>, changes: Arc<[StageChange]>, mut error: StoreError) {
    let (broker, mesh) = (broker.clone(), mesh.clone());
    broker.tasks.clone().spawn(async move {
        while error.is_retryable() {
            tokio::select! {
                () = broker.stopping.cancelled() => break,
                () = tokio::time::sleep(MARK_AGAIN) => {}
            }
            match broker.store.change_stages(changes.clone()).await {
                Ok(outcomes) => return told(&broker, &mesh.lock(), &changes, &outcomes),
                Err(again) => error = again,
            }
        }
        tracing::warn!(%error, marks = changes.len(), "delivery marks were not written");
    });
}

/// After the store was lost: whether a message was stored whose write failed is not known, and its sender's repetition is
/// not delivered. Every live queue is read from the store again.
pub(crate) fn read_again(broker: &Arc<Broker>) {
    for mesh in broker.hub.all() {
        let now = now();
        let mut guard = mesh.lock();
        let state = &mut *guard;
        state.delivery.read_again(now, &state.mesh);
        run_outputs(broker, &mesh, state, now.wall_ms);
    }
}

/// Counts steps that advanced and sends receipts for them.
pub(crate) fn told(broker: &Broker, state: &LiveState, changes: &[StageChange], outcomes: &[StageOutcome]) {
    for (change, outcome) in changes.iter().zip(outcomes) {
        if !outcome.changed {
            continue;
        }
        broker.metrics.delivery(change.stage);
        if let Some(sender) = &outcome.sender {
            send_receipt(state, sender, change);
        }
    }
}

/// Why a delivery ended without success, where its row does not say more.
pub(crate) fn end_reason(stage: DeliveryStage) -> Option<&'static str> {
    match stage {
        DeliveryStage::Expired => Some("its time ran out"),
        DeliveryStage::Revoked => Some("the recipient was removed from the mesh"),
        DeliveryStage::Refused => Some("the recipient does not take such messages from the sender"),
        DeliveryStage::Accepted | DeliveryStage::Delivered | DeliveryStage::Surfaced | DeliveryStage::Read => None,
    }
}

/// Receipts for deliveries that ended as a member was removed or their time ran out.
pub fn send_receipts(state: &LiveState, ended: &[EndedDelivery], stage: DeliveryStage, now: i64) {
    for delivery in ended {
        let change = change(
            &delivery.mesh_id,
            &delivery.recipient,
            &delivery.message_id,
            stage,
            now,
            end_reason(stage).map(str::to_owned),
        );
        send_receipt(state, &delivery.sender, &change);
    }
}

fn send_receipt(state: &LiveState, sender: &MemberId, change: &StageChange) {
    let to: Vec<_> = state
        .mesh
        .connections_of(sender)
        .filter(|session| session.has_cap(caps::RECEIPTS))
        .map(|session| session.facts.presence.clone())
        .collect();
    if to.is_empty() {
        return;
    }
    let (key, name) = match state.mesh.member(&change.recipient) {
        Some(member) => (member.facts.key.clone(), member.facts.name.clone()),
        None => (KeyHex::default(), change.recipient.0.clone()),
    };
    let receipt = Receipt {
        message_id: change.message_id.clone(),
        recipient: key,
        name,
        stage: change.stage,
        at: change.at,
        adapter: change.adapter.clone(),
        reason: change.reason.clone(),
    };
    state.send(&to, &ServerFrame::Receipt(Box::new(receipt)));
}

/// One step of one delivery.
pub(crate) fn change(
    mesh: &MeshId,
    recipient: &MemberId,
    message: &MessageId,
    stage: DeliveryStage,
    now: i64,
    reason: Option<String>,
) -> StageChange {
    StageChange {
        mesh_id: mesh.clone(),
        message_id: message.clone(),
        recipient: recipient.clone(),
        stage,
        at: Timestamp::from_ms(now),
        adapter: None,
        reason,
        place: None,
    }
}

fn load(broker: &Arc<Broker>, mesh: &Arc<LiveMesh>, request: LoadRequest) {
    let (broker, mesh) = (broker.clone(), mesh.clone());
    broker
        .tasks
        .clone()
        .spawn(async move { answer_load(&broker, &mesh, request).await });
}

/// Reads what delivery asks for and hands it in.
pub(crate) async fn answer_load(broker: &Arc<Broker>, mesh: &Arc<LiveMesh>, request: LoadRequest) {
    let read = read_pages(broker, mesh, &request).await;
    let now = now();
    let mut state = mesh.lock();
    let state = &mut *state;
    match read {
        Ok((messages, more)) => state.delivery.loaded(now, &request, messages, more, &state.mesh),
        Err(error) => {
            tracing::warn!(%error, "waiting messages could not be read");
            state.delivery.load_failed(now, &request);
        }
    }
    run_outputs(broker, mesh, state, now.wall_ms);
}

/// Reads waiting messages in pages that grow, until there are as many as asked for or they hold enough bytes: one
/// message may have a megabyte. Tells whether there may be others.
async fn read_pages(
    broker: &Broker,
    mesh: &LiveMesh,
    request: &LoadRequest,
) -> Result<(Vec<Arc<Message>>, bool), StoreError> {
    let mut messages: Vec<Arc<Message>> = Vec::new();
    let (mut after, mut bytes, mut page) = (request.after_seq, 0, FIRST_PAGE);
    loop {
        let most = page.min(request.limit - messages.len());
        let rows = broker
            .store
            .pending(&mesh.id, &request.member, request.priority, after, most)
            .await?;
        let complete = rows.len() < most;
        for row in &rows {
            after = row.seq;
            let message = Message::from(message_facts(row));
            bytes += message.size();
            messages.push(Arc::new(message));
        }
        if complete {
            return Ok((messages, false));
        }
        if messages.len() >= request.limit || bytes >= LOAD_BYTES {
            return Ok((messages, true));
        }
        page *= 4;
    }
}

/// A stored message as the delivery core wants it.
pub(crate) fn message_facts(row: &StoredMessage) -> MessageFacts {
    let session = row.sender_session_pubkey.as_ref().map(|key| key.0.clone());
    let from_member = row.sender_pubkey != "system" && !row.sender_pubkey.starts_with("webhook:");
    MessageFacts {
        id: row.id.clone(),
        mesh_id: row.mesh_id.clone(),
        seq: row.seq,
        priority: row.priority,
        sender_pubkey: session.unwrap_or_else(|| row.sender_pubkey.clone()),
        sender_member: from_member.then(|| KeyHex(row.sender_pubkey.clone())),
        sender_name: Some(row.sender_name.clone()).filter(|name| !name.is_empty()),
        target: row.target.clone(),
        session_hint: row.session_hint.clone(),
        nonce: row.nonce.clone(),
        ciphertext: row.ciphertext.clone(),
        meta: row.meta.clone(),
        sealed: row.sealed.clone(),
        subtype: row.subtype.clone(),
        created_at_ms: row.created_at.as_ms(),
        expires_at_ms: row.expires_at.as_ms(),
    }
}

/// Ended deliveries by mesh.
pub(crate) fn by_mesh(ended: Vec<EndedDelivery>) -> HashMap<MeshId, Vec<EndedDelivery>> {
    let mut meshes: HashMap<_, Vec<_>> = HashMap::new();
    for delivery in ended {
        meshes.entry(delivery.mesh_id.clone()).or_default().push(delivery);
    }
    meshes
}
