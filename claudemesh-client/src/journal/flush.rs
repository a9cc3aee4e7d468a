//! Puts what was written on disk, and lets go what waits for it.

use super::Journal;
use crate::inner::Inner;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Wait between tries while the disk takes nothing.
const RETRY: Duration = Duration::from_secs(1);

/// Works until the client is closed, and gives the directory free then. What is written during one sync is the next one's.
pub(crate) async fn run(inner: Arc<Inner>, journal: Arc<Journal>) {
    let mut is_stuck = false;
    loop {
        tokio::select! {
            () = inner.shutdown.cancelled() => break,
            () = journal.work.notified() => {}
        }
        match sync(&journal).await {
            Ok(()) => {
                if std::mem::take(&mut is_stuck) {
                    inner.warn("the journal can be written again".to_owned());
                }
                let durable = journal.durable();
                for ack in journal.due() {
                    inner.acks.push(ack);
                }
                inner.outbox.ready.notify_one();
                journal.flushed.send_replace(durable);
            }
            Err(error) => {
                if !std::mem::replace(&mut is_stuck, true) {
                    inner.warn(format!(
                        "the journal cannot be written ({error}): nothing is sent or acknowledged until it can"
                    ));
                }
                tokio::select! {
                    () = inner.shutdown.cancelled() => break,
                    () = tokio::time::sleep(RETRY) => journal.work.notify_one(),
                }
            }
        }
    }
    // Other tasks may take seconds to end: the directory must not stay in use as long.
    let _ = tokio::task::spawn_blocking(move || journal.release()).await;
}

async fn sync(journal: &Arc<Journal>) -> io::Result<()> {
    let journal = journal.clone();
    match tokio::task::spawn_blocking(move || journal.sync()).await {
        Ok(synced) => synced,
        Err(error) => Err(io::Error::other(error)),
    }
}
