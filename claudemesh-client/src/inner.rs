//! What the tasks of one client share.

use crate::acks::AckQueue;
use crate::builder::Options;
use crate::connection::Demand;
use crate::files::SharedDirectories;
use crate::inbox::{Inbox, Loan};
use crate::journal::Journal;
use crate::outbox::{ClearText, Outbox, PendingSend};
use crate::pending::{PendingTable, lock};
use crate::receipts::ReceiptBook;
use crate::resolve::Directory;
use crate::secure::SecureChannel;
use crate::session::SessionMemory;
use crate::stats::SessionStats;
use crate::streams::Streams;
use crate::{ClientError, ClientEvent, ConnectionState, Identity, Transport, v1};
use claudemesh_crypto::{PublicKey, SecretKey};
use claudemesh_proto::frame::{Frame, Push};
use claudemesh_proto::hello::HelloAck;
use claudemesh_proto::limits::{MAX_FRAME_BYTES, MAX_V1_FRAME_BYTES};
use claudemesh_proto::model::{ClientStage, MessageId, Stats};
use claudemesh_proto::ops::{MessageAck, MessageStatusResult, SendAck, SendEnvelope};
use claudemesh_proto::{Operation, OperationMeta, RateClass, ReplyWhen, operation_by_type};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// The state of one client. Its tasks hold it; the program holds a handle that stops them when it is dropped.
pub(crate) struct Inner {
    pub(crate) identity: Arc<Identity>,
    /// Key of this session, the same for every connection of the client.
    pub(crate) session_key: SecretKey,
    pub(crate) options: Options,
    pub(crate) secure: SecureChannel,
    pub(crate) state: watch::Sender<ConnectionState>,
    pub(crate) hello: Mutex<Option<Arc<HelloAck>>>,
    /// Frames for the writer of the current connection.
    pub(crate) link: Mutex<Option<mpsc::Sender<String>>>,
    pub(crate) pending: PendingTable,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) acks: AckQueue,
    /// Where the program asked for one.
    pub(crate) journal: Option<Arc<Journal>>,
    /// Messages of an earlier run that are sent again.
    pub(crate) restored: Mutex<Vec<PendingSend>>,
    pub(crate) receipts: ReceiptBook,
    pub(crate) session: SessionMemory,
    pub(crate) streams: Streams,
    pub(crate) stats: SessionStats,
    pub(crate) events: broadcast::Sender<ClientEvent>,
    /// Test messages of `ping_mesh` that are expected back.
    pub(crate) pings: Mutex<HashMap<MessageId, oneshot::Sender<Instant>>>,
    /// How many connections have had their group keys brought up to date.
    pub(crate) keyed: watch::Sender<u64>,
    pub(crate) directory: Directory,
    /// Who waits for a connection.
    pub(crate) demand: Demand,
    /// What this session shares with peers; nothing by default.
    pub(crate) shared: Option<SharedDirectories>,
    pub(crate) shutdown: CancellationToken,
}

/// Part of the broker's lease that a message may wait here: the rest is for the way.
const LOAN_SHARE: f64 = 0.8;
/// In how much of its lease the broker may still believe that a message is here.
const BELIEF_SHARE: f64 = 1.25;
/// The broker doubles the lease with each delivery of a message, this many times.
const LEASE_DOUBLINGS: u32 = 3;

impl Inner {
    /// The loan of a message that came now; `None`: for ever, the broker knows no leases.
    pub(crate) fn loan_of(&self, push: &Push) -> Option<Loan> {
        let lease = lock(&self.hello).as_ref()?.lease_ms?;
        let doublings = push.attempt.unwrap_or(1).saturating_sub(1).min(LEASE_DOUBLINGS);
        let lease = Duration::from_millis(lease << doublings);
        let sender = push.sender_member.as_ref().map_or(&push.sender_pubkey, |key| &key.0);
        let now = Instant::now();
        Some(Loan {
            stream: (sender.clone(), push.priority),
            until: now + lease.mul_f64(LOAN_SHARE),
            believed: now + lease.mul_f64(BELIEF_SHARE),
        })
    }

    /// Key of this session.
    pub(crate) fn session_public(&self) -> PublicKey {
        self.session_key.public()
    }

    pub(crate) fn emit(&self, event: ClientEvent) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    pub(crate) fn warn(&self, text: String) {
        tracing::warn!(mesh = %self.identity.slug, "{text}");
        self.emit(ClientEvent::Warning(text));
    }

