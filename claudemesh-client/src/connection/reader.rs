//! The reading half of a connection: replies go to their requests, everything else to the receiving task.

use super::handshake::Established;
use super::receive::Job;
use super::socket::{Incoming, Socket, describe, describe_close};
use super::{End, restore, writer};
use crate::files::{self, Asked};
use crate::inner::Inner;
use crate::outbox::{ClearText, Refused};
use crate::pending::lock;
use crate::{ClientError, ClientEvent, ConnectionState};
use claudemesh_proto::frame::{GoingAway, ServerFrame};
use claudemesh_proto::ops::{SendAck, SendEnvelope};
use claudemesh_proto::{ErrorCode, ErrorFrame, Operation as _};
use futures_util::StreamExt as _;
use futures_util::stream::SplitStream;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;

/// Without any frame for this long, answers to our pings included, the connection is dead.
const DEAD_AFTER: Duration = Duration::from_secs(60);
/// Frames of requests that wait for the writer.
const LINK_CAPACITY: usize = 256;
/// How long the goodbye may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Runs an accepted connection to its end.
pub(super) async fn serve(inner: &Arc<Inner>, established: Established, jobs: &mpsc::Sender<Job>) -> End {
    let Established { socket, ack, early } = established;
    let ack = Arc::new(ack);
    let (sink, stream) = socket.split();
    let (link, frames) = mpsc::channel(LINK_CAPACITY);
    let first = lock(&inner.hello).replace(ack.clone()).is_none();
    inner.session.restored(&ack);
    inner.stats.connected(ack.restored_stats);
    inner.outbox.rewind();
    if !first {
        inner.hold_streams();
    }
    *lock(&inner.link) = Some(link);
    let mut writing = tokio::spawn(writer::run(inner.clone(), sink, frames));
    inner.set_state(ConnectionState::Open);
    restore::spawn(inner, ack.clone(), first);

    let mut reader = Reader {
        inner,
        jobs,
        going_away: None,
    };
    let mut end = match reader.job(Job::Connected(ack)) {
        ControlFlow::Continue(()) => None,
        ControlFlow::Break(end) => Some(end),
    };
    for frame in early {
        if let ControlFlow::Break(reason) = reader.take(frame) {
            end.get_or_insert(reason);
        }
    }
    let mut writer_ended = false;
    let mut end = match end {
        Some(end) => end,
        None => {
            let mut reading = std::pin::pin!(reader.read(stream));
            tokio::select! {
                end = &mut reading => end,
                written = &mut writing => {
                    writer_ended = true;
                    match written {
                        Ok(Some(reason)) => End::Lost(reason),
                        _ if inner.shutdown.is_cancelled() => {
                            // The broker's answer to the close says that the session has ended there: who connects
                            // again then finds what it left.
                            let _ = tokio::time::timeout(CLOSE_LIMIT, reading).await;
                            End::Closed
                        }
                        _ => End::Lost("the connection ended".to_owned()),
                    }
                }
            }
        }
    };
    if let Some(going) = reader.going_away.take()
        && !matches!(end, End::Closed | End::Refused(_))
    {
        end = reader.farewell(going);
    }
    *lock(&inner.link) = None;
    inner.inbox.disconnected();
    if !writer_ended {
        // The writer is gone before requests are ended: none is written after it was reported as lost.
        let grace = if inner.shutdown.is_cancelled() {
            CLOSE_LIMIT
        } else {
            Duration::ZERO
        };
        if tokio::time::timeout(grace, &mut writing).await.is_err() {
            writing.abort();
            let _ = writing.await;
        }
    }
    let reason = match &end {
        End::Closed => "the client is closed".to_owned(),
        End::Lost(reason) | End::GoingAway(reason, _) => reason.clone(),
        End::Refused(error) => error.to_string(),
    };
    inner.set_state(ConnectionState::Reconnecting {
        attempt: 0,
        error: reason.clone(),
    });
    inner.pending.fail_all(&reason);
    end
}

