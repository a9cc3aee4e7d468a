//! What the program set before is set again on a new connection, which is a new session to the broker.

use crate::ClientError;
use crate::inner::Inner;
use claudemesh_proto::hello::HelloAck;
use claudemesh_proto::model::PeerStatus;
use claudemesh_proto::ops::{LeaveGroup, SetStatus, SetSummary, SetVisible};
use std::sync::Arc;

/// Restores in the background. Groups and visibility are in the hello already.
pub(super) fn spawn(inner: &Arc<Inner>, ack: Arc<HelloAck>, first: bool) {
    let inner = inner.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = inner.shutdown.cancelled() => {}
            restored = restore(&inner, &ack, first) => {
                if let Err(error) = restored {
                    inner.warn(format!("the session's settings could not be restored: {error}"));
                }
            }
        }
    });
}

async fn restore(inner: &Inner, ack: &HelloAck, first: bool) -> Result<(), ClientError> {
    let settings = inner.session.snapshot();
    if ack.protocol.unwrap_or(1) < 2
        && let Some(visible) = settings.visible
    {
        inner.request(&SetVisible { visible }).await?;
    }
    if first {
        return Ok(());
    }
    inner.resume_streams().await;
    // An empty list in the hello means "as before": groups that were left in the meantime come back with it.
    let wanted = settings.groups.unwrap_or_default();
    for group in &ack.restored_groups {
        if !wanted.iter().any(|known| known.name == group.name) {
            inner
                .request(&LeaveGroup {
                    name: group.name.clone(),
                })
                .await?;
        }
    }
    if let Some(summary) = settings.summary {
        inner.request(&SetSummary { summary }).await?;
    }
    // Idle is how every session starts.
    if let Some(status) = settings.status.filter(|status| *status != PeerStatus::Idle) {
        inner.request(&SetStatus { status }).await?;
    }
    Ok(())
}