    pub(crate) fn set_state(&self, state: ConnectionState) {
        tracing::debug!(mesh = %self.identity.slug, state = state.as_str(), "connection");
        self.state.send_replace(state.clone());
        self.emit(ClientEvent::Connection(state));
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state.borrow().is_open()
    }

    /// Protocol version of the connection; that of this crate while there is none.
    pub(crate) fn protocol(&self) -> u32 {
        lock(&self.hello)
            .as_ref()
            .map_or(claudemesh_proto::PROTOCOL_VERSION, |ack| ack.protocol.unwrap_or(1))
    }

    /// Waits until there is a connection.
    ///
    /// # Errors
    /// When the client is at its end.
    pub(crate) async fn wait_open(&self) -> Result<(), ClientError> {
        let mut state = self.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                ConnectionState::Open => return Ok(()),
                ConnectionState::Closed { error } => return Err(error.clone().unwrap_or(ClientError::Closed)),
                _ => {}
            }
            if state.changed().await.is_err() {
                return Err(ClientError::Closed);
            }
        }
    }

    /// Waits until the group keys were brought up to date on some connection, at most `limit`.
    pub(crate) async fn wait_keyed(&self, limit: Duration) {
        let mut keyed = self.keyed.subscribe();
        let _ = tokio::time::timeout(limit, keyed.wait_for(|count| *count > 0)).await;
    }

    /// Why there is no connection.
    pub(crate) fn absence(&self) -> ClientError {
        match &*self.state.borrow() {
            ConnectionState::Reconnecting { error, .. } => ClientError::not_connected(error.clone()),
            ConnectionState::Closed { error } => error.clone().unwrap_or(ClientError::Closed),
            state => ClientError::not_connected(format!("the connection is {}", state.as_str())),
        }
    }

    async fn wait_link(&self, deadline: Instant) -> Result<mpsc::Sender<String>, ClientError> {
        let mut waiter = None;
        loop {
            if !self.is_open() {
                waiter.get_or_insert_with(|| self.demand.wait());
            }
            match timeout_at(deadline, self.wait_open()).await {
                Err(_) => return Err(self.absence()),
                Ok(opened) => opened?,
            }
            if let Some(link) = lock(&self.link).clone() {
                return Ok(link);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Sends a request and waits for its reply, within the client's request timeout.
    pub(crate) async fn request<O: Operation>(&self, request: &O) -> Result<O::Response, ClientError> {
        self.request_within(request, self.options.request_timeout).await
    }

    /// [`Inner::request`] with another time limit.
    pub(crate) async fn request_within<O: Operation>(
        &self,
        request: &O,
        limit: Duration,
    ) -> Result<O::Response, ClientError> {
        let meta = O::META;
        let deadline = Instant::now() + limit;
        let is_silent = meta.reply_when == ReplyWhen::Asked && !v1::answers(meta);
        let reply = if is_silent && self.speaks_v1(deadline).await? {
            v1::check(meta)?;
            self.cast(meta, request, deadline).await?;
            let any: &dyn Any = request;
            self.session.remember(any);
            let groups = serde_json::to_value(self.session.snapshot().groups.unwrap_or_default()).unwrap_or_default();
            v1::silent_reply(any, &groups).ok_or_else(|| ClientError::Unsupported {
                what: meta.name.to_owned(),
            })?
        } else {
            self.call(meta, request, limit, deadline).await?
        };
        let response: O::Response =
            serde_json::from_value(reply).map_err(|error| ClientError::bad_reply(meta, &error))?;
        self.session.remember(request);
        let answer: &dyn Any = &response;
        if let Some(status) = answer.downcast_ref::<MessageStatusResult>() {
            self.receipts.look_into(status);
        }
        Ok(response)
    }

    async fn speaks_v1(&self, deadline: Instant) -> Result<bool, ClientError> {
        self.wait_link(deadline).await?;
        Ok(self.protocol() < 2)
    }

    /// Writes a request that is not answered.
    async fn cast(&self, meta: &OperationMeta, body: &impl Serialize, deadline: Instant) -> Result<(), ClientError> {
        let link = self.wait_link(deadline).await?;
        let frame = Frame::new(meta.wire_type, body).to_json();
        let text = frame.map_err(|error| ClientError::unserializable(meta, &error))?;
        self.check_size(meta, &text)?;
        link.send(text).await.map_err(|_| self.absence())
    }

    async fn call(
        &self,
        meta: &'static OperationMeta,
        body: &impl Serialize,
        limit: Duration,
        deadline: Instant,
    ) -> Result<Value, ClientError> {
        loop {
            let link = self.wait_link(deadline).await?;
            if self.protocol() < 2 {
                v1::check(meta)?;
            }
            let mut pending = self.pending.register(meta.reply_type);
            let frame = Frame {
                kind: meta.wire_type,
                request_id: Some(pending.id()),
                body,
            }
            .to_json();
            let text = frame.map_err(|error| ClientError::unserializable(meta, &error))?;
            self.check_size(meta, &text)?;
            if link.send(text).await.is_err() {
                // The connection ended before it took the frame: wait for the next one.
                tokio::task::yield_now().await;
                continue;
            }
            match timeout_at(deadline, pending.reply()).await {
                Err(_) => {
                    return Err(ClientError::Timeout {
                        what: meta.name.to_owned(),
                        after: limit,
                    });
                }
                // A read changes nothing, so asking again is safe.
                Ok(Err(ClientError::NotConnected { .. })) if is_read(meta) => {}
                Ok(reply) => return reply,
            }
        }
    }

    fn check_size(&self, meta: &OperationMeta, text: &str) -> Result<(), ClientError> {
        let limit = if self.protocol() < 2 {
            MAX_V1_FRAME_BYTES
        } else {
            MAX_FRAME_BYTES
        };
        if text.len() > limit {
            let message = format!("the request has {} bytes, the broker takes {limit}", text.len());
            return Err(ClientError::invalid(meta.name, message));
        }
        Ok(())
    }

    /// Adds a sealed message to the outbox.
    ///
    /// `text` is what it holds, to seal it again when its keys turn out to be old.
    pub(crate) fn enqueue(&self, envelope: SendEnvelope, text: Option<ClearText>) -> Result<PendingSend, ClientError> {
        if let Some(id) = &envelope.id {
            self.receipts.track(&id.as_str().into(), Some(&envelope.target_spec));
        }
        let number = self.secure.number_of(&envelope);
        let pending = self.outbox.push(envelope, number, text)?;
        self.stats.count(|stats| stats.messages_out += 1);
        if !self.is_open() {
            self.demand.once();
        }
        Ok(pending)
    }

    /// Waits for the acknowledgement of a message within the request timeout. Takes it back if it never reached a
    /// connection.
    pub(crate) async fn settle(&self, mut pending: PendingSend) -> Result<SendAck, ClientError> {
        let limit = self.options.request_timeout;
        if let Ok(settled) = tokio::time::timeout(limit, &mut pending).await {
            return settled;
        }
        if self.outbox.withdraw(pending.id()) {
            return Err(if self.is_open() {
                ClientError::Timeout {
                    what: "send".to_owned(),
                    after: limit,
                }
            } else {
                self.absence()
            });
        }
        let what = format!(
            "send (message {} is still being sent; message_status tells more)",
            pending.id()
        );
        Err(ClientError::Timeout { what, after: limit })
    }

    /// Notes how far a received message has come, to be told to the broker in the background.
    pub(crate) fn acknowledge(&self, id: &MessageId, stage: ClientStage, adapter: Option<&str>) {
        let adapter = adapter.map(|name| name.chars().take(32).collect());
        let ack = MessageAck {
            message_id: id.clone(),
            stage,
            adapter,
        };
        match &self.journal {
            Some(journal) => journal.acked(ack),
            None => self.acks.push(ack),
        }
    }

    /// The broker has these acknowledgements on disk.
    pub(crate) fn settled(&self, acks: &[MessageAck]) {
        if let Some(journal) = &self.journal {
            journal.settled(acks);
        }
    }

    /// The program is done with a message.
    pub(crate) fn confirm(&self, id: &MessageId) {
        if let Some(journal) = &self.journal
            && journal.confirmed(id)
        {
            self.inbox.wake();
        }
    }

    /// What this session has counted.
    pub(crate) fn counters(&self) -> Stats {
        self.stats.session()
    }
}

/// Whether repeating the request after a lost connection is safe.
fn is_read(meta: &OperationMeta) -> bool {
    // `pull_messages` leases; what was leased to the lost session is delivered again anyway.
    meta.rate == RateClass::Read || meta.rate == RateClass::Heavy
}

impl Transport for Inner {
    fn call<'a>(&'a self, wire_type: &'a str, body: Value) -> BoxFuture<'a, Result<Value, ClientError>> {
        async move {
            let Some(meta) = operation_by_type(wire_type) else {
                return Err(ClientError::Unsupported {
                    what: wire_type.to_owned(),
                });
            };
            let limit = self.options.request_timeout;
            Inner::call(self, meta, &body, limit, Instant::now() + limit).await
        }
        .boxed()
    }
}
