//! Status, summary, visibility, profile, counters.

use claudemesh_proto::model::PresenceId;
use claudemesh_proto::ops::{
    Ack, ProfileSet, SetProfile, SetStats, SetStatus, SetSummary, SetVisible, StatsSet, StatusSet, SummarySet,
    VisibleSet,
};
use claudemesh_proto::{ErrorCode, ErrorFrame};
use serde_json::json;

use super::session_gone;
use crate::Broker;
use crate::broker::now;
use crate::context::{Context, Handle};
use crate::hub::{LiveState, run_outputs, system_event};

impl Context {
    /// The sessions that the caller speaks for: its own; for a one-shot connection, which has nothing to be shown or
    /// delivered to, all live ones of its member.
    ///
    /// # Errors
    /// `not_found` if a one-shot connection's member has no live session.
    pub(super) fn speaks_for(&self, state: &LiveState) -> Result<Vec<PresenceId>, ErrorFrame> {
        let session = &self.session;
        if !session.observer {
            return Ok(vec![session.presence.clone()]);
        }
        let own: Vec<_> = state
            .mesh
            .sessions_of(&session.member)
            .map(|live| live.facts.presence.clone())
            .collect();
        if own.is_empty() {
            let text = "you have no live session that this could be set for; start one and try again";
            return Err(ErrorFrame::new(ErrorCode::NotFound, text));
        }
        Ok(own)
    }

    /// Tells delivery that a session changed: becoming idle or visible lets through what waited.
    pub(super) fn session_changed(&self, state: &mut LiveState, presence: &PresenceId) {
        if let Some(view) = state.mesh.session_view(presence) {
            state.delivery.session_changed(now(), view, &state.mesh);
            run_outputs(&self.broker, &self.session.mesh, state, self.now_ms);
        }
    }

    fn set_visible(&self, state: &mut LiveState, presence: &PresenceId, visible: bool) -> Result<(), ErrorFrame> {
        // Who could see the session before or can see it now hears of the change; nobody else learns that it exists.
        let before = state.mesh.audience_of(presence);
        let changed = state.mesh.set_visible(presence, visible).ok_or_else(session_gone)?;
        let Some(peer) = state.mesh.session(presence).map(|session| state.mesh.peer(session)) else {
            return Ok(());
        };
        if changed {
            let audience = if visible {
                state.mesh.audience_of(presence)
            } else {
                before
            };
            let data = json!({
                "name": peer.display_name,
                "pubkey": peer.pubkey,
                "memberPubkey": peer.member_pubkey,
            });
            let event = if visible { "peer_visible" } else { "peer_hidden" };
            state.send(&audience, &system_event(self.session.mesh_id(), event, data));
            self.session_changed(state, presence);
        }
        Ok(())
    }

    fn ack(&self) -> Ack {
        Ack {
            id: self.request_id.clone().unwrap_or_default(),
            ..Ack::default()
        }
    }
}

impl Handle<SetStatus> for Broker {
    async fn handle(cx: Context, request: SetStatus) -> Result<StatusSet, ErrorFrame> {
        let mut state = cx.session.mesh.lock();
        let mut set = None;
        for presence in cx.speaks_for(&state)? {
            set = state.mesh.set_status(&presence, request.status, now());
            cx.session_changed(&mut state, &presence);
        }
        let record = set.ok_or_else(session_gone)?;
        Ok(StatusSet {
            status: record.status,
            source: record.source,
        })
    }
}

impl Handle<SetSummary> for Broker {
    async fn handle(cx: Context, request: SetSummary) -> Result<SummarySet, ErrorFrame> {
        {
            let mut state = cx.session.mesh.lock();
            for presence in cx.speaks_for(&state)? {
                state
                    .mesh
                    .set_summary(&presence, &request.summary)
                    .ok_or_else(session_gone)?;
            }
        }
        cx.save_peer_state().await?;
        Ok(SummarySet {
            summary: request.summary,
        })
    }
}

impl Handle<SetStats> for Broker {
    async fn handle(cx: Context, request: SetStats) -> Result<StatsSet, ErrorFrame> {
        let totals = cx
            .session
            .mesh
            .lock()
            .mesh
            .set_stats(&cx.session.presence, request.stats);
        let stats = totals.ok_or_else(session_gone)?;
        cx.save_peer_state().await?;
        Ok(StatsSet { stats })
    }
}

impl Handle<SetVisible> for Broker {
    async fn handle(cx: Context, request: SetVisible) -> Result<VisibleSet, ErrorFrame> {
        {
            let mut state = cx.session.mesh.lock();
            for presence in cx.speaks_for(&state)? {
                cx.set_visible(&mut state, &presence, request.visible)?;
            }
        }
        cx.save_peer_state().await?;
        Ok(VisibleSet {
            ack: cx.ack(),
            visible: request.visible,
        })
    }
}

impl Handle<SetProfile> for Broker {
    async fn handle(cx: Context, request: SetProfile) -> Result<ProfileSet, ErrorFrame> {
        let profile = cx.session.mesh.lock().mesh.set_profile(&cx.session.presence, &request);
        let profile = profile.ok_or_else(session_gone)?;
        cx.save_peer_state().await?;
        Ok(ProfileSet { ack: cx.ack(), profile })
    }
}