struct Reader<'a> {
    inner: &'a Arc<Inner>,
    jobs: &'a mpsc::Sender<Job>,
    going_away: Option<GoingAway>,
}

impl Reader<'_> {
    async fn read(&mut self, mut stream: SplitStream<Socket>) -> End {
        loop {
            let message = match timeout_at(Instant::now() + DEAD_AFTER, stream.next()).await {
                Err(_) => return End::Lost(format!("nothing came from the broker for {} s", DEAD_AFTER.as_secs())),
                Ok(None) => return End::Lost(describe_close(None)),
                Ok(Some(Err(error))) => return End::Lost(describe(&error)),
                Ok(Some(Ok(Message::Close(frame)))) => return End::Lost(describe_close(frame.as_ref())),
                Ok(Some(Ok(message))) => message,
            };
            match Incoming::read(&message) {
                None => {}
                Some(Ok(frame)) => {
                    if let ControlFlow::Break(end) = self.take(frame) {
                        return end;
                    }
                }
                Some(Err(error)) => self.inner.warn(error.to_string()),
            }
        }
    }

    fn take(&mut self, frame: Incoming) -> ControlFlow<End> {
        let Incoming { kind, request_id, body } = frame;
        if kind == "error" {
            return self.error(request_id.as_deref(), body);
        }
        if kind == SendEnvelope::META.reply_type && self.send_acknowledged(request_id.as_deref(), &body) {
            return ControlFlow::Continue(());
        }
        // Questions of peers carry the id that their answer must bring back, not one of ours.
        let is_question = matches!(kind.as_str(), "peer_file_request_forward" | "peer_dir_request_forward");
        if let Some(id) = request_id.as_ref().filter(|_| !is_question) {
            if !self.inner.pending.resolve(id, &kind, body) {
                tracing::debug!(kind, id, "a reply came too late");
            }
            return ControlFlow::Continue(());
        }
        match ServerFrame::from_value(&kind, body) {
            Ok(Some(frame)) => self.unasked(frame),
            Ok(None) => {
                tracing::debug!(kind, "a frame of an unknown type");
                ControlFlow::Continue(())
            }
            Err(error) => {
                self.inner.warn(format!("the broker sent a malformed {kind}: {error}"));
                ControlFlow::Continue(())
            }
        }
    }

    /// `ack` also answers other requests, which have no message id.
    fn send_acknowledged(&self, request_id: Option<&str>, body: &serde_json::Value) -> bool {
        let Ok(mut ack) = serde_json::from_value::<SendAck>(body.clone()) else {
            return false;
        };
        if ack.id.is_empty() {
            ack.id = request_id.unwrap_or_default().to_owned();
        }
        self.inner.outbox.acknowledge(ack)
    }

    fn error(&self, request_id: Option<&str>, body: serde_json::Value) -> ControlFlow<End> {
        let error: ErrorFrame = match serde_json::from_value(body) {
            Ok(error) => error,
            Err(error) => {
                self.inner.warn(format!("the broker sent a malformed error: {error}"));
                return ControlFlow::Continue(());
            }
        };
        for id in [error.id.as_deref(), request_id].into_iter().flatten() {
            match self.inner.outbox.refuse(id, &error) {
                Refused::NotOurs => {}
                Refused::Settled => return ControlFlow::Continue(()),
                Refused::RetryAt(time) => {
                    let inner = self.inner.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep_until(time).await;
                        inner.outbox.ready.notify_one();
                    });
                    return ControlFlow::Continue(());
                }
                Refused::Reseal(stale, text) => {
                    tokio::spawn(reseal(self.inner.clone(), id.to_owned(), *stale, text));
                    return ControlFlow::Continue(());
                }
            }
        }
        let permanent = matches!(error.code, ErrorCode::Revoked | ErrorCode::Archived);
        match request_id {
            Some(id) => {
                self.inner.pending.fail(id, error.into());
            }
            None if permanent => return ControlFlow::Break(End::Refused(error.into())),
            None => self.inner.warn(format!("the broker reports: {error}")),
        }
        ControlFlow::Continue(())
    }

    fn unasked(&mut self, frame: ServerFrame) -> ControlFlow<End> {
        match frame {
            ServerFrame::Push(push) => self.job(Job::Push(push)),
            ServerFrame::GroupEpoch(epoch) => self.job(Job::GroupEpoch(epoch)),
            ServerFrame::KeyRequest(request) => self.job(Job::KeyRequest(request)),
            ServerFrame::KeyGrant(grant) => self.job(Job::KeyGrant(grant)),
            ServerFrame::Receipt(receipt) => {
                self.inner.receipts.add(&receipt);
                self.inner.emit(ClientEvent::Receipt(*receipt));
                ControlFlow::Continue(())
            }
            ServerFrame::StateChange(change) => {
                self.inner.emit(ClientEvent::StateChange(*change));
                ControlFlow::Continue(())
            }
            ServerFrame::TaskChange(change) => {
                self.inner.emit(ClientEvent::TaskChange(*change));
                ControlFlow::Continue(())
            }
            ServerFrame::SkillChange(change) => {
                self.inner.emit(ClientEvent::SkillChange(*change));
                ControlFlow::Continue(())
            }
            ServerFrame::StreamData(data) => {
                self.inner.stream_data(*data);
                ControlFlow::Continue(())
            }
            ServerFrame::StreamLagged(lagged) => {
                self.inner.stream_missed(&lagged.stream, Some(lagged.missed));
                ControlFlow::Continue(())
            }
            ServerFrame::PeerFileRequest(request) => {
                files::answer(self.inner.clone(), Asked::File(request));
                ControlFlow::Continue(())
            }
            ServerFrame::PeerDirRequest(request) => {
                files::answer(self.inner.clone(), Asked::Dir(request));
                ControlFlow::Continue(())
            }
            ServerFrame::GoingAway(going) => {
                self.going_away = Some(*going);
                ControlFlow::Continue(())
            }
            ServerFrame::Challenge(_) | ServerFrame::HelloAck(_) | ServerFrame::Error(_) => ControlFlow::Continue(()),
        }
    }

    /// Hands work to the receiving task, without waiting: replies that it needs come through this reader.
    fn job(&self, job: Job) -> ControlFlow<End> {
        match self.jobs.try_send(job) {
            Ok(()) => ControlFlow::Continue(()),
            // Nothing was acknowledged: the broker sends it again.
            Err(_) => ControlFlow::Break(End::Lost("more came than could be opened".to_owned())),
        }
    }

    fn farewell(&self, going: GoingAway) -> End {
        let (code, message) = match going.reason.as_str() {
            "revoked" => (ErrorCode::Revoked, "this member was removed"),
            "archived" => (ErrorCode::Archived, "the mesh was archived"),
            // Coming back would end the other one, and so on for ever.
            "replaced" => (
                ErrorCode::Conflict,
                "another program has connected with the key of this session; give each program its own state",
            ),
            reason => {
                let wait = going.reconnect_after_ms.map(Duration::from_millis);
                return End::GoingAway(format!("the broker goes away: {reason}"), wait);
            }
        };
        End::Refused(ClientError::refused(code, message))
    }
}

/// Seals a message again that the broker refused because its keys are old.
async fn reseal(inner: Arc<Inner>, id: String, stale: SendEnvelope, text: ClearText) {
    let sealed = tokio::select! {
        () = inner.shutdown.cancelled() => return,
        sealed = inner.secure.reseal(&stale, &text, inner.as_ref()) => sealed,
    };
    match sealed {
        Ok(envelope) => inner.outbox.replace(&id, envelope),
        Err(error) => inner.outbox.fail(&id, error),
    }
}
