//! One connection to one mesh.

use crate::inner::Inner;
use crate::pending::lock;
use crate::{
    ClientError, ConnectionState, EventStream, Identity, MeshClientBuilder, Message, PendingSend, ReceiptStream, acks,
    connection, journal, stats,
};
use claudemesh_crypto::PublicKey;
use claudemesh_proto::Operation;
use claudemesh_proto::hello::HelloAck;
use claudemesh_proto::model::{ClientStage, MessageId, Stats};
use claudemesh_proto::ops::{SendAck, SendEnvelope};
use futures_util::stream::{self, Stream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long [`MeshClient::close`] waits for what is on its way.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// One connection to one mesh. Cheap to clone; the last clone that is dropped ends the connection, without waiting for
/// what is on its way: call [`MeshClient::close`] before a program ends.
///
/// While the connection is away, the client makes it again, requests wait for it up to the request timeout, and messages
/// wait in the outbox.
#[derive(Clone)]
pub struct MeshClient {
    handle: Arc<Handle>,
}

/// What the program's clones share; stops the tasks when it goes.
struct Handle {
    inner: Arc<Inner>,
    connection: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.shutdown.cancel();
    }
}

impl MeshClient {
    /// Connects with default settings: see [`MeshClientBuilder::connect`].
    ///
    /// # Errors
    /// Those of [`MeshClientBuilder::connect`].
    pub async fn connect(identity: Identity) -> Result<Self, ClientError> {
        Self::builder(identity).connect().await
    }

    /// Settings of a client.
    pub fn builder(identity: Identity) -> MeshClientBuilder {
        MeshClientBuilder::new(identity)
    }

    pub(crate) fn spawn(inner: Arc<Inner>) -> Self {
        let connection = tokio::spawn(connection::run(inner.clone()));
        tokio::spawn(acks::run(inner.clone()));
        if let Some(journal) = inner.journal.clone() {
            tokio::spawn(journal::run(inner.clone(), journal));
        }
        if !inner.options.observer {
            tokio::spawn(stats::run(inner.clone()));
        }
        Self {
            handle: Arc::new(Handle {
                inner,
                connection: Mutex::new(Some(connection)),
            }),
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.handle.inner
    }

    /// Who this client is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner().identity
    }

    /// Key of this session: fresh for each client, kept over reconnects.
    #[must_use]
    pub fn session_key(&self) -> PublicKey {
        self.inner().session_public()
    }

    /// What the broker said when it accepted the current or last connection.
    #[must_use]
    pub fn hello(&self) -> Option<Arc<HelloAck>> {
        lock(&self.inner().hello).clone()
    }

    /// Protocol version of the connection: 1 with an original broker.
    #[must_use]
    pub fn protocol(&self) -> u32 {
        self.inner().protocol()
    }

    /// Sealing, opening and group keys of this client.
    #[must_use]
    pub fn secure(&self) -> &crate::secure::SecureChannel {
        &self.inner().secure
    }

    /// The connection, for calls of the secure layer.
    #[must_use]
    pub fn transport(&self) -> &dyn crate::Transport {
        self.inner().as_ref()
    }

