//! Members and what they let each other do.

use claudemesh_proto::ErrorFrame;
use claudemesh_proto::ops::{GetGrants, Grants, ListMembers, MemberRemoved, MembersList, RemoveMember, SetGrants};
use serde_json::json;

use super::{OrFrame as _, session_gone};
use crate::Broker;
use crate::context::{Context, Handle};
use crate::hub;

impl Handle<ListMembers> for Broker {
    async fn handle(cx: Context, _: ListMembers) -> Result<MembersList, ErrorFrame> {
        Ok(MembersList {
            members: cx.session.mesh.lock().mesh.member_list(&cx.session.member),
        })
    }
}

impl Handle<RemoveMember> for Broker {
    async fn handle(cx: Context, request: RemoveMember) -> Result<MemberRemoved, ErrorFrame> {
        let session = &cx.session;
        let answering = Some(&session.presence);
        hub::remove_member(
            &cx.broker,
            &session.mesh,
            &session.member,
            &request.member_id,
            answering,
        )
        .await?;
        Ok(MemberRemoved {
            member_id: request.member_id,
        })
    }
}

impl Handle<SetGrants> for Broker {
    async fn handle(cx: Context, request: SetGrants) -> Result<Grants, ErrorFrame> {
        // Capabilities only, and for whom: nothing that the log should not hold.
        let audit = cx.audit_event::<SetGrants>(json!({ "grants": request.grants }));
        let mut grants = {
            let state = cx.session.mesh.lock();
            state
                .mesh
                .member(&cx.session.member)
                .ok_or_else(session_gone)?
                .facts
                .grants
                .clone()
        };
        for (key, capabilities) in &request.grants {
            match capabilities {
                Some(capabilities) => grants.insert(key.clone(), capabilities.clone()),
                None => grants.remove(key),
            };
        }
        // On disk first: a grant that is in force must survive a restart.
        cx.broker
            .store
            .set_grants(cx.session.mesh_id(), &cx.session.member, &grants, audit)
            .await
            .or_frame()?;
        let mut state = cx.session.mesh.lock();
        state.mesh.set_grants(&cx.session.member, &request.grants);
        Ok(Grants { grants })
    }
}

impl Handle<GetGrants> for Broker {
    async fn handle(cx: Context, _: GetGrants) -> Result<Grants, ErrorFrame> {
        let state = cx.session.mesh.lock();
        let member = state.mesh.member(&cx.session.member).ok_or_else(session_gone)?;
        Ok(Grants {
            grants: member.facts.grants.clone(),
        })
    }
}
