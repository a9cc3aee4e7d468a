//! Messages: send, receive, acknowledge, ask how far they are.

use std::sync::Arc;

use claudemesh_crypto::group::EpochId;
use claudemesh_crypto::random_id;
use claudemesh_proto::hello::caps;
use claudemesh_proto::limits::{DEFAULT_MESSAGE_TTL_MS, MAX_BATCH};
use claudemesh_proto::model::{
    DeliveryStage, GroupSeal, KeyHex, MemberId, MessageId, RecipientStatus, Target, TargetKind, Timestamp,
};
use claudemesh_proto::ops::{
    AckMessages, CountWaiting, ListPeers, MessageAck, MessageStatus, MessageStatusResult, MessagesAcked,
    MessagesPulled, PeersList, PullMessages, SendAck, SendEnvelope, WaitingCounted,
};
use claudemesh_proto::{ErrorCode, ErrorFrame, PROTOCOL_VERSION};
use serde_json::json;
use tokio::sync::oneshot;

use super::{OrFrame as _, session_gone};
use crate::Broker;
use crate::broker::{now, now_ms};
use crate::context::{Context, Handle};
use crate::errors::ToErrorFrame as _;
use crate::hub::{self, LiveState, run_outputs};
use crate::mesh::{Message, Pulled, Resolved, TargetRequest, resolve};
use crate::store::{
    DeliveryPlace, MessageRow, NewMessage, Outcome, Recipient, RecipientRow, StageChange, StoreError, StoredMessage,
    Write, WriteKind,
};

/// Messages in one answer to `pull_messages` when the caller does not say.
const DEFAULT_PULL: u32 = 64;
/// Shortest id that a client of protocol 2 may choose for a message: shorter ones are guessable or collide.
const MIN_MESSAGE_ID: usize = 16;

impl Handle<SendEnvelope> for Broker {
    /// Nothing is awaited before the write is in the committer's queue, so that messages keep the order of their frames.
    async fn handle(cx: Context, request: SendEnvelope) -> Result<SendAck, ErrorFrame> {
        let client_id = request.id.clone();
        // Original clients do not send again what was refused.
        let place = client_id.as_deref().filter(|_| cx.session.protocol >= PROTOCOL_VERSION);
        let (refused, outcome) = cx.session.sends.pass(place, || {
            let (message, resolved) = prepare(&cx, request)?;
            let refused = resolved
                .recipients
                .iter()
                .filter(|recipient| recipient.refused.is_some())
                .count();
            Ok((refused, store(&cx, Arc::new(message), &resolved)?))
        })?;
        let outcome = match outcome.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => return Err(error.to_error_frame()),
            Err(_) => return Err(StoreError::Closed.to_error_frame()),
        };
        Ok(SendAck {
            id: client_id.unwrap_or_default(),
            message_id: outcome.message_id,
            queued: true,
            recipients: outcome.recipients,
            refused: if outcome.duplicate {
                outcome.refused
            } else {
                u32::try_from(refused).unwrap_or(u32::MAX)
            },
            duplicate: outcome.duplicate,
        })
    }
}

/// Checks a message against the mesh and makes its row.
fn prepare(cx: &Context, request: SendEnvelope) -> Result<(MessageRow, Resolved), ErrorFrame> {
    let session = &cx.session;
    let current = session.protocol >= PROTOCOL_VERSION;
    let state = session.mesh.lock();
    let resolved = resolve(
        &state.mesh,
        &TargetRequest {
            sender: &session.member,
            spec: &request.target_spec,
            session_hint: request.session_hint.as_ref(),
            // Whoever sends a name has not sealed the message to anybody.
            allow_names: false,
        },
    )?;
    if let Some(seal) = &request.sealed {
        check_seal(cx, &state, seal, &resolved.target)?;
    } else if current && resolved.target.kind != TargetKind::Direct {
        let text = "messages to groups and to everybody must be sealed with the mesh's group keys";
        return Err(ErrorFrame::new(ErrorCode::InvalidRequest, text).at("/sealed"));
    }
    if let [only] = resolved.recipients.as_slice()
        && resolved.target.kind == TargetKind::Direct
        && only.refused.is_some()
    {
        let name = state
            .mesh
            .member(&only.member)
            .map(|member| member.facts.name.clone())
            .unwrap_or_default();
        let text = format!("{name} does not take direct messages from you");
        return Err(ErrorFrame::new(ErrorCode::Refused, text).at("/targetSpec"));
    }
    let id = match &request.id {
        Some(id) if current && id.len() >= MIN_MESSAGE_ID => MessageId(id.clone()),
        Some(_) if current => {
            let text = format!("a message id has at least {MIN_MESSAGE_ID} characters");
            return Err(ErrorFrame::new(ErrorCode::InvalidRequest, text).at("/id"));
        }
        _ => MessageId(random_id()),
    };
    let ttl = i64::try_from(request.ttl_ms.unwrap_or(DEFAULT_MESSAGE_TTL_MS)).unwrap_or(i64::MAX);
    let message = MessageRow {
        id,
        mesh_id: session.mesh_id().clone(),
        sender_member_id: session.member.clone(),
        sender_session_pubkey: session.session_key.clone(),
        sender_name: hub::name_of(&state, &session.presence).ok_or_else(session_gone)?,
        sender_pubkey: session.member_key.0.clone(),
        client_id: request.id,
        target: resolved.target.clone(),
        priority: request.priority,
        nonce: request.nonce,
        ciphertext: request.ciphertext,
        meta: request.meta,
        sealed: request.sealed,
        subtype: request.subtype,
        session_hint: request.session_hint,
        created_at: Timestamp::from_ms(cx.now_ms),
        expires_at: Timestamp::from_ms(cx.now_ms.saturating_add(ttl)),
    };
    Ok((message, resolved))
}

