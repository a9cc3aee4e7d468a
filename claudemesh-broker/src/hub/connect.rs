//! Sessions come and go.

use std::sync::Arc;

use claudemesh_crypto::random_id;
use claudemesh_proto::frame::ServerFrame;
use claudemesh_proto::hello::{Hello, HelloAck, MemberProfile};
use claudemesh_proto::model::{KeyHex, MemberId, PresenceId, Timestamp};
use claudemesh_proto::{ErrorCode, ErrorFrame, PROTOCOL_VERSION};
use serde_json::{Value, json};

use super::events::system_event;
use super::{LiveMesh, LiveState, peer_state_row, run_outputs};
use crate::Broker;
use crate::broker::{now as both_clocks, now_ms};
use crate::context::Session;
use crate::mesh::{Connected, SessionFacts};
use crate::outbound::{CloseReason, Outbound};
use crate::send_order::SendOrder;
use crate::store::{AuditEvent, StoreError, Write, WriteKind};

/// How long a hook's report is kept for a session that has not connected yet.
pub(crate) const PENDING_STATUS_MS: i64 = 10_000;

/// A `hello` whose proof holds.
#[derive(Debug)]
pub struct Admitted {
    /// The member.
    pub member: MemberId,
    /// Its key, in lower case.
    pub member_key: KeyHex,
    /// The frame.
    pub hello: Hello,
    /// Protocol version of the connection.
    pub protocol: u32,
}

/// Registers a session. `hello_ack` is its first frame; peers are told; what waits for it is delivered.
///
/// # Errors
/// `archived`, `revoked`, `capacity`: judged under the mesh's lock, so that two cannot take one place.
pub async fn connect(
    broker: &Arc<Broker>,
    mesh: &Arc<LiveMesh>,
    admitted: Admitted,
    outbound: Outbound,
) -> Result<Arc<Session>, ErrorFrame> {
    let Admitted {
        member,
        member_key,
        hello,
        protocol,
    } = admitted;
    let now = now_ms();
    let presence = PresenceId(random_id());
    // Read before the session exists: afterwards nothing may wait until `hello_ack` is queued.
    let waiting_low = if protocol >= PROTOCOL_VERSION {
        broker
            .store
            .waiting_counts(&mesh.id, &member, Timestamp::from_ms(now))
            .await
            .ok()
            .map(|waiting| waiting.low)
    } else {
        None
    };
    let pending = match hello.observer {
        true => None,
        false => {
            let since = Timestamp::from_ms(now.saturating_sub(PENDING_STATUS_MS));
            let store = &broker.store;
            let taken = store.take_pending_status(&mesh.id, &member, &hello.session_id, hello.pid, &hello.cwd, since);
            taken.await.unwrap_or_default()
        }
    };
    let session = Arc::new(Session {
        presence: presence.clone(),
        mesh: mesh.clone(),
        member: member.clone(),
        member_key: member_key.clone(),
        session_key: hello.session_pubkey.clone(),
        protocol,
        origin: hello.origin.clone().filter(|_| protocol >= PROTOCOL_VERSION),
        caps: hello.caps.clone(),
        observer: hello.observer,
        outbound,
        sends: SendOrder::default(),
    });

    let (replaced, audit) = {
        let mut guard = mesh.lock();
        let state = &mut *guard;
        if state.archived {
            return Err(ErrorFrame::new(
                ErrorCode::Archived,
                "this mesh was archived by its owner",
            ));
        }
        let replaced = replace(broker, mesh, state, &session, now);
        if state.mesh.connection_count() >= broker.config.max_connections_per_mesh {
            return Err(ErrorFrame::new(ErrorCode::Capacity, "mesh at connection capacity").retry_after(5_000));
        }
        check_session_key(state, &session)?;
        let facts = session_facts(&session, &hello);
        let Some(connected) = state.mesh.connect(facts, now) else {
            return Err(ErrorFrame::new(
                ErrorCode::Revoked,
                "this member was removed from the mesh",
            ));
        };
        if let Some(status) = pending {
            state.mesh.hook_status(&presence, status, both_clocks());
        }
        state.attach(session.clone());
        let ack = hello_ack(broker, state, &session, &connected, waiting_low, now);
        state.send([&presence], &ServerFrame::HelloAck(Box::new(ack)));
        announce_join(state, &session, &connected);
        if let Some(view) = state.mesh.session_view(&presence) {
            state.delivery.session_opened(both_clocks(), view, &state.mesh);
        }
        run_outputs(broker, mesh, state, now);
        broker.metrics.sessions(&mesh.id, state.mesh.connection_count());
        let audit = (!session.observer).then(|| AuditEvent {
            mesh_id: mesh.id.clone(),
            event_type: "peer_joined".to_owned(),
            actor_member_id: Some(member.clone()),
            actor_name: name_of(state, &presence),
            payload: json!({ "pubkey": member_key, "groups": connected.groups, "restored": connected.restored }),
            at: Timestamp::from_ms(now),
        });
        (replaced, audit)
    };
    for event in replaced.into_iter().filter_map(|left| left.audit).chain(audit) {
        record_or_warn(broker, event).await;
    }
    crate::ops::catch_up(broker, &session).await;
    Ok(session)
}

