//! A command's connection to one mesh.

use super::Context;
use crate::config::{MeshEntry, git_access};
use crate::output::{one_line, warn};
use crate::{CliError, Config};
use claudemesh_client::http::BrokerHttp;
use claudemesh_client::secure::FileKeyStore;
use claudemesh_client::{
    ClientError, ClientEvent, ConnectionState, EventStream, Identity, MeshClient, MeshClientBuilder, Resolved, Sent,
};
use claudemesh_crypto::random_id;
use claudemesh_proto::http::PatchMember;
use claudemesh_proto::model::{Member, MemberId, Priority};
use claudemesh_proto::ops::RemoveMember;
use claudemesh_proto::{ErrorCode, Operation};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long a command waits for the broker to accept it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// After how many failed tries it gives up before that.
const MAX_ATTEMPTS: u32 = 2;
/// How long the end of a command waits for the look at the group keys, and for its warnings.
const CHECK_LIMIT: Duration = Duration::from_secs(2);
/// How often it looks for failed tries.
const LOOK: Duration = Duration::from_millis(25);

/// A connection to one mesh, and what the configuration says about the mesh.
pub(crate) struct Session {
    /// The mesh.
    pub(crate) mesh: MeshEntry,
    /// The connection.
    pub(crate) client: MeshClient,
    /// Shows warnings until the connection ends.
    telling: Mutex<Option<JoinHandle<()>>>,
}

impl Session {
    /// Connects to the mesh that the command is about, as an observer: nobody is told, and no mail is taken.
    pub(crate) async fn observe(context: &Context) -> Result<Self, CliError> {
        let mesh = context.config.mesh(context.mesh.as_deref())?;
        Self::observe_mesh(context, mesh).await
    }

    /// Connects to a mesh as an observer.
    pub(crate) async fn observe_mesh(context: &Context, mesh: &MeshEntry) -> Result<Self, CliError> {
        let identity = context.config.identity(mesh)?;
        Self::connect(mesh, builder(&context.config, identity).observer(true)).await
    }

    async fn connect(mesh: &MeshEntry, builder: MeshClientBuilder) -> Result<Self, CliError> {
        let (client, telling) = connect_telling(builder).await.map_err(|error| reach(error, mesh))?;
        Ok(Self {
            mesh: mesh.clone(),
            client,
            telling: Mutex::new(Some(telling)),
        })
    }

    /// Connects to the mesh that the command is about as a session that others see and that takes mail.
    pub(crate) async fn join_in(context: &Context) -> Result<Self, CliError> {
        let mesh = context.config.mesh(context.mesh.as_deref())?;
        let identity = context.config.identity(mesh)?;
        Self::connect(mesh, builder(&context.config, identity)).await
    }

    /// Sends a request and waits for its reply.
    pub(crate) async fn call<O: Operation>(&self, request: O) -> Result<O::Response, CliError> {
        Ok(self.client.request(request).await?)
    }

    /// Encrypts and sends a text; it may wait for its recipients for `ttl`.
    pub(crate) async fn send(
        &self,
        to: &str,
        text: &str,
        priority: Priority,
        ttl: Option<Duration>,
    ) -> Result<Sent, CliError> {
        let to = self.client.resolve(to).await?;
        let Some(ttl) = ttl else {
            return Ok(self.client.send_to(&to, text, priority).await?);
        };
        let (secure, id, bytes) = (self.client.secure(), random_id(), text.as_bytes());
        let mut envelope = match &to {
            Resolved::Direct { key, session, .. } => {
                secure.seal_direct(key, session.as_ref(), bytes, &id, priority, None)?
            }
            other => {
                let transport = self.client.transport();
                secure
                    .seal_multicast(&other.target_spec(), bytes, &id, priority, None, transport)
                    .await?
            }
        };
        envelope.ttl_ms = u64::try_from(ttl.as_millis()).ok();
        let ack = self.client.send_sealed(envelope).await?;
        Ok(Sent {
            message_id: ack.message_id,
            to: to.name().to_owned(),
            recipients: ack.recipients,
            refused: ack.refused,
            duplicate: ack.duplicate,
        })
    }

