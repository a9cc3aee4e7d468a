//! What the mesh remembers. Everybody finds what its author lets them `state-read`; the author and those who manage the
//! mesh forget.

use claudemesh_crypto::random_id;
use claudemesh_proto::limits::{DEFAULT_RESULTS, MAX_MEMORY_BYTES};
use claudemesh_proto::model::{Capability, Timestamp};
use claudemesh_proto::ops::{Ack, Forget, Memory, MemoryForgotten, MemoryResults, MemoryStored, Recall, Remember};
use claudemesh_proto::{ErrorCode, ErrorFrame, Permission};
use serde_json::json;

use super::text::{clean_tags, not_blank, within_answer};
use super::{OrFrame as _, author_name};
use crate::Broker;
use crate::context::{Context, Handle};
use crate::store::{NewMemory, Query, SearchFilter};

impl Handle<Remember> for Broker {
    async fn handle(cx: Context, request: Remember) -> Result<MemoryStored, ErrorFrame> {
        let bytes = request.content.len();
        if bytes > MAX_MEMORY_BYTES {
            let text = format!(
                "the text has {bytes} bytes, the limit is {MAX_MEMORY_BYTES}; store it in parts, or share it as a file"
            );
            return Err(ErrorFrame::new(ErrorCode::TooLarge, text).at("/content"));
        }
        not_blank(&request.content, "/content")?;
        let id = random_id();
        // Metadata only: the log is for ever, a memory is not.
        let audit = cx.audit_event::<Remember>(json!({ "memoryId": id, "bytes": bytes }));
        let new = NewMemory {
            id: id.clone(),
            content: request.content,
            tags: clean_tags(request.tags),
            by_member: cx.session.member.clone(),
            by_name: author_name(&cx),
            at: Timestamp::from_ms(cx.now_ms),
        };
        cx.broker
            .store
            .remember(cx.session.mesh_id(), new, audit)
            .await
            .or_frame()?;
        Ok(MemoryStored { id })
    }
}

impl Handle<Recall> for Broker {
    async fn handle(cx: Context, request: Recall) -> Result<MemoryResults, ErrorFrame> {
        let session = &cx.session;
        let hidden = session
            .mesh
            .lock()
            .mesh
            .hidden_from(&session.member, Capability::StateRead);
        let query = Query::new(&request.query);
        let limit = request.limit.and_then(|limit| usize::try_from(limit).ok());
        let filter = SearchFilter {
            hidden: &hidden,
            tags: &clean_tags(request.tags),
            limit: limit.unwrap_or(DEFAULT_RESULTS),
        };
        let found = cx
            .broker
            .store
            .recall(session.mesh_id(), &query, filter)
            .await
            .or_frame()?;
        let (rows, cut) = within_answer(found.rows, |row| row.content.len());
        let memories = rows.into_iter().map(|row| Memory {
            snippet: query.snippet(&row.content),
            id: row.id,
            content: row.content,
            tags: row.tags,
            remembered_by: row.by_name,
            remembered_by_id: Some(row.by_member),
            remembered_at: row.at,
        });
        Ok(MemoryResults {
            memories: memories.collect(),
            partial: found.partial,
            more: found.more || cut,
        })
    }
}

impl Handle<Forget> for Broker {
    async fn handle(cx: Context, request: Forget) -> Result<MemoryForgotten, ErrorFrame> {
        let id = request.memory_id;
        let (session, store) = (&cx.session, &cx.broker.store);
        let not_found = || {
            let text = "no such memory in this mesh: use the whole id that recall shows";
            ErrorFrame::new(ErrorCode::NotFound, text).at("/memoryId")
        };
        let row = store
            .memory(session.mesh_id(), &id)
            .await
            .or_frame()?
            .ok_or_else(not_found)?;
        {
            let state = session.mesh.lock();
            let manages = state.mesh.permission(&session.member, Permission::Manage);
            if row.by_member != session.member && !manages {
                let hidden = state.mesh.hidden_from(&session.member, Capability::StateRead);
                if hidden.contains(&row.by_member) {
                    return Err(not_found());
                }
                let text = format!(
                    "{} stored this memory: only its author and the mesh's owner and admins may forget it",
                    row.by_name
                );
                return Err(ErrorFrame::new(ErrorCode::Forbidden, text).at("/memoryId"));
            }
        }
        let audit = cx.audit_event::<Forget>(json!({ "memoryId": id, "by": row.by_member }));
        let now = Timestamp::from_ms(cx.now_ms);
        let forgotten = store.forget(session.mesh_id(), &id, now, audit).await.or_frame()?;
        Ok(MemoryForgotten {
            ack: Ack {
                id: id.clone(),
                message_id: id,
                queued: false,
            },
            forgotten,
        })
    }
}
