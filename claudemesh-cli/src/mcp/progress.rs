//! Notices of how far a call has come, for hosts that ask for them.

use claudemesh_client::{Progress, ProgressSink, with_progress};
use claudemesh_proto::{Family, tool_by_name};
use rmcp::RoleServer;
use rmcp::model::ProgressNotificationParam;
use rmcp::service::RequestContext;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// At most so often: a host shows each notice.
const EVERY: Duration = Duration::from_millis(250);

/// Whether a call of this tool may be dropped in the middle: repeating it goes on where it stopped, or begins anew.
pub(super) fn can_be_cut_off(tool: &str) -> bool {
    tool_by_name(tool).is_some_and(|meta| match meta.family {
        Family::Files => meta.name != "delete_file",
        Family::Skills => meta.name == "mesh_skill_deploy",
        _ => false,
    })
}

/// Runs a call and tells the host how far it has come, if the host gave a token for that.
pub(super) async fn told<T>(context: &RequestContext<RoleServer>, call: impl Future<Output = T>) -> T {
    let Some(token) = context.meta.get_progress_token() else {
        return call.await;
    };
    let (sender, mut receiver) = watch::channel(None::<Progress>);
    let sink: ProgressSink = Arc::new(move |progress| {
        sender.send_replace(Some(progress));
    });
    let peer = context.peer.clone();
    let notices = async {
        while receiver.changed().await.is_ok() {
            let Some(progress) = *receiver.borrow_and_update() else {
                continue;
            };
            #[allow(clippy::cast_precision_loss, reason = "the protocol has no other numbers")]
            let (done, total) = (progress.done as f64, progress.total as f64);
            let notice = ProgressNotificationParam::new(token.clone(), done).with_total(total);
            if peer.notify_progress(notice).await.is_err() {
                break;
            }
            sleep(EVERY).await;
        }
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        ended = with_progress(sink, call) => ended,
        never = notices => match never {},
    }
}
