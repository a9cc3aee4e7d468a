//! Settings of a client.

use crate::acks::AckQueue;
use crate::client::MeshClient;
use crate::connection::Demand;
use crate::files::SharedDirectories;
use crate::inbox::Inbox;
use crate::inner::Inner;
use crate::journal::{Journal, Restored, open_in_pool};
use crate::outbox::Outbox;
use crate::pending::{PendingTable, lock};
use crate::receipts::ReceiptBook;
use crate::resolve::Directory;
use crate::secure::{KeyStore, MemoryKeyStore, SecureChannel};
use crate::session::SessionMemory;
use crate::skills::GitAccess;
use crate::stats::SessionStats;
use crate::streams::Streams;
use crate::{ClientError, ConnectionState, Identity, Message};
use claudemesh_crypto::group::HistoryPolicy;
use claudemesh_crypto::{InviteSecret, SecretKey, random_id};
use claudemesh_proto::model::Group;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// Events that a slow reader of [`MeshClient::events`] may be behind.
const EVENT_CAPACITY: usize = 1024;

/// What a session tells about itself, and limits.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) display_name: Option<String>,
    pub(crate) session_id: String,
    pub(crate) pid: i64,
    pub(crate) cwd: String,
    pub(crate) hostname: Option<String>,
    pub(crate) peer_type: Option<String>,
    pub(crate) channel: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) groups: Vec<Group>,
    pub(crate) visible: Option<bool>,
    pub(crate) observer: bool,
    pub(crate) outbox_capacity: usize,
    pub(crate) inbox_capacity: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) protocol_v1_fallback: bool,
    pub(crate) shared: Vec<PathBuf>,
    pub(crate) transfer_directory: Option<PathBuf>,
    pub(crate) git_access: GitAccess,
}

/// Settings of a [`MeshClient`]; every one has a default. Ends with [`MeshClientBuilder::connect`] or
/// [`MeshClientBuilder::start`].
#[must_use = "nothing happens before connect() or start()"]
pub struct MeshClientBuilder {
    identity: Identity,
    options: Options,
    key_store: Arc<dyn KeyStore>,
    invite_secret: Option<InviteSecret>,
    history: Option<HistoryPolicy>,
    persistence: Option<Persistence>,
}

/// Where a client keeps what is under way.
enum Persistence {
    /// A directory of its own.
    Own(PathBuf),
    /// A directory that sessions share.
    Pool(PathBuf),
}

impl MeshClientBuilder {
    pub(crate) fn new(identity: Identity) -> Self {
        let cwd = std::env::current_dir()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default();
        let options = Options {
            display_name: identity.display_name.clone(),
            session_id: random_id(),
            pid: i64::from(std::process::id()),
            cwd,
            hostname: None,
            peer_type: None,
            channel: None,
            model: None,
            groups: Vec::new(),
            visible: None,
            observer: false,
            outbox_capacity: 1024,
            inbox_capacity: 1024,
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(15),
            protocol_v1_fallback: true,
            shared: Vec::new(),
            transfer_directory: None,
            git_access: GitAccess::default(),
        };
        Self {
            identity,
            options,
            key_store: Arc::new(MemoryKeyStore::default()),
            invite_secret: None,
            history: None,
            persistence: None,
        }
    }

    /// Name of this session (at most 128 characters); the identity's, else the member's if not set.
    pub fn display_name(mut self, name: impl Into<String>) -> Self {
        self.options.display_name = Some(name.into());
        self
    }

    /// Identifier that the host program gave the session; random if not set.
    pub fn session_id(mut self, id: impl Into<String>) -> Self {
        self.options.session_id = id.into();
        self
    }

    /// Process that hooks report about; this one if not set.
    pub fn pid(mut self, pid: i64) -> Self {
        self.options.pid = pid;
        self
    }

    /// Working directory that hooks report about; that of this process if not set.
    pub fn cwd(mut self, cwd: impl Into<String>) -> Self {
        self.options.cwd = cwd.into();
        self
    }

