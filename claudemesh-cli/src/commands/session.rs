//! A command's connection to one mesh.

use super::Context;
use crate::config::MeshEntry;
use crate::{CliError, Config};
use claudemesh_client::http::BrokerHttp;
use claudemesh_client::secure::FileKeyStore;
use claudemesh_client::{ClientError, ConnectionState, Identity, MeshClient, MeshClientBuilder, Resolved, Sent};
use claudemesh_crypto::random_id;
use claudemesh_proto::http::PatchMember;
use claudemesh_proto::model::{Member, MemberId, Priority};
use claudemesh_proto::ops::RemoveMember;
use claudemesh_proto::{ErrorCode, Operation};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How long a command waits for the broker to accept it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// After how many failed tries it gives up before that.
const MAX_ATTEMPTS: u32 = 2;
/// How often it looks for failed tries.
const LOOK: Duration = Duration::from_millis(25);

/// A connection to one mesh, and what the configuration says about the mesh.
pub(crate) struct Session {
    /// The mesh.
    pub(crate) mesh: MeshEntry,
    /// The connection.
    pub(crate) client: MeshClient,
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
        let client = connect(builder(&context.config, identity).observer(true)).await;
        Ok(Self {
            mesh: mesh.clone(),
            client: client.map_err(|error| reach(error, mesh))?,
        })
    }

    /// Connects to the mesh that the command is about as a session that others see and that takes mail.
    pub(crate) async fn join_in(context: &Context) -> Result<Self, CliError> {
        let mesh = context.config.mesh(context.mesh.as_deref())?;
        let identity = context.config.identity(mesh)?;
        let client = connect(builder(&context.config, identity)).await;
        Ok(Self {
            mesh: mesh.clone(),
            client: client.map_err(|error| reach(error, mesh))?,
        })
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

    /// Ends the connection when what is on its way has arrived.
    pub(crate) async fn close(&self) {
        self.client.close().await;
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
        .connect_timeout(CONNECT_TIMEOUT)
        .peer_type("human")
        .channel("terminal")
}

/// Connects, and gives up after the second failure: who waits at a terminal wants to know now.
pub(crate) async fn connect(builder: MeshClientBuilder) -> Result<MeshClient, ClientError> {
    let client = builder.start()?;
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
        Ok(()) => Ok(client),
        Err(error) => {
            client.close().await;
            Err(error)
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