/// A sealed message must come from the session that sends it and use a key that no removed member has.
fn check_seal(cx: &Context, state: &LiveState, seal: &GroupSeal, target: &Target) -> Result<(), ErrorFrame> {
    if target.kind == TargetKind::Direct {
        let text = "direct messages are sealed to the recipient's key, not with group keys";
        return Err(ErrorFrame::new(ErrorCode::InvalidRequest, text).at("/sealed"));
    }
    if seal.device != cx.session.member_key || Some(&seal.session) != cx.session.session_key.as_ref() {
        let text = "the seal names another device or session than the one that sends it";
        return Err(ErrorFrame::new(ErrorCode::Forbidden, text).at("/sealed/device"));
    }
    let Some(log) = &state.group else {
        return Err(ErrorFrame::new(ErrorCode::StaleEpoch, "this mesh has no group keys yet").at("/sealed/epoch"));
    };
    let current = log.epoch_id();
    let named = EpochId {
        generation: seal.generation,
        epoch: seal.epoch,
    };
    let previous = EpochId {
        epoch: current.epoch.saturating_sub(1),
        ..current
    };
    // The epoch before the current one is still fine for what was under way, unless somebody who had its key is gone.
    let previous_is_fine = log.roster().former().iter().all(|device| device.until < previous);
    let is_current = named == current || (named == previous && previous_is_fine);
    if !is_current || log.rekey_needed() {
        let text = format!(
            "the message is sealed with epoch {} of generation {}, the mesh is at epoch {} of generation {}{}",
            seal.epoch,
            seal.generation,
            current.epoch,
            current.generation,
            if log.rekey_needed() {
                " and a new epoch is due because a member was removed"
            } else {
                ""
            },
        );
        return Err(ErrorFrame::new(ErrorCode::StaleEpoch, text)
            .at("/sealed/epoch")
            .retry_after(200));
    }
    Ok(())
}

/// Hands the message to the committer. Once it is on disk, and in the order in which messages got there, it goes to the
/// live sessions.
fn store(
    cx: &Context,
    message: Arc<MessageRow>,
    resolved: &Resolved,
) -> Result<oneshot::Receiver<Result<crate::store::MessageOutcome, StoreError>>, ErrorFrame> {
    let client_id = message.client_id.clone();
    let payload = json!({
        "messageId": message.id,
        "targetSpec": message.target.spec,
        "priority": message.priority,
    });
    let recipients: Vec<Recipient> = resolved
        .recipients
        .iter()
        .map(|recipient| Recipient {
            member_id: recipient.member.clone(),
            refused: recipient
                .refused
                .map(|capability| format!("no {} grant", capability.as_str())),
        })
        .collect();
    for refused in resolved.recipients.iter().filter_map(|recipient| recipient.refused) {
        cx.broker.metrics.refused(refused);
    }
    let write = Write {
        kind: WriteKind::Message(NewMessage {
            message: message.clone(),
            recipients,
        }),
        audit: cx.audit_event::<SendEnvelope>(payload).into_iter().collect(),
    };
    let accepted: Vec<_> = resolved
        .recipients
        .iter()
        .filter(|recipient| recipient.refused.is_none())
        .map(|recipient| (recipient.member.clone(), recipient.session_hint.clone()))
        .collect();
    let (broker, session) = (cx.broker.clone(), cx.session.clone());
    let (sender, receiver) = oneshot::channel();
    let done = move |outcome: Result<Outcome, StoreError>| {
        let mesh = &session.mesh;
        let outcome = match outcome {
            Ok(Outcome::Message(outcome)) => Ok(outcome),
            Ok(_) => Err(StoreError::Database("a message had another outcome".to_owned())),
            Err(error) => Err(error),
        };
        if let Ok(outcome) = &outcome
            && outcome.pending > 0
        {
            let mut guard = mesh.lock();
            let state = &mut *guard;
            if outcome.duplicate {
                let repeated = (&outcome.message_id, message.priority, outcome.seq);
                for (member, _) in &accepted {
                    state.delivery.repeated(now(), member, repeated, &state.mesh);
                }
            } else {
                let stored = StoredMessage {
                    seq: outcome.seq,
                    row: message,
                };
                deliver(state, &stored, &accepted);
            }
            run_outputs(&broker, mesh, state, now_ms());
        }
        if let (Err(error), Some(id)) = (&outcome, &client_id) {
            // Here and not where the outcome is awaited: before the store takes another message.
            session.sends.refused(id, &error.to_error_frame());
        }
        // The sender may be gone: the message is stored and delivered all the same.
        let _ = sender.send(outcome);
    };
    cx.broker.store.committer().submit(write, Box::new(done)).or_frame()?;
    Ok(receiver)
}

