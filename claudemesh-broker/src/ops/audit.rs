//! The audit log.

use claudemesh_proto::ErrorFrame;
use claudemesh_proto::ops::{AuditEntry, AuditQuery, AuditResult, AuditVerify, AuditVerifyResult};

use super::OrFrame as _;
use crate::Broker;
use crate::context::{Context, Handle};

/// Entries in one answer when the caller does not say.
const DEFAULT_LIMIT: u32 = 50;

impl Handle<AuditQuery> for Broker {
    async fn handle(cx: Context, request: AuditQuery) -> Result<AuditResult, ErrorFrame> {
        let limit = request.limit.unwrap_or(DEFAULT_LIMIT);
        let offset = request.offset.unwrap_or_default();
        let mesh = cx.session.mesh_id();
        let page = cx
            .broker
            .store
            .audit_query(mesh, limit, offset, request.event_type.as_deref())
            .await
            .or_frame()?;
        let entries = page.rows.into_iter().map(|row| AuditEntry {
            id: row.id,
            event_type: row.event_type,
            actor: row
                .actor_name
                .or(row.actor_member_id.map(|member| member.0))
                .unwrap_or_else(|| "system".to_owned()),
            payload: row.payload,
            hash: row.hash,
            created_at: row.created_at,
        });
        Ok(AuditResult {
            entries: entries.collect(),
            total: page.total,
        })
    }
}

impl Handle<AuditVerify> for Broker {
    async fn handle(cx: Context, _: AuditVerify) -> Result<AuditVerifyResult, ErrorFrame> {
        let verdict = cx.broker.store.audit_verify(cx.session.mesh_id()).await.or_frame()?;
        Ok(AuditVerifyResult {
            valid: verdict.broken_at.is_none(),
            entries: verdict.checked,
            broken_at: verdict.broken_at,
        })
    }
}
