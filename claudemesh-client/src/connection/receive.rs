//! Opening what the broker pushed, one after the other, in a task of its own: opening may need further requests.

use crate::claims;
use crate::inbox::Offer;
use crate::inner::Inner;
use crate::message::Message;
use crate::pending::lock;
use crate::secure::{OpenedPush, SecureEvent};
use crate::{ClientError, ClientEvent};
use claudemesh_proto::frame::{GroupEpoch, KeyGrantForward, KeyRequestForward, Push};
use claudemesh_proto::hello::HelloAck;
use claudemesh_proto::model::ClientStage;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How often keys are looked after: rotation, renewal.
const MAINTENANCE: Duration = Duration::from_secs(60 * 60);
/// When they are looked after first, and the random time that comes on top: sessions that start together must not write to
/// the group log together.
const FIRST_MAINTENANCE: Duration = Duration::from_secs(2 * 60);
const FIRST_SPREAD: Duration = Duration::from_secs(10 * 60);
/// How often messages without a key are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long a group message waits for its key before it is shown as unreadable.
const KEY_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How many group messages wait for their keys.
const MAX_HELD: usize = 128;

/// Work of the receiving task.
pub(super) enum Job {
    Connected(Arc<HelloAck>),
    Push(Box<Push>),
    GroupEpoch(Box<GroupEpoch>),
    KeyRequest(Box<KeyRequestForward>),
    KeyGrant(Box<KeyGrantForward>),
}

/// A group message whose key is missing. Not acknowledged: the sender's receipt tells the truth.
struct HeldPush {
    push: Push,
    since: Instant,
}

/// Works until the connection task ends.
pub(super) async fn run(inner: Arc<Inner>, mut jobs: mpsc::Receiver<Job>) {
    let mut receiver = Receiver {
        inner: inner.clone(),
        held: VecDeque::new(),
    };
    let mut maintenance = ticks(first_maintenance(), MAINTENANCE);
    let mut looking = ticks(LOOK_AGAIN, LOOK_AGAIN);
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                Some(job) => tokio::select! {
                    // A request that is never answered must not hold up the end.
                    () = inner.shutdown.cancelled() => return,
                    () = receiver.work(job) => {}
                },
                None => return,
            },
            event = inner.secure.next_event() => receiver.secure_event(event).await,
            doubt = inner.receipts.doubts.next() => claims::judge(&inner, doubt).await,
            _ = looking.tick() => receiver.open_held().await,
            _ = maintenance.tick(), if inner.is_open() && inner.protocol() >= 2 => {
                if let Err(error) = inner.secure.maintain(inner.as_ref()).await {
                    tracing::debug!(%error, "keys were not looked after");
                }
            }
        }
    }
}

fn first_maintenance() -> Duration {
    let [byte] = claudemesh_crypto::random_bytes::<1>();
    FIRST_MAINTENANCE + FIRST_SPREAD * u32::from(byte) / 256
}

