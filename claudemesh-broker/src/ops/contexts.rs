//! What members know at the moment. It is part of what a member shows of itself: seen by those whom it lets `read`.

use claudemesh_crypto::random_id;
use claudemesh_proto::ErrorFrame;
use claudemesh_proto::frame::{ServerFrame, StateChange};
use claudemesh_proto::limits::{DEFAULT_RESULTS, MAX_CONTEXT_TOPICS, MAX_LISTED_CONTEXTS};
use claudemesh_proto::model::{Capability, MemberId, Timestamp};
use claudemesh_proto::ops::{
    ContextEntry, ContextList, ContextResults, ContextShared, GetContext, ListContexts, ShareContext, SharedContext,
};
use serde_json::Value;

use super::text::{clean_tags, not_blank, within_answer};
use super::{OrFrame as _, author_name};
use crate::Broker;
use crate::context::{Context, Handle};
use crate::store::{ContextRow, NewContext, Query, SearchFilter};

fn hidden(cx: &Context) -> Vec<MemberId> {
    let session = &cx.session;
    session.mesh.lock().mesh.hidden_from(&session.member, Capability::Read)
}

/// The topic of a row on the wire.
fn topic(row: &ContextRow) -> Option<String> {
    Some(row.topic.clone()).filter(|topic| !topic.is_empty())
}

fn size(row: &ContextRow) -> usize {
    let lines = row.files_read.iter().chain(&row.key_findings).chain(&row.tags);
    row.summary.len() + lines.map(|line| line.len() + 4).sum::<usize>()
}

impl Handle<ShareContext> for Broker {
    async fn handle(cx: Context, request: ShareContext) -> Result<ContextShared, ErrorFrame> {
        not_blank(&request.summary, "/summary")?;
        let name = author_name(&cx);
        let topic = request.topic.unwrap_or_default();
        let new = NewContext {
            id: random_id(),
            member: cx.session.member.clone(),
            peer_name: name.clone(),
            topic: topic.split_whitespace().collect::<Vec<_>>().join(" "),
            summary: request.summary,
            files_read: request.files_read,
            key_findings: request.key_findings,
            tags: clean_tags(request.tags),
            at: Timestamp::from_ms(cx.now_ms),
        };
        // Peers are told as the original tells them: as of a key of the state, which is not in the state.
        let key = if new.topic.is_empty() {
            format!("_context:{name}")
        } else {
            format!("_context:{name}:{}", new.topic)
        };
        let change = StateChange {
            key,
            value: Value::String(new.summary.clone()),
            updated_by: name,
            version: 0,
            deleted: false,
        };
        let session = cx.session.clone();
        let tell = move || {
            let state = session.mesh.lock();
            let audience = state
                .mesh
                .audience(&session.member, Capability::Read, Some(&session.presence));
            state.send(&audience, &ServerFrame::StateChange(Box::new(change)));
        };
        let id = cx
            .broker
            .store
            .share_context(cx.session.mesh_id(), new, MAX_CONTEXT_TOPICS, tell)
            .await
            .or_frame()?;
        Ok(ContextShared { id })
    }
}

impl Handle<GetContext> for Broker {
    async fn handle(cx: Context, request: GetContext) -> Result<ContextResults, ErrorFrame> {
        let hidden = hidden(&cx);
        let filter = SearchFilter {
            hidden: &hidden,
            tags: &[],
            limit: DEFAULT_RESULTS,
        };
        let query = Query::new(&request.query);
        let found = cx
            .broker
            .store
            .find_contexts(cx.session.mesh_id(), &query, filter)
            .await
            .or_frame()?;
        let (rows, _) = within_answer(found.rows, size);
        let contexts = rows.into_iter().map(|row| SharedContext {
            topic: topic(&row),
            peer_name: row.peer_name,
            member_id: Some(row.member),
            summary: row.summary,
            files_read: row.files_read,
            key_findings: row.key_findings,
            tags: row.tags,
            updated_at: row.updated_at,
        });
        Ok(ContextResults {
            contexts: contexts.collect(),
            partial: found.partial,
        })
    }
}

impl Handle<ListContexts> for Broker {
    async fn handle(cx: Context, _: ListContexts) -> Result<ContextList, ErrorFrame> {
        let hidden = hidden(&cx);
        let store = &cx.broker.store;
        let mut rows = store
            .list_contexts(cx.session.mesh_id(), &hidden, MAX_LISTED_CONTEXTS + 1)
            .await
            .or_frame()?;
        let beyond = rows.len() > MAX_LISTED_CONTEXTS;
        rows.truncate(MAX_LISTED_CONTEXTS);
        let (rows, cut) = within_answer(rows, |row| row.summary.len());
        let contexts = rows.into_iter().map(|row| ContextEntry {
            topic: topic(&row),
            peer_name: row.peer_name,
            member_id: Some(row.member),
            summary: row.summary,
            tags: row.tags,
            updated_at: row.updated_at,
        });
        Ok(ContextList {
            contexts: contexts.collect(),
            more: beyond || cut,
        })
    }
}
