//! Members and what they let each other do.

use claudemesh_proto::ErrorFrame;
use claudemesh_proto::ops::{GetGrants, Grants, ListMembers, MemberRemoved, MembersList, RemoveMember, SetGrants};
use serde_json::json;

use super::{OrFrame as _, session_gone};
use crate::Broker;
use crate::context::{Context, Handle};
use crate::hub;
use crate::store::PeerGrants;

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
        let (mesh, member) = (cx.session.mesh.clone(), cx.session.member.clone());
        let change = request.grants.clone();
        // On disk first: a grant that is in force must survive a restart. Sessions of one member may do this at once.
        let in_force = move |_: &PeerGrants| {
            mesh.lock().mesh.set_grants(&member, &request.grants);
        };
        let grants = cx
            .broker
            .store
            .change_grants(cx.session.mesh_id(), &cx.session.member, change, audit, in_force)
            .await
            .or_frame()?;
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
