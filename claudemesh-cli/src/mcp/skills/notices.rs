//! Notices that the lists of prompts and resources have changed: after a change here or by a peer, and after a time without
//! connection, in which changes are not told.

use claudemesh_client::{ClientEvent, EventStream};
use rmcp::model::ServerNotification;
use rmcp::{Peer, RoleServer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// Several changes at once are one notice.
const EVERY: Duration = Duration::from_millis(200);
/// How long the host may take to read its pipe.
const LIMIT: Duration = Duration::from_secs(2);

/// Tells the host.
pub(crate) struct ListNotices {
    host: watch::Sender<Option<Peer<RoleServer>>>,
    changed: Notify,
    listed: AtomicBool,
}

impl ListNotices {
    /// Begins to tell; nothing goes out before the host is there.
    pub(crate) fn start() -> Arc<Self> {
        let notices = Arc::new(Self {
            host: watch::Sender::new(None),
            changed: Notify::new(),
            listed: AtomicBool::new(false),
        });
        tokio::spawn(notices.clone().tell());
        notices
    }

    /// The host has initialised this server.
    pub(crate) fn open(&self, host: Peer<RoleServer>) {
        self.host.send_replace(Some(host));
    }

    /// The host is about to be shown a list.
    pub(crate) fn listing(&self) {
        self.listed.store(true, Ordering::Release);
    }

    /// The lists may be others now. A host that has seen none needs no notice.
    pub(crate) fn changed(&self) {
        if self.listed.load(Ordering::Acquire) {
            self.changed.notify_one();
        }
    }

    /// Watches a mesh until its client is closed.
    pub(crate) fn follow(self: &Arc<Self>, mut events: EventStream) {
        let notices = self.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    ClientEvent::SkillChange(_) | ClientEvent::Lagged(_) => notices.changed(),
                    ClientEvent::Connection(state) if state.is_open() => notices.changed(),
                    _ => {}
                }
            }
        });
    }

    async fn tell(self: Arc<Self>) {
        let mut host = self.host.subscribe();
        loop {
            self.changed.notified().await;
            let found = host.wait_for(Option::is_some).await.map(|host| host.clone());
            let Ok(Some(host)) = found else { return };
            for notice in [
                ServerNotification::PromptListChangedNotification(Default::default()),
                ServerNotification::ResourceListChangedNotification(Default::default()),
            ] {
                if !matches!(timeout(LIMIT, host.send_notification(notice)).await, Ok(Ok(()))) {
                    tracing::debug!("the host was not told of a changed list");
                }
            }
            sleep(EVERY).await;
        }
    }
}
