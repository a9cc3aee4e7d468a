//! How far a transfer has come.

use std::sync::Arc;

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Is told how far a transfer has come, a few times for each MiB. Must be quick.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

tokio::task_local! {
    static SINK: ProgressSink;
}

/// Runs `work` and tells `sink` of every transfer in it: also of tools that are called by name.
pub async fn with_progress<F: Future>(sink: ProgressSink, work: F) -> F::Output {
    SINK.scope(sink, work).await
}

/// Tells the sink of this task, if it has one.
pub(super) fn report(done: u64, total: u64) {
    // Nobody listening is fine.
    let _ = SINK.try_with(|sink| sink(Progress { done, total }));
}