/// A session key that nothing proves (protocol 1) must not be that of another member's live session: it would receive
/// what is sent to that session, and send under its key.
fn check_session_key(state: &LiveState, session: &Session) -> Result<(), ErrorFrame> {
    let Some(key) = session
        .session_key
        .as_ref()
        .filter(|_| session.protocol < PROTOCOL_VERSION)
    else {
        return Ok(());
    };
    let is_session = state
        .mesh
        .session_by_key(key.as_str())
        .is_some_and(|live| live.facts.member != session.member);
    let is_member = state
        .mesh
        .member_by_key(key.as_str())
        .is_some_and(|owner| owner.facts.id != session.member);
    if is_session || is_member {
        let text = "hello rejected: another member has this session key; make a new one";
        return Err(ErrorFrame::new(ErrorCode::Conflict, text).at("/sessionPubkey"));
    }
    Ok(())
}

/// What is to be written when a session has left.
struct Departure {
    /// Whether its member's state is to be saved: it was the last one.
    save: bool,
    audit: Option<AuditEvent>,
}

/// Takes the sessions out whose place this one takes: those with its session key. Their holder is back before the broker
/// noticed that it was gone, so what they have not acknowledged comes first.
///
/// Only a session key that is proven counts (protocol 2): nobody can end the session of another.
fn replace(
    broker: &Arc<Broker>,
    mesh: &Arc<LiveMesh>,
    state: &mut LiveState,
    session: &Session,
    now: i64,
) -> Vec<Departure> {
    if session.protocol < PROTOCOL_VERSION || session.session_key.is_none() {
        return Vec::new();
    }
    let old: Vec<_> = state
        .sessions_of_key(&session.member_key)
        .filter(|old| old.protocol >= PROTOCOL_VERSION && old.observer == session.observer)
        .filter(|old| old.session_key == session.session_key)
        .cloned()
        .collect();
    old.iter()
        .filter_map(|old| {
            let left = leave(broker, mesh, state, old, now);
            old.outbound.close(CloseReason::Replaced);
            left
        })
        .collect()
}

/// Takes a session out, tells peers, and gives its unacknowledged messages back. `None` if it is out already.
fn leave(
    broker: &Arc<Broker>,
    mesh: &Arc<LiveMesh>,
    state: &mut LiveState,
    session: &Session,
    now: i64,
) -> Option<Departure> {
    state.detach(&session.presence);
    let name = name_of(state, &session.presence);
    let left = state.mesh.disconnect(&session.presence, now);
    broker.metrics.sessions(&mesh.id, state.mesh.connection_count());
    let left = left?;
    let data = json!({ "name": name, "pubkey": session.sender_key(), "memberPubkey": session.member_key });
    state.send(&left.audience, &system_event(&mesh.id, "peer_left", data));
    state
        .delivery
        .session_closed(both_clocks(), &session.presence, &state.mesh);
    run_outputs(broker, mesh, state, now);
    let audit = (!session.observer).then(|| AuditEvent {
        mesh_id: mesh.id.clone(),
        event_type: "peer_left".to_owned(),
        actor_member_id: Some(session.member.clone()),
        actor_name: name,
        payload: json!({}),
        at: Timestamp::from_ms(now),
    });
    Some(Departure {
        save: left.save.is_some(),
        audit,
    })
}

/// Takes a session out and saves what its member left with.
pub async fn disconnect(broker: &Arc<Broker>, session: &Arc<Session>) {
    let mesh = &session.mesh;
    let now = now_ms();
    // A session that was removed or replaced is out already.
    let Some(left) = leave(broker, mesh, &mut mesh.lock(), session, now) else {
        return;
    };
    if left.save
        && let Err(error) = save_peer_state(broker, mesh, &session.member, now).await
    {
        tracing::warn!(%error, "what a session left with was not saved");
    }
    if let Some(event) = left.audit {
        record_or_warn(broker, event).await;
    }
}