    /// What the connection is doing.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.inner().state.borrow().clone()
    }

    /// The state now, and every change of it. Quick changes may be seen as one.
    pub fn state_stream(&self) -> impl Stream<Item = ConnectionState> + Send + Unpin + 'static {
        let mut receiver = self.inner().state.subscribe();
        receiver.mark_changed();
        Box::pin(stream::unfold(Some(receiver), |receiver| async move {
            let mut receiver = receiver?;
            receiver.changed().await.ok()?;
            let state = receiver.borrow_and_update().clone();
            let last = state.is_closed();
            Some((state, (!last).then_some(receiver)))
        }))
    }

    /// Waits until there is a connection.
    ///
    /// # Errors
    /// [`ClientError::NotConnected`] with the last reason after `limit`; at once the refusal when the broker refused for
    /// good, and [`ClientError::Closed`].
    pub async fn wait_open(&self, limit: Duration) -> Result<(), ClientError> {
        let _waiter = self.inner().demand.wait();
        match timeout(limit, self.inner().wait_open()).await {
            Ok(result) => result,
            Err(_) => Err(self.inner().absence()),
        }
    }

    /// Waits until the group keys were brought up to date on some connection, at most `limit`. What was wrong with them is among
    /// the events by then: a program that ends sooner may miss it.
    pub async fn wait_keys_checked(&self, limit: Duration) {
        self.inner().wait_keyed(limit).await;
    }

    /// Sends any request and waits for its reply, up to the request timeout. Without a connection it waits for one. Reads
    /// are repeated when the connection is lost in between. Dropping the future forgets the request.
    ///
    /// # Errors
    /// The broker's refusal; [`ClientError::NotConnected`], [`ClientError::Timeout`], [`ClientError::Protocol`].
    pub async fn request<O: Operation>(&self, request: O) -> Result<O::Response, ClientError> {
        self.inner().request(&request).await
    }

    /// [`MeshClient::request`] with another time limit.
    ///
    /// # Errors
    /// Those of [`MeshClient::request`].
    pub async fn request_within<O: Operation>(&self, request: O, limit: Duration) -> Result<O::Response, ClientError> {
        self.inner().request_within(&request, limit).await
    }

    /// Sends a message that is sealed already, through the outbox, and waits up to the request timeout until the broker
    /// has it on disk. Repeating it with the same `id` is safe.
    ///
    /// # Errors
    /// The broker's refusal; [`ClientError::QueueFull`]; [`ClientError::NotConnected`] when it never left (it is taken back
    /// then); [`ClientError::Timeout`] when it left and was not acknowledged (it is still being sent then).
    pub async fn send_sealed(&self, envelope: SendEnvelope) -> Result<SendAck, ClientError> {
        let pending = self.enqueue(envelope)?;
        self.inner().settle(pending).await
    }

    /// Puts a sealed message into the outbox and returns at once: many may be on their way, and arrive in order.
    ///
    /// # Errors
    /// [`ClientError::QueueFull`], and [`ClientError::InvalidArgument`] for an `id` that is on its way already.
    pub fn enqueue(&self, envelope: SendEnvelope) -> Result<PendingSend, ClientError> {
        self.inner().enqueue(envelope, None)
    }

    /// The next message; `None` when the client is closed and no message is left. Taking it is what acknowledges it as
    /// delivered: what a process that dies has not taken goes to the member's next session. A persistent client gives out what
    /// it took again after a restart, until the program confirms it with [`Message::confirm`]. Several tasks may wait; each message
    /// goes to one of them. Messages of priority `low` wait at the broker for [`MeshClient::pull`].
    pub async fn recv(&self) -> Option<Message> {
        let inner = self.inner();
        inner
            .inbox
            .next(|id| inner.acknowledge(id, ClientStage::Delivered, None))
            .await
    }

    /// The next message, if one is here.
    #[must_use]
    pub fn try_recv(&self) -> Option<Message> {
        let inner = self.inner();
        inner
            .inbox
            .pop(|id| inner.acknowledge(id, ClientStage::Delivered, None))
    }

    /// How many messages wait for [`MeshClient::recv`].
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner().inbox.len()
    }

    /// Everything that happens from now on. Messages are also given to [`MeshClient::recv`], which has to be read: a full
    /// inbox holds further messages back.
    pub fn events(&self) -> EventStream {
        EventStream::new(self.inner().events.subscribe())
    }

    /// [`Message::confirm`] for a message of which only the id is here.
    pub fn confirm(&self, id: &MessageId) {
        self.inner().confirm(id);
    }

    /// How many messages the program was given and did not confirm; 0 in a client that is not persistent.
    #[must_use]
    pub fn unconfirmed(&self) -> usize {
        self.inner().journal.as_ref().map_or(0, |journal| journal.unconfirmed())
    }

    /// Messages that an earlier run of a persistent client left unsent, the oldest first: they are sent again by
    /// themselves, and these tell what becomes of them. Empty at the second call.
    pub fn restored_sends(&self) -> Vec<PendingSend> {
        std::mem::take(&mut *lock(&self.inner().restored))
    }

    /// Tells the sender how far a received message has come; collected and sent in the background, also after a reconnect.
    /// `adapter` (at most 32 characters) says what put it in front of the model.
    pub fn acknowledge(&self, id: &MessageId, stage: ClientStage, adapter: Option<&str>) {
        self.inner().acknowledge(id, stage, adapter);
    }

    /// News of a message that this member sent, from the beginning on: one item per recipient and stage. Ends when every
    /// recipient has read it or will never get it. Recipients that only acknowledge `delivered` keep it open: use a time
    /// limit.
    pub fn receipts(&self, message_id: impl Into<MessageId>) -> ReceiptStream {
        ReceiptStream::new(self.inner().clone(), message_id.into())
    }

    /// What this session has counted: messages, tool calls, errors, seconds.
    #[must_use]
    pub fn counters(&self) -> Stats {
        self.inner().counters()
    }

    /// Counts a tool call of the program for the member's statistics.
    pub fn count_tool_call(&self, failed: bool) {
        self.inner().stats.count(|stats| {
            stats.tool_calls += 1;
            stats.errors += u64::from(failed);
        });
    }

    /// Reports the counters now instead of within the next minute.
    pub async fn report_stats(&self) {
        stats::report(self.inner()).await;
    }

    /// Ends the connection. Waits up to five seconds until messages and acknowledgements on their way are with the broker,
    /// if there is a connection. All clones of the client are closed. Messages that were not
    /// taken are for the member's next session. Confirm messages of a persistent client before: its directory is given free.
    pub async fn close(&self) {
        let inner = self.inner();
        inner.inbox.stop();
        if inner.is_open() {
            let on_their_way = async {
                if let Some(journal) = &inner.journal {
                    journal.flushed().await;
                }
                tokio::join!(inner.outbox.drained(), inner.acks.drained());
                stats::report(inner).await;
            };
            let _ = timeout(CLOSE_GRACE, on_their_way).await;
        }
        inner.shutdown.cancel();
        let connection = lock(&self.handle.connection).take();
        if let Some(connection) = connection {
            let _ = timeout(CLOSE_GRACE, connection).await;
        }
        if let Some(journal) = inner.journal.clone() {
            let _ = tokio::task::spawn_blocking(move || journal.release()).await;
        }
    }
}

impl std::fmt::Debug for MeshClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshClient")
            .field("mesh", &self.identity().slug)
            .field("session", &self.session_key())
            .field("state", &self.state().as_str())
            .finish_non_exhaustive()
    }
}
