//! Groups of peers.

use claudemesh_proto::ops::{GroupJoined, GroupLeft, JoinGroup, LeaveGroup};
use claudemesh_proto::{ErrorCode, ErrorFrame};
use serde_json::json;

use super::session_gone;
use crate::Broker;
use crate::context::{Context, Handle};

impl Handle<JoinGroup> for Broker {
    async fn handle(cx: Context, request: JoinGroup) -> Result<GroupJoined, ErrorFrame> {
        if request.name.as_str() == "all" {
            let text = "everybody is in @all: choose another name";
            return Err(ErrorFrame::new(ErrorCode::InvalidRequest, text).at("/name"));
        }
        let groups = {
            let mut state = cx.session.mesh.lock();
            let mut groups = Vec::new();
            for presence in cx.speaks_for(&state)? {
                groups = state.mesh.join_group(&presence, &request.name, request.role.clone())?;
                cx.session_changed(&mut state, &presence);
            }
            groups
        };
        let audit = cx.audit_event::<JoinGroup>(json!({ "name": request.name, "role": request.role }));
        cx.save_peer_state().await?;
        cx.record(audit).await?;
        Ok(GroupJoined {
            name: request.name,
            groups,
        })
    }
}

impl Handle<LeaveGroup> for Broker {
    async fn handle(cx: Context, request: LeaveGroup) -> Result<GroupLeft, ErrorFrame> {
        let (was_member, groups) = {
            let mut state = cx.session.mesh.lock();
            let mut left = (false, Vec::new());
            for presence in cx.speaks_for(&state)? {
                let (was_member, groups) = state
                    .mesh
                    .leave_group(&presence, &request.name)
                    .ok_or_else(session_gone)?;
                cx.session_changed(&mut state, &presence);
                left = (left.0 || was_member, groups);
            }
            left
        };
        if was_member {
            cx.save_peer_state().await?;
            cx.record(cx.audit_event::<LeaveGroup>(json!({ "name": request.name })))
                .await?;
        }
        Ok(GroupLeft {
            name: request.name,
            was_member,
            groups,
        })
    }
}
