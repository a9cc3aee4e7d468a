//! Creating a mesh, inviting and joining: the client's flows plus this machine's configuration.

use super::session::{builder, connect, key_store};
use crate::config::{MeshEntry, default_broker, env};
use crate::{CliError, Config, text};
use claudemesh_client::flows::{self, CreateOptions, InviteOptions};
use claudemesh_client::{Identity, MeshClient};
use claudemesh_crypto::InviteSecret;
use claudemesh_crypto::group::HistoryPolicy;
use claudemesh_proto::model::{Role, Timestamp};
use serde::Serialize;
use std::time::Duration;

/// How often, and after which pause, the first connection looks whether it has the group keys.
const KEY_TRIES: u32 = 60;
const KEY_PAUSE: Duration = Duration::from_millis(50);

/// A mesh that this machine is in, as `create` and `join` report it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Enrolled {
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) mesh_id: String,
    pub(crate) member_id: String,
    pub(crate) pubkey: String,
    pub(crate) broker_url: String,
    /// Something that a person should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remark: Option<String>,
}

impl Enrolled {
    /// A mesh of the configuration.
    pub(crate) fn of(entry: &MeshEntry) -> Self {
        Self {
            slug: entry.slug.clone(),
            name: entry.name.clone(),
            mesh_id: entry.mesh_id.clone(),
            member_id: entry.member_id.clone(),
            pubkey: entry.pubkey.clone(),
            broker_url: entry.broker_url.clone(),
            remark: None,
        }
    }
}

/// What an invite allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) role: Role,
    pub(crate) uses: u32,
    pub(crate) expires: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            role: Role::Member,
            uses: 10,
            expires: Duration::from_secs(7 * 86_400),
        }
    }
}

/// An invite, as `invite` reports it. The link is a secret: it is shown to who asked for it only.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Invitation {
    pub(crate) mesh: String,
    pub(crate) url: String,
    pub(crate) code: String,
    /// The same invite for clients of the original; the owner's only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    pub(crate) role: Role,
    pub(crate) uses: u32,
    pub(crate) expires_at: Timestamp,
    /// Something that a person should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remark: Option<String>,
}

/// How a new member is called: as given, else by the environment, the configuration, or the login name.
pub(crate) fn person(config: &Config, given: Option<String>) -> String {
    given
        .or_else(|| config.display_name())
        .or_else(|| env("USER"))
        .or_else(|| env("USERNAME"))
        .unwrap_or_else(|| "somebody".to_owned())
}

/// Creates a mesh, stores it, and starts its group keys.
pub(crate) async fn create(
    config: &mut Config,
    broker: &str,
    mesh_name: &str,
    person: &str,
    history: HistoryPolicy,
) -> Result<Enrolled, CliError> {
    config.prepare()?;
    let options = CreateOptions {
        display_name: Some(person.to_owned()),
        history,
        ..CreateOptions::new(mesh_name)
    };
    let created = flows::create_mesh_with(broker, options).await?;
    // Before the mesh is stored: whichever command connects first starts the group keys, and must know.
    if history != HistoryPolicy::All {
        created.remember(key_store(config))?;
    }
    settle(config, created.identity, None, Vec::new()).await
}

/// Joins a mesh, stores it, and fetches its group keys.
pub(crate) async fn join(config: &mut Config, invite: &str, person: &str) -> Result<Enrolled, CliError> {
    // Before the invite is used: a key that cannot be stored would be lost with it.
    config.prepare()?;
    let joined = flows::join(invite, person, Some(&default_broker())).await?;
    settle(config, joined.identity, joined.secret, joined.warnings).await
}

/// Stores a new membership and connects once, so that this device is in the group before the first message.
async fn settle(
    config: &mut Config,
    identity: Identity,
    secret: Option<InviteSecret>,
    mut remarks: Vec<String>,
) -> Result<Enrolled, CliError> {
    let slug = config.add(&identity, text::now().to_string())?;
    let entry = config.mesh(Some(&slug))?.clone();
    let mut first = builder(config, config.identity(&entry)?).observer(true);
    if let Some(secret) = secret {
        first = first.invite_secret(secret);
    }
    match connect(first).await {
        Ok(client) => {
            if !keyed(&client).await {
                remarks.push("Group messages can be read when a member who may admit you is online.".to_owned());
            }
            client.close().await;
        }
        Err(error) => remarks.push(format!("The first connection failed: {}", error.message())),
    }
    let remark = (!remarks.is_empty()).then(|| remarks.join(" "));
    Ok(Enrolled {
        remark,
        ..Enrolled::of(&entry)
    })
}

/// Waits a moment for the group keys.
pub(crate) async fn keyed(client: &MeshClient) -> bool {
    for _ in 0..KEY_TRIES {
        if client.secure().is_ready() {
            return true;
        }
        tokio::time::sleep(KEY_PAUSE).await;
    }
    false
}

/// Makes an invite link.
pub(crate) async fn invite(config: &Config, mesh: &MeshEntry, terms: &Terms) -> Result<Invitation, CliError> {
    let client = connect(builder(config, config.identity(mesh)?).observer(true)).await?;
    let options = InviteOptions {
        role: terms.role,
        max_uses: terms.uses,
        expires_in: terms.expires,
        preset: None,
    };
    let created = flows::create_invite(&client, options).await;
    client.close().await;
    let created = created?;
    Ok(Invitation {
        mesh: mesh.slug.clone(),
        url: created.link.to_string(),
        code: created.code,
        token: created.token.map(|token| format!("ic://join/{}", token.as_str())),
        role: terms.role,
        uses: terms.uses,
        expires_at: created.expires_at,
        remark: created.warning,
    })
}
