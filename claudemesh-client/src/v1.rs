//! Brokers of protocol 1: which requests they serve, and what they leave unanswered.

use crate::ClientError;
use crate::clock::now_ms;
use claudemesh_proto::OperationMeta;
use claudemesh_proto::model::{StatusSource, Timestamp};
use claudemesh_proto::ops::{
    JoinGroup, LeaveGroup, Publish, SetState, SetStats, SetStatus, SetSummary, ShareContext, Unsubscribe,
};
use serde_json::{Value, json};
use std::any::Any;

/// Whether a broker of protocol 1 serves the operation.
pub(crate) fn check(meta: &OperationMeta) -> Result<(), ClientError> {
    if meta.since > 1 {
        return Err(ClientError::Unsupported {
            what: meta.name.to_owned(),
        });
    }
    Ok(())
}

/// Whether a broker of protocol 1 answers an operation that ours answers only when asked, and says in the answer which
/// request it belongs to.
pub(crate) fn answers(meta: &OperationMeta) -> bool {
    matches!(meta.wire_type, "claim_task" | "complete_task" | "mesh_execute")
}

/// The reply that a broker of protocol 1 does not send to a request that it carries out. `None`: it answers.
pub(crate) fn silent_reply(request: &dyn Any, groups: &Value) -> Option<Value> {
    if let Some(request) = request.downcast_ref::<SetStatus>() {
        return Some(json!({ "status": request.status, "source": StatusSource::Manual }));
    }
    if let Some(request) = request.downcast_ref::<SetSummary>() {
        return Some(json!({ "summary": request.summary }));
    }
    if let Some(request) = request.downcast_ref::<SetStats>() {
        return Some(json!({ "stats": request.stats }));
    }
    if let Some(request) = request.downcast_ref::<SetState>() {
        return Some(json!({ "key": request.key, "version": 0, "updatedAt": Timestamp::from_ms(now_ms()) }));
    }
    if let Some(request) = request.downcast_ref::<Publish>() {
        return Some(json!({ "stream": request.stream }));
    }
    if let Some(request) = request.downcast_ref::<Unsubscribe>() {
        return Some(json!({ "stream": request.stream, "wasSubscribed": true }));
    }
    if let Some(request) = request.downcast_ref::<JoinGroup>() {
        return Some(json!({ "name": request.name, "groups": groups }));
    }
    if let Some(request) = request.downcast_ref::<LeaveGroup>() {
        return Some(json!({ "name": request.name, "wasMember": true, "groups": groups }));
    }
    if request.is::<ShareContext>() {
        // It does answer, but not so that one could tell which request it answers.
        return Some(json!({ "id": "" }));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use claudemesh_proto::ReplyWhen;

    #[test]
    fn every_operation_that_is_answered_only_when_asked_is_known_here() {
        let silent = [
            "set_status",
            "set_summary",
            "set_stats",
            "join_group",
            "leave_group",
            "set_state",
            "share_context",
            "publish",
            "unsubscribe",
        ];
        for meta in claudemesh_proto::operations() {
            if meta.reply_when == ReplyWhen::Asked && check(meta).is_ok() && !answers(meta) {
                assert!(
                    silent.contains(&meta.wire_type),
                    "{}: add it to silent_reply",
                    meta.wire_type
                );
            }
        }
    }
}
