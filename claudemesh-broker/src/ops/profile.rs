//! Status, summary, visibility, profile, counters.

use claudemesh_proto::ErrorFrame;
use claudemesh_proto::ops::{
    Ack, ProfileSet, SetProfile, SetStats, SetStatus, SetSummary, SetVisible, StatsSet, StatusSet, SummarySet,
    VisibleSet,
};
use serde_json::json;

use super::session_gone;
use crate::Broker;
use crate::context::{Context, Handle};
use crate::hub::{LiveState, run_outputs, system_event};

impl Context {
    /// Tells delivery that the caller's session changed: becoming idle or visible lets through what waited.
    pub(super) fn session_changed(&self, state: &mut LiveState) {
        let session = &self.session;
        if let Some(view) = state.mesh.session_view(&session.presence) {
            state.delivery.session_changed(self.now_ms, view, &state.mesh);
            run_outputs(&self.broker, &session.mesh, state, self.now_ms);
        }
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
        let record = state
            .mesh
            .set_status(&cx.session.presence, request.status, cx.now_ms)
            .ok_or_else(session_gone)?;
        cx.session_changed(&mut state);
        Ok(StatusSet {
            status: record.status,
            source: record.source,
        })
    }
}

impl Handle<SetSummary> for Broker {
    async fn handle(cx: Context, request: SetSummary) -> Result<SummarySet, ErrorFrame> {
        let set = cx
            .session
            .mesh
            .lock()
            .mesh
            .set_summary(&cx.session.presence, &request.summary);
        set.ok_or_else(session_gone)?;
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
            let presence = &cx.session.presence;
            // Who could see the session before or can see it now hears of the change; nobody else learns that it exists.
            let before = state.mesh.audience_of(presence);
            let changed = state
                .mesh
                .set_visible(presence, request.visible)
                .ok_or_else(session_gone)?;
            if changed {
                let audience = if request.visible {
                    state.mesh.audience_of(presence)
                } else {
                    before
                };
                let name = crate::hub::name_of(&state, presence);
                let data =
                    json!({ "name": name, "pubkey": cx.session.sender_key(), "memberPubkey": cx.session.member_key });
                let event = if request.visible { "peer_visible" } else { "peer_hidden" };
                state.send(&audience, &system_event(cx.session.mesh_id(), event, data));
                cx.session_changed(&mut state);
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
