//! Making the connection, keeping it, and making it again.

mod address;
mod backoff;
mod demand;
mod handshake;
mod reader;
mod receive;
mod restore;
mod socket;
mod writer;

pub(crate) use address::Address;
pub(crate) use demand::Demand;
pub(crate) use receive::take_ping;

use crate::inner::Inner;
use crate::{ClientError, ConnectionState};
use claudemesh_proto::ErrorCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A connection that lasted this long was a good one: the next tries start from the shortest wait again.
const STABLE: Duration = Duration::from_secs(10);
/// Pushed frames that wait to be opened. The broker stops pushing long before.
const JOB_CAPACITY: usize = 4096;

/// How a connection ended.
pub(super) enum End {
    /// The client is closed.
    Closed,
    /// It was lost.
    Lost(String),
    /// The broker said that it goes away; connect again after this time.
    GoingAway(String, Option<Duration>),
    /// The broker does not want this client any more.
    Refused(ClientError),
}

/// Keeps the client connected until it is closed or refused for good.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut ending = Ending {
        inner: inner.clone(),
        error: Some(ClientError::refused(ErrorCode::Internal, PANICKED)),
    };
    let (jobs, job_queue) = mpsc::channel(JOB_CAPACITY);
    let receiving = tokio::spawn(receive::run(inner.clone(), job_queue));
    ending.error = keep_connected(&inner, &jobs).await;
    inner.shutdown.cancel();
    drop(jobs);
    let _ = receiving.await;
}

const PANICKED: &str = "the connection task failed";

/// Tells everybody who waits that the client is at its end, however it came.
struct Ending {
    inner: Arc<Inner>,
    error: Option<ClientError>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let inner = &self.inner;
        inner.shutdown.cancel();
        let error = self.error.clone().unwrap_or(ClientError::Closed);
        inner.outbox.close(error.clone());
        inner.pending.fail_all(&error.to_string());
        inner.inbox.close();
        inner.streams.close();
        inner.set_state(ConnectionState::Closed {
            error: self.error.take(),
        });
    }
}

/// Returns the refusal that ended the client, if it was one.
async fn keep_connected(inner: &Arc<Inner>, jobs: &mpsc::Sender<receive::Job>) -> Option<ClientError> {
    let mut attempt = 0;
    loop {
        let established = tokio::select! {
            biased;
            () = inner.shutdown.cancelled() => return None,
            established = handshake::establish(inner) => established,
        };
        let (error, asked) = match established {
            Ok(established) => {
                let began = Instant::now();
                let end = reader::serve(inner, established, jobs).await;
                if began.elapsed() >= STABLE {
                    attempt = 0;
                }
                match end {
                    End::Closed => return None,
                    End::Refused(error) => return Some(error),
                    End::Lost(reason) => (reason, None),
                    End::GoingAway(reason, wait) => (reason, wait),
                }
            }
            Err(error) if error.is_permanent_refusal() || matches!(error, ClientError::Unsupported { .. }) => {
                return Some(error);
            }
            Err(error) => (error.to_string(), error.retry_after()),
        };
        attempt += 1;
        inner.set_state(ConnectionState::Reconnecting { attempt, error });
        let pause = async {
            match asked {
                // The broker knows when it is there again, and whom else it has asked to wait.
                Some(wait) => tokio::time::sleep(backoff::asked(wait)).await,
                None => {
                    let (short, long) = (backoff::short_delay(attempt), backoff::delay(attempt));
                    inner.demand.pause(short, long).await;
                }
            }
        };
        tokio::select! {
            () = inner.shutdown.cancelled() => return None,
            () = pause => {}
        }
    }
}