    /// Takes a member out of the group keys, then out of the mesh.
    pub(crate) async fn remove_member(&self, member: &Member) -> Result<(), CliError> {
        if let Ok(key) = member.pubkey.as_str().parse() {
            let removed = self.client.secure().remove_member(&key, self.client.transport()).await;
            if let Err(error) = removed {
                // The broker says who may; without the group keys, the next admin who connects changes them.
                tracing::debug!(%error, "the group keys were not changed");
            }
        }
        self.call(RemoveMember {
            member_id: member.id.clone(),
        })
        .await
        .map(drop)
    }

    /// Changes a member's row at the broker.
    pub(crate) async fn patch_member(&self, member: &MemberId, changes: &PatchMember) -> Result<Member, CliError> {
        let identity = self.client.identity();
        let http = BrokerHttp::new(&identity.broker_url)?;
        Ok(http
            .patch_member(&identity.member, &identity.mesh_id, member, changes)
            .await?
            .member)
    }

    /// Ends the connection when what is on its way has arrived. What the look at the group keys found is shown first.
    pub(crate) async fn close(&self) {
        self.client.wait_keys_checked(CHECK_LIMIT).await;
        self.client.close().await;
        let telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(telling) = telling {
            let _ = timeout(CHECK_LIMIT, telling).await;
        }
    }
}

/// The group keys of the configuration directory.
pub(crate) fn key_store(config: &Config) -> Arc<FileKeyStore> {
    Arc::new(FileKeyStore::new(config.keys_dir()))
}

/// How this program connects: as a person at a terminal, with the group keys of the configuration directory.
pub(crate) fn builder(config: &Config, identity: Identity) -> MeshClientBuilder {
    MeshClient::builder(identity)
        .key_store(key_store(config))
        .transfer_directory(config.uploads_dir())
        .git_access(git_access())
        .connect_timeout(CONNECT_TIMEOUT)
        .peer_type("human")
        .channel("terminal")
}

/// Connects, and gives up after the second failure: who waits at a terminal wants to know now. Warnings are shown.
pub(crate) async fn connect(builder: MeshClientBuilder) -> Result<MeshClient, ClientError> {
    connect_telling(builder).await.map(|(client, _)| client)
}

async fn connect_telling(builder: MeshClientBuilder) -> Result<(MeshClient, JoinHandle<()>), ClientError> {
    let client = builder.start()?;
    let telling = tokio::spawn(tell_warnings(client.events()));
    let failing = async {
        loop {
            if let ConnectionState::Reconnecting { attempt, error } = client.state()
                && attempt >= MAX_ATTEMPTS
            {
                return ClientError::NotConnected {
                    reason: error,
                    sent: false,
                };
            }
            sleep(LOOK).await;
        }
    };
    let result = tokio::select! {
        result = client.wait_open(CONNECT_TIMEOUT) => result,
        error = failing => Err(error),
    };
    match result {
        Ok(()) => Ok((client, telling)),
        Err(error) => {
            client.close().await;
            Err(error)
        }
    }
}

/// Shows what a person should know and no result says: a forked group log, a false receipt, a clock that is wrong.
async fn tell_warnings(mut events: EventStream) {
    let mut told = HashSet::new();
    while let Some(event) = events.next().await {
        if let ClientEvent::Warning(text) = event
            && told.insert(text.clone())
        {
            warn(one_line(&text));
        }
    }
}

fn reach(error: ClientError, mesh: &MeshEntry) -> CliError {
    let why = error.message().replace("not connected to the broker: ", "");
    match error.code() {
        ErrorCode::NotConnected | ErrorCode::Timeout | ErrorCode::Unavailable => CliError::new(
            error.code(),
            format!("Cannot reach the broker of {} at {}: {why}", mesh.slug, mesh.broker_url),
        )
        .next("Start it (`claudemesh up` for one on this machine), or ask its operator."),
        _ => error.into(),
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let failed = Self::new(error.code(), error.message());
        match error.suggestions() {
            [] => failed,
            names => failed.next(format!("Did you mean: {}?", names.join(", "))),
        }
    }
}