/// Gives a stored message to each recipient's queue.
fn deliver(state: &mut LiveState, stored: &StoredMessage, recipients: &[(MemberId, Option<KeyHex>)]) {
    let mut facts = hub::message_facts(stored);
    let now = now();
    // A target that is a session's key resolves to its member with that session as the hint: a direct message only.
    if let [(_, Some(hint))] = recipients {
        facts.session_hint = Some(hint.clone());
    }
    let message = Arc::new(Message::from(facts));
    for (member, _) in recipients {
        if state.mesh.member(member).is_none() {
            state.delivery.removed_meanwhile(member, message.clone());
            continue;
        }
        state.delivery.accepted(now, member, message.clone(), &state.mesh);
    }
}

impl Handle<ListPeers> for Broker {
    async fn handle(cx: Context, _: ListPeers) -> Result<PeersList, ErrorFrame> {
        Ok(PeersList {
            peers: cx.session.mesh.lock().mesh.peers_for(&cx.session.presence),
        })
    }
}

impl Handle<PullMessages> for Broker {
    async fn handle(cx: Context, request: PullMessages) -> Result<MessagesPulled, ErrorFrame> {
        let limit = request.limit.unwrap_or(DEFAULT_PULL) as usize;
        let session = &cx.session;
        if session.observer && !request.peek {
            let others = session.mesh.lock().mesh.sessions_of(&session.member).count();
            if others > 0 {
                let text =
                    format!("{others} live session(s) of yours get this mail; look without taking it by setting peek");
                return Err(ErrorFrame::new(ErrorCode::Conflict, text).at("/peek"));
            }
        }
        let messages = loop {
            let pulled = {
                let mut state = session.mesh.lock();
                let state = &mut *state;
                let pulled = state.delivery.pull(
                    now(),
                    &session.presence,
                    &request.priorities,
                    limit.min(MAX_BATCH),
                    request.peek,
                    &state.mesh,
                );
                run_outputs(&cx.broker, &session.mesh, state, now_ms());
                pulled
            };
            match pulled {
                Pulled::Ready(messages) => break messages,
                Pulled::NeedLoad(requests) => {
                    for request in requests {
                        hub::answer_load(&cx.broker, &session.mesh, request).await;
                    }
                }
            }
        };
        if !request.peek && !session.has_cap(caps::ACK) {
            // Such a session has what it was given: nothing will tell otherwise.
            let mark = |message: &Arc<Message>| {
                hub::change(
                    session.mesh_id(),
                    &session.member,
                    &message.id,
                    DeliveryStage::Delivered,
                    cx.now_ms,
                    None,
                )
            };
            let changes: Vec<_> = messages.iter().map(|(message, _)| mark(message)).collect();
            if !changes.is_empty() {
                let outcomes = cx.broker.store.change_stages(changes.clone()).await.or_frame()?;
                hub::told(&cx.broker, &session.mesh.lock(), &changes, &outcomes);
            }
        }
        let mut waiting = cx
            .broker
            .store
            .waiting_counts(session.mesh_id(), &session.member, Timestamp::from_ms(cx.now_ms))
            .await
            .or_frame()?;
        let messages: Vec<_> = messages
            .iter()
            .map(|(message, attempt)| message.to_push(*attempt))
            .collect();
        // What is handed out here counts as waiting until it is acknowledged; the caller asks what is left.
        for message in &messages {
            let count = waiting.of(message.priority);
            *count = count.saturating_sub(1);
        }
        Ok(MessagesPulled { messages, waiting })
    }
}

impl Handle<CountWaiting> for Broker {
    async fn handle(cx: Context, _: CountWaiting) -> Result<WaitingCounted, ErrorFrame> {
        let now = Timestamp::from_ms(cx.now_ms);
        let store = &cx.broker.store;
        let waiting = store
            .waiting_counts(cx.session.mesh_id(), &cx.session.member, now)
            .await
            .or_frame()?;
        Ok(WaitingCounted { waiting })
    }
}