/// Saves what a member leaves with as it is when the row is written; nothing if it is no member any more.
pub(crate) async fn save_peer_state(
    broker: &Broker,
    mesh: &Arc<LiveMesh>,
    member: &MemberId,
    now_ms: i64,
) -> Result<(), StoreError> {
    let (mesh, member) = (mesh.clone(), member.clone());
    let latest = move || {
        let state = mesh.lock();
        let state = state.mesh.peer_state(&member)?;
        Some(peer_state_row(&mesh.id, &member, state, now_ms))
    };
    broker.store.save_peer_state(latest).await
}

/// Puts an event on record that no other write goes with.
pub(crate) async fn record_event(broker: &Broker, event: AuditEvent) -> Result<(), StoreError> {
    // No step of no delivery: a write that needs no savepoint of its own.
    let write = Write {
        kind: WriteKind::Stages(Arc::new([])),
        audit: vec![event],
    };
    broker.store.committer().write(write).await.map(|_| ())
}

/// [`record_event`] where nobody can be told that it failed.
async fn record_or_warn(broker: &Broker, event: AuditEvent) {
    let kind = event.event_type.clone();
    if let Err(error) = record_event(broker, event).await {
        tracing::warn!(%error, kind, "an event is missing from the audit log");
    }
}

/// Ends every session of the broker.
pub(crate) fn close_all(broker: &Broker, reason: CloseReason) {
    for mesh in broker.hub.all() {
        for session in mesh.lock().sessions() {
            session.outbound.close(reason);
        }
    }
}

fn session_facts(session: &Session, hello: &Hello) -> SessionFacts {
    SessionFacts {
        presence: session.presence.clone(),
        member: session.member.clone(),
        session_key: session.session_key.clone(),
        display_name: hello.display_name.clone().filter(|name| !name.is_empty()),
        session_id: hello.session_id.clone(),
        pid: hello.pid,
        cwd: hello.cwd.clone(),
        hostname: hello.hostname.clone(),
        peer_type: hello.peer_type.clone(),
        channel: hello.channel.clone(),
        model: hello.model.clone(),
        groups: hello.groups.clone(),
        visible: hello.visible,
        protocol: session.protocol,
        caps: session.caps.clone(),
        observer: session.observer,
    }
}

fn hello_ack(
    broker: &Broker,
    state: &LiveState,
    session: &Session,
    connected: &Connected,
    waiting_low: Option<u64>,
    now: i64,
) -> HelloAck {
    let member = state.mesh.member(&session.member);
    let current = session.protocol >= PROTOCOL_VERSION;
    HelloAck {
        presence_id: session.presence.clone(),
        member_display_name: name_of(state, &session.presence).unwrap_or_default(),
        member_profile: member
            .map(|member| MemberProfile {
                role_tag: member.facts.role_tag.clone(),
                groups: member.facts.default_groups.clone(),
                message_mode: member.facts.message_mode,
            })
            .unwrap_or_default(),
        mesh_policy: Some(state.mesh.facts().policy),
        restored: connected.restored,
        last_summary: Some(connected.summary.clone()).filter(|summary| !summary.is_empty()),
        last_seen_at: connected.last_seen_ms.map(Timestamp::from_ms),
        restored_groups: if connected.groups_restored {
            connected.groups.clone()
        } else {
            Vec::new()
        },
        restored_stats: connected.restored.then_some(connected.stats_base),
        services: Vec::new(),
        protocol: current.then_some(session.protocol),
        mesh_slug: current.then(|| state.mesh.facts().slug.clone()),
        member_id: current.then(|| session.member.clone()),
        role: current.then(|| member.map(|member| member.facts.role)).flatten(),
        server_time: current.then(|| Timestamp::from_ms(now)),
        lease_ms: current
            .then_some(broker.config.lease_ms)
            .and_then(|lease| u64::try_from(lease).ok()),
        head: state.head().filter(|_| current),
        visible: current.then_some(connected.visible),
        waiting_low,
    }
}

/// `peer_joined`, or `peer_returned` for a member that was gone, to those who may see the session.
fn announce_join(state: &LiveState, session: &Session, connected: &Connected) {
    let mut data = json!({
        "name": name_of(state, &session.presence),
        "pubkey": session.sender_key(),
        "memberPubkey": session.member_key,
        "groups": connected.groups,
    });
    let mut event = "peer_joined";
    if connected.returned {
        event = "peer_returned";
        if let Some(at) = connected.last_seen_ms {
            data["lastSeenAt"] = json!(Timestamp::from_ms(at));
        }
        if !connected.summary.is_empty() {
            data["summary"] = Value::String(connected.summary.clone());
        }
    }
    state.send(&connected.audience, &system_event(&session.mesh.id, event, data));
}

/// Name of a live session.
pub(crate) fn name_of(state: &LiveState, presence: &PresenceId) -> Option<String> {
    state
        .mesh
        .session(presence)
        .map(|session| state.mesh.display_name(session))
}
