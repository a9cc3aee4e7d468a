//! Shared key-value state.

use claudemesh_proto::frame::{ServerFrame, StateChange};
use claudemesh_proto::limits::{MAX_STATE_KEYS, MAX_STATE_VALUE_BYTES};
use claudemesh_proto::model::{Capability, Timestamp};
use claudemesh_proto::ops::{
    DeleteState, GetState, ListState, SetState, StateDeleted, StateEntry, StateList, StateResult, StateSet,
};
use claudemesh_proto::{ErrorCode, ErrorFrame};
use serde_json::{Value, json};

use super::{OrFrame as _, author_name};
use crate::Broker;
use crate::context::{Context, Handle, Session};
use crate::hub::LiveState;
use crate::store::{StateRow, StateWrite};

/// The rows that the session may read: those whose author lets it `state-read`. What a removed member wrote stays
/// readable.
pub(super) fn readable(state: &LiveState, session: &Session, rows: Vec<StateRow>) -> impl Iterator<Item = StateRow> {
    rows.into_iter().filter(|row| {
        let author = &row.updated_by_member;
        state.mesh.member(author).is_none() || state.mesh.allows(author, &session.member, Capability::StateRead)
    })
}

/// Tells every other session that may read the key of its change. Called in the order of the changes, so that what a
/// session heard last is what is there.
fn tell_peers(session: &Session, change: StateChange) {
    let state = session.mesh.lock();
    let audience = state
        .mesh
        .audience(&session.member, Capability::StateRead, Some(&session.presence));
    state.send(&audience, &ServerFrame::StateChange(Box::new(change)));
}

impl Handle<SetState> for Broker {
    async fn handle(cx: Context, request: SetState) -> Result<StateSet, ErrorFrame> {
        let value = request.value.to_string();
        if value.len() > MAX_STATE_VALUE_BYTES {
            let text = format!(
                "the value has {} bytes of JSON, the limit is {MAX_STATE_VALUE_BYTES}; put large content into a file",
                value.len()
            );
            return Err(ErrorFrame::new(ErrorCode::TooLarge, text).at("/value"));
        }
        let name = author_name(&cx);
        // Metadata only: the value may be anything, and the log is for ever.
        let audit = cx.audit_event::<SetState>(json!({ "key": request.key, "bytes": value.len() }));
        let write = StateWrite {
            key: request.key.clone(),
            value: request.value.clone(),
            by_member: cx.session.member.clone(),
            by_name: name.clone(),
            at: Timestamp::from_ms(cx.now_ms),
        };
        let (session, change) = (cx.session.clone(), request.clone());
        let tell = move |version| {
            let change = StateChange {
                key: change.key,
                value: change.value,
                updated_by: name,
                version,
                deleted: false,
            };
            tell_peers(&session, change);
        };
        let version = cx
            .broker
            .store
            .set_state(cx.session.mesh_id(), write, MAX_STATE_KEYS, audit, tell)
            .await
            .or_frame()?;
        Ok(StateSet {
            key: request.key,
            version,
            updated_at: Timestamp::from_ms(cx.now_ms),
        })
    }
}

impl Handle<GetState> for Broker {
    async fn handle(cx: Context, request: GetState) -> Result<StateResult, ErrorFrame> {
        let row = cx
            .broker
            .store
            .get_state(cx.session.mesh_id(), &request.key)
            .await
            .or_frame()?;
        let state = cx.session.mesh.lock();
        let row = readable(&state, &cx.session, row.into_iter().collect()).next();
        Ok(match row {
            Some(row) => StateResult {
                key: row.key,
                value: row.value,
                updated_by: row.updated_by_name,
                updated_at: row.updated_at.to_string(),
                version: row.version,
                exists: true,
            },
            None => StateResult {
                key: request.key,
                value: Value::Null,
                updated_by: String::new(),
                updated_at: String::new(),
                version: 0,
                exists: false,
            },
        })
    }
}

impl Handle<ListState> for Broker {
    async fn handle(cx: Context, _: ListState) -> Result<StateList, ErrorFrame> {
        let rows = cx.broker.store.list_state(cx.session.mesh_id()).await.or_frame()?;
        let state = cx.session.mesh.lock();
        let entries = readable(&state, &cx.session, rows).map(|row| StateEntry {
            key: row.key,
            value: row.value,
            updated_by: row.updated_by_name,
            updated_at: row.updated_at,
            version: row.version,
        });
        Ok(StateList {
            entries: entries.collect(),
        })
    }
}

impl Handle<DeleteState> for Broker {
    async fn handle(cx: Context, request: DeleteState) -> Result<StateDeleted, ErrorFrame> {
        let audit = cx.audit_event::<DeleteState>(json!({ "key": request.key }));
        let (session, key, updated_by) = (cx.session.clone(), request.key.clone(), author_name(&cx));
        let tell = move |existed| {
            if existed {
                let change = StateChange {
                    key,
                    value: Value::Null,
                    updated_by,
                    version: 0,
                    deleted: true,
                };
                tell_peers(&session, change);
            }
        };
        let existed = cx
            .broker
            .store
            .delete_state(cx.session.mesh_id(), &request.key, audit, tell)
            .await
            .or_frame()?;
        Ok(StateDeleted {
            key: request.key,
            existed,
        })
    }
}