    /// Name of this machine, shown to peers.
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.options.hostname = Some(hostname.into());
        self
    }

    /// `ai`, `human`, `connector` or `bridge`.
    pub fn peer_type(mut self, peer_type: impl Into<String>) -> Self {
        self.options.peer_type = Some(peer_type.into());
        self
    }

    /// Where the session comes from, for example `claude-code`.
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.options.channel = Some(channel.into());
        self
    }

    /// The model behind the session.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.options.model = Some(model.into());
        self
    }

    /// Groups of the session (at most 64). Without any, the broker restores those of the member's last session.
    pub fn groups(mut self, groups: impl IntoIterator<Item = Group>) -> Self {
        self.options.groups = groups.into_iter().collect();
        self
    }

    /// Whether the session is listed; as the member's last session was, if not set.
    pub fn visible(mut self, visible: bool) -> Self {
        self.options.visible = Some(visible);
        self
    }

    /// A one-shot connection: it is not listed and never takes anybody's mail.
    pub fn observer(mut self, observer: bool) -> Self {
        self.options.observer = observer;
        self
    }

    /// Where the group keys are kept between runs; in memory if not set.
    pub fn key_store(mut self, store: Arc<dyn KeyStore>) -> Self {
        self.key_store = store;
        self
    }

    /// Keeps what is under way in this directory (created if needed, for this user only), so that nothing is lost and nothing
    /// comes twice when the process is killed:
    ///
    /// * a message that was queued is sent, once, also after a restart ([`MeshClient::restored_sends`]);
    /// * a message that was taken and not confirmed ([`Message::confirm`](crate::Message::confirm)) is given out again first after a
    ///   restart, and says so ([`Message::redelivered`](crate::Message::redelivered)); one that was confirmed never comes again;
    /// * acknowledgements reach the broker.
    ///
    /// At most as many messages as the inbox holds may be taken and not confirmed: then [`MeshClient::recv`] waits. What is kept
    /// is sealed under a key that comes from the member's secret key. One client at a time uses a directory.
    pub fn persistent(mut self, directory: impl Into<PathBuf>) -> Self {
        self.persistence = Some(Persistence::Own(directory.into()));
        self
    }

    /// [`MeshClientBuilder::persistent`] for programs of which several run at the same time: each takes a directory in this
    /// one that no running client uses, and with it takes over what an ended one left.
    pub fn persistent_pool(mut self, directory: impl Into<PathBuf>) -> Self {
        self.persistence = Some(Persistence::Pool(directory.into()));
        self
    }

    /// The secret of the invite link that the member joined with: gives the group keys without another member online.
    pub fn invite_secret(mut self, secret: InviteSecret) -> Self {
        self.invite_secret = Some(secret);
        self
    }

    /// What those who join the mesh may read of what was said before: counts at the owner of a mesh that was just created,
    /// whose first connection starts the group keys. Kept in the key store until then; everything, if not set.
    pub fn history(mut self, history: HistoryPolicy) -> Self {
        self.history = Some(history);
        self
    }

    /// Most messages that wait for the broker's acknowledgement (1024 if not set).
    pub fn outbox_capacity(mut self, messages: usize) -> Self {
        self.options.outbox_capacity = messages;
        self
    }

    /// Most received messages that wait for the program (1024 if not set). Further ones wait at the broker.
    pub fn inbox_capacity(mut self, messages: usize) -> Self {
        self.options.inbox_capacity = messages;
        self
    }

    /// How long a request waits for a connection and its reply (10 seconds if not set).
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.options.request_timeout = timeout;
        self
    }

    /// How long [`MeshClientBuilder::connect`] waits for the first connection (15 seconds if not set).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Whether to say hello in the original's way to a broker that knows no other (yes if not set). Such a hello can be
    /// replayed for a minute, and messages are delivered at most once.
    pub fn protocol_v1_fallback(mut self, fallback: bool) -> Self {
        self.options.protocol_v1_fallback = fallback;
        self
    }

    /// Lets members that the `file-read` grant is given to read this directory (see `read_peer_file`); may be called for
    /// several. Nothing is shared if it is not called. Hidden files, links, and files whose names say that they hold
    /// secrets stay private.
    pub fn share_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.options.shared.push(directory.into());
        self
    }

    /// Where notes about uploads are kept, so that one that was interrupted goes on in another process. Only this process
    /// can go on with them if not set.
    pub fn transfer_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.options.transfer_directory = Some(directory.into());
        self
    }

    /// From where `mesh_skill_deploy` may fetch git repositories; public hosts over HTTPS only if not set.
    pub fn git_access(mut self, access: GitAccess) -> Self {
        self.options.git_access = access;
        self
    }

    /// Connects, and waits until the broker has accepted this session.
    ///
    /// # Errors
    /// The broker's refusal, or [`ClientError::NotConnected`] with the last reason when none was reached in the connect
    /// timeout.
    pub async fn connect(self) -> Result<MeshClient, ClientError> {
        let limit = self.options.connect_timeout;
        let client = self.start()?;
        match client.wait_open(limit).await {
            Ok(()) => Ok(client),
            Err(error) => {
                client.close().await;
                Err(error)
            }
        }
    }

    /// Returns at once and connects in the background. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] when the broker's address is no `ws://` or `wss://` address or a directory to share
    /// cannot be opened, errors of the key store, and [`ClientError::Journal`] when the directory of a persistent client is in
    /// use, somebody else's, or cannot be written.
    pub fn start(self) -> Result<MeshClient, ClientError> {
        crate::connection::Address::parse(&self.identity.broker_url)?;
        let identity = Arc::new(self.identity);
        let (journal, restored) = match &self.persistence {
            Some(Persistence::Own(directory)) => Journal::open(directory, &identity).map(some)?,
            Some(Persistence::Pool(directory)) => open_in_pool(directory, &identity).map(some)?,
            None => (None, Restored::default()),
        };
        // What is not sent yet was sealed with the key of its session, which therefore goes on.
        let session_key = restored.session.clone().unwrap_or_else(SecretKey::generate);
        if let (Some(journal), None) = (&journal, &restored.session) {
            journal.begin(&session_key)?;
        }
        let secure = SecureChannel::new(identity.clone(), session_key.clone(), self.key_store);
        secure.restore()?;
        secure.resume_numbers(restored.numbers);
        if let Some(secret) = self.invite_secret {
            secure.join_with_invite_secret(&secret)?;
        }
        if let Some(history) = self.history {
            secure.create_with_history(history)?;
        }
        let options = self.options;
        let shared = match options.shared.as_slice() {
            [] => None,
            paths => Some(SharedDirectories::open(paths)?),
        };
        let inner = Inner {
            identity,
            session_key,
            secure,
            state: watch::Sender::new(ConnectionState::Connecting),
            hello: Mutex::default(),
            link: Mutex::default(),
            pending: PendingTable::default(),
            outbox: Outbox::new(options.outbox_capacity, journal.clone()),
            inbox: Inbox::new(options.inbox_capacity, journal.clone()),
            journal,
            restored: Mutex::default(),
            acks: AckQueue::default(),
            receipts: ReceiptBook::default(),
            session: SessionMemory::new(options.groups.clone(), options.visible),
            streams: Streams::default(),
            stats: SessionStats::default(),
            events: broadcast::Sender::new(EVENT_CAPACITY),
            pings: Mutex::default(),
            keyed: watch::Sender::new(0),
            directory: Directory::default(),
            demand: Demand::default(),
            shared,
            shutdown: CancellationToken::new(),
            options,
        };
        let inner = Arc::new(inner);
        for queued in restored.outgoing {
            lock(&inner.restored).push(inner.outbox.restore(queued));
        }
        let message = |taken| Message::restored(taken, Arc::downgrade(&inner));
        let unconfirmed = restored.unconfirmed.into_iter().map(message).collect();
        inner.inbox.restore(restored.known, unconfirmed);
        restored.acks.into_iter().for_each(|ack| inner.acks.push(ack));
        for warning in restored.warnings {
            inner.warn(warning);
        }
        Ok(MeshClient::spawn(inner))
    }
}

fn some((journal, restored): (Journal, Restored)) -> (Option<Arc<Journal>>, Restored) {
    (Some(Arc::new(journal)), restored)
}