impl Handle<AckMessages> for Broker {
    /// In memory a message stays under lease until its mark is on disk: what the broker forgets, the recipient gets again.
    async fn handle(cx: Context, request: AckMessages) -> Result<MessagesAcked, ErrorFrame> {
        let session = cx.session.clone();
        let changes: Arc<[StageChange]> = {
            let state = session.mesh.lock();
            let change = |ack: MessageAck| StageChange {
                adapter: ack.adapter,
                place: place(&state, &session.member, &ack.message_id),
                ..hub::change(
                    session.mesh_id(),
                    &session.member,
                    &ack.message_id,
                    ack.stage.into(),
                    cx.now_ms,
                    None,
                )
            };
            request.acks.into_iter().map(change).collect()
        };
        let (sender, receiver) = oneshot::channel();
        let (broker, kept) = (cx.broker.clone(), changes.clone());
        let done = move |outcome: Result<Outcome, StoreError>| {
            let result = match outcome {
                Ok(Outcome::Stages(outcomes)) => {
                    let now = now();
                    let mut guard = session.mesh.lock();
                    let state = &mut *guard;
                    let acked = kept.iter().map(|change| &change.message_id);
                    state
                        .delivery
                        .acked(now, &session.member, &session.presence, acked, &state.mesh);
                    hub::told(&broker, state, &kept, &outcomes);
                    run_outputs(&broker, &session.mesh, state, now.wall_ms);
                    Ok(outcomes.iter().filter(|outcome| outcome.sender.is_some()).count())
                }
                Ok(_) => Err(StoreError::Database("marks had another outcome".to_owned())),
                Err(error) => Err(error),
            };
            // The reporting session may be gone: the marks stand all the same.
            let _ = sender.send(result);
        };
        cx.broker
            .store
            .committer()
            .submit(Write::new(WriteKind::Stages(changes)), Box::new(done))
            .or_frame()?;
        let acked = receiver.await.unwrap_or(Err(StoreError::Closed)).or_frame()?;
        Ok(MessagesAcked {
            acked: u32::try_from(acked).unwrap_or(u32::MAX),
        })
    }
}

/// Where the delivery of a message in memory is in the store.
fn place(state: &LiveState, member: &MemberId, message: &MessageId) -> Option<DeliveryPlace> {
    let message = state.delivery.message(member, message)?;
    let sender = state.mesh.member_by_key(message.sender_member.as_ref()?.as_str())?;
    Some(DeliveryPlace {
        seq: message.seq,
        sender: sender.facts.id.clone(),
    })
}

impl Handle<MessageStatus> for Broker {
    async fn handle(cx: Context, request: MessageStatus) -> Result<MessageStatusResult, ErrorFrame> {
        let not_found = || ErrorFrame::new(ErrorCode::NotFound, "message not found").at("/messageId");
        let session = &cx.session;
        let found = cx
            .broker
            .store
            .message_status(session.mesh_id(), &request.message_id)
            .await
            .or_frame()?;
        let (message, mut recipients) = found.ok_or_else(not_found)?;
        if message.sender_member_id != session.member {
            // Others learn that the message exists only if it is for them, and then nothing of its other recipients.
            recipients.retain(|row| row.delivery.recipient == session.member);
            if recipients.is_empty() {
                return Err(not_found());
            }
        }
        let delivered = recipients.iter().all(|row| row.delivery.delivered_at.is_some());
        let delivered_at = recipients.iter().filter_map(|row| row.delivery.delivered_at).max();
        let state = session.mesh.lock();
        Ok(MessageStatusResult {
            message_id: message.id.clone(),
            target_spec: message.target.spec.clone(),
            delivered: delivered && !recipients.is_empty(),
            delivered_at: delivered_at.filter(|_| delivered),
            accepted_at: Some(message.created_at),
            recipients: recipients
                .into_iter()
                .map(|row| recipient_status(&state, row))
                .collect(),
        })
    }
}

fn recipient_status(state: &LiveState, row: RecipientRow) -> RecipientStatus {
    let delivery = row.delivery;
    let status = match delivery.stage {
        DeliveryStage::Accepted if state.mesh.is_online(&delivery.recipient) => "held",
        DeliveryStage::Accepted => "disconnected",
        DeliveryStage::Delivered | DeliveryStage::Surfaced | DeliveryStage::Read => "delivered",
        end => end.as_str(),
    };
    RecipientStatus {
        name: row.name,
        pubkey: row.pubkey,
        status: status.to_owned(),
        stage: Some(delivery.stage),
        delivered_at: delivery.delivered_at,
        surfaced_at: delivery.surfaced_at,
        read_at: delivery.read_at,
        adapter: delivery.adapter,
        reason: delivery
            .reason
            .or_else(|| hub::end_reason(delivery.stage).map(str::to_owned)),
    }
}