fn ticks(first: Duration, period: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

struct Receiver {
    inner: Arc<Inner>,
    held: VecDeque<HeldPush>,
}

impl Receiver {
    async fn work(&mut self, job: Job) {
        let inner = self.inner.clone();
        match job {
            Job::Connected(ack) => {
                // What came over the connection before and was not acknowledged comes again, in order, after this.
                inner.inbox.connected();
                self.held.clear();
                let done = inner.secure.on_connected(inner.as_ref(), &ack).await;
                self.report("the group keys could not be brought up to date", done);
                inner.keyed.send_modify(|count| *count += 1);
            }
            Job::Push(push) => self.take(*push).await,
            Job::GroupEpoch(epoch) => {
                let done = inner.secure.on_group_epoch(&epoch, inner.as_ref()).await;
                self.report("new group keys could not be taken", done);
                inner.emit(ClientEvent::GroupEpoch(Arc::new(*epoch)));
                self.open_held().await;
            }
            // The answer waits a little on purpose, so that not every device answers; messages must not wait for that.
            Job::KeyRequest(request) => {
                tokio::spawn(async move {
                    if let Err(error) = inner.secure.on_key_request(&request, inner.as_ref()).await {
                        tracing::debug!(%error, "a request for keys was not answered");
                    }
                });
            }
            Job::KeyGrant(grant) => {
                let done = inner.secure.on_key_grant(&grant, inner.as_ref()).await;
                self.report("granted group keys could not be taken", done);
                self.open_held().await;
            }
        }
    }

    fn report(&self, what: &str, done: Result<(), ClientError>) {
        match done {
            // The next connection does it again.
            Err(ClientError::NotConnected { .. } | ClientError::Closed) | Ok(()) => {}
            Err(error) => self.inner.warn(format!("{what}: {error}")),
        }
    }

    async fn secure_event(&mut self, event: SecureEvent) {
        match event {
            SecureEvent::Warning(text) => self.inner.warn(text),
            event => {
                let ready = event == SecureEvent::Ready;
                self.inner.emit(ClientEvent::Secure(event));
                if ready {
                    self.open_held().await;
                }
            }
        }
    }

    async fn take(&mut self, push: Push) {
        let inner = &self.inner;
        if push.subtype.as_deref() == Some("system") {
            inner.emit(ClientEvent::of_system_push(push));
            return;
        }
        let loan = inner.loan_of(&push);
        match inner.inbox.repeated(&push.message_id, loan.as_ref()) {
            Some(Offer::Taken) => return inner.acknowledge(&push.message_id, ClientStage::Delivered, None),
            Some(_) => return,
            None => {}
        }
        if self.held.iter().any(|held| held.push.message_id == push.message_id) {
            return;
        }
        if !inner.inbox.has_room(&push.message_id, loan.as_ref()) {
            tracing::debug!(id = %push.message_id, "no room, or one before it is missing; the broker delivers it again");
            return;
        }
        let opened = inner.secure.open(&push, inner.as_ref()).await;
        if opened.key_missing {
            return self.hold(push).await;
        }
        if !self.held.is_empty() {
            // Opening it may have brought the keys of those before it.
            self.open_held().await;
        }
        deliver(&self.inner, &push, opened);
    }

    async fn hold(&mut self, push: Push) {
        if self.held.len() >= MAX_HELD
            && let Some(oldest) = self.held.pop_front()
        {
            self.give_up(oldest.push).await;
        }
        self.held.push_back(HeldPush {
            push,
            since: Instant::now(),
        });
    }

    /// Tries the messages whose keys were missing again.
    async fn open_held(&mut self) {
        for held in std::mem::take(&mut self.held) {
            let opened = self.inner.secure.open(&held.push, self.inner.as_ref()).await;
            if opened.key_missing && held.since.elapsed() < KEY_PATIENCE {
                self.held.push_back(held);
            } else {
                deliver(&self.inner, &held.push, opened);
            }
        }
    }

    async fn give_up(&self, push: Push) {
        let opened = self.inner.secure.open(&push, self.inner.as_ref()).await;
        deliver(&self.inner, &push, opened);
    }
}

/// Puts an opened message where it belongs.
fn deliver(inner: &Arc<Inner>, push: &Push, opened: OpenedPush) {
    if take_ping(inner, push, &opened) {
        return;
    }
    if opened.duplicate && opened.text.is_none() {
        // A replay under another id.
        inner.inbox.note(&push.message_id);
        inner.acknowledge(&push.message_id, ClientStage::Delivered, None);
        opened.warnings.into_iter().for_each(|warning| inner.warn(warning));
        return;
    }
    let message = Message::of_push(inner, push, opened);
    if inner.inbox.offer(message.clone(), inner.loan_of(push)) != Offer::Stored {
        return;
    }
    inner.stats.count(|stats| stats.messages_in += 1);
    inner.emit(ClientEvent::Message(Arc::new(message)));
}

/// Takes a test message of this session's own `ping_mesh`; `false` if it is none.
pub(crate) fn take_ping(inner: &Inner, push: &Push, opened: &OpenedPush) -> bool {
    if push.subtype.as_deref() != Some("ping") || push.sender_pubkey != inner.session_public().to_string() {
        return false;
    }
    inner.inbox.note(&push.message_id);
    inner.acknowledge(&push.message_id, ClientStage::Read, None);
    let waiting = lock(&inner.pings).remove(&push.message_id);
    if let (Some(waiting), true) = (waiting, opened.text.is_some()) {
        let _ = waiting.send(Instant::now());
    }
    true
}
