//! Who this session is, and its connections to the joined meshes.

use super::Options;
use crate::Config;
use crate::config::{MeshEntry, env, git_access};
use claudemesh_client::secure::FileKeyStore;
use claudemesh_client::{ClientError, EventStream, Identity, MeshClient, MeshClientBuilder, Meshes};
use claudemesh_proto::model::{Group, MessageMode};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the session tells about itself, the same in every mesh.
#[derive(Clone, Debug)]
pub(super) struct Who {
    /// Its name, unless a mesh has one of its own for it.
    pub(super) name: Option<String>,
    /// What it does (`reviewer`).
    pub(super) role: Option<String>,
    /// Its groups.
    pub(super) groups: Vec<Group>,
    /// How it wants to be told of messages; each mesh's profile decides if absent.
    pub(super) mode: Option<MessageMode>,
    session_id: String,
    pid: i64,
    cwd: Option<String>,
    hostname: Option<String>,
    channel: &'static str,
    model: Option<String>,
}

impl Who {
    /// From the configuration and the environment that the host gave this process.
    pub(super) fn new(config: &Config) -> Self {
        let in_claude_code = env("CLAUDECODE").is_some_and(|value| value == "1");
        Self {
            name: config.display_name(),
            role: setting(config, "role").or_else(|| env("CLAUDEMESH_ROLE")),
            groups: setting(config, "groups").unwrap_or_default(),
            mode: setting(config, "messageMode"),
            session_id: env("CLAUDE_CODE_SESSION_ID")
                .or_else(|| env("CLAUDEMESH_SESSION_ID"))
                .unwrap_or_else(own_session_id),
            pid: host_pid(),
            cwd: env("CLAUDE_PROJECT_DIR"),
            hostname: hostname(),
            channel: if in_claude_code { "claude-code" } else { "mcp" },
            model: env("CLAUDE_MODEL"),
        }
    }

    fn introduce(&self, identity: Identity, keys: Arc<FileKeyStore>) -> MeshClientBuilder {
        let builder = MeshClient::builder(identity)
            .key_store(keys)
            .session_id(&self.session_id)
            .pid(self.pid)
            .peer_type("ai")
            .channel(self.channel)
            .groups(self.groups.clone());
        let builder = option(builder, self.cwd.as_ref(), MeshClientBuilder::cwd);
        let builder = option(builder, self.hostname.as_ref(), MeshClientBuilder::hostname);
        option(builder, self.model.as_ref(), MeshClientBuilder::model)
    }
}

fn option(
    builder: MeshClientBuilder,
    value: Option<&String>,
    set: impl FnOnce(MeshClientBuilder, String) -> MeshClientBuilder,
) -> MeshClientBuilder {
    match value {
        Some(value) => set(builder, value.clone()),
        None => builder,
    }
}

/// A key of `config.json` that other parts of the program do not use. One of another shape counts as absent.
fn setting<T: DeserializeOwned>(config: &Config, key: &str) -> Option<T> {
    let value = config.file().other.get(key)?;
    let parsed = serde_json::from_value(value.clone());
    if let Err(error) = &parsed {
        tracing::warn!(key, %error, "a setting of config.json cannot be used");
    }
    parsed.ok()
}

fn own_session_id() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), since.as_millis())
}

/// The process that hooks report about: the host's session, which started this process.
fn host_pid() -> i64 {
    #[cfg(unix)]
    let pid = std::os::unix::process::parent_id();
    #[cfg(not(unix))]
    let pid = std::process::id();
    i64::from(pid)
}

fn hostname() -> Option<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel.or_else(|| env("HOSTNAME")).or_else(|| env("COMPUTERNAME"))?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The connections of a session.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// The meshes, each with a connection that is being made in the background.
    pub(super) meshes: Meshes,
    /// Meshes that cannot be used, and why.
    pub(super) broken: Vec<Broken>,
}

/// A mesh that cannot be used.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    /// Its slug.
    pub(super) slug: String,
    /// Why, and what to do.
    pub(super) reason: String,
}

impl Joined {
    /// Starts to connect to every mesh of the configuration (or the one of this slug), and hands each connection's events
    /// from the beginning on to `follow`.
    pub(super) fn start(
        config: &Config,
        options: &Options,
        who: &Who,
        mut follow: impl FnMut(MeshClient, EventStream),
    ) -> Self {
        let mut joined = Self::default();
        let keys = Arc::new(FileKeyStore::new(config.keys_dir()));
        for mesh in config
            .meshes()
            .iter()
            .filter(|mesh| options.mesh.as_ref().is_none_or(|slug| *slug == mesh.slug))
        {
            match connect(config, mesh, who, options, keys.clone()) {
                Ok(client) => {
                    let events = client.events();
                    follow(client.clone(), events);
                    joined.meshes.add(client);
                }
                Err(reason) => {
                    tracing::warn!(mesh = mesh.slug, reason, "a mesh cannot be used");
                    joined.broken.push(Broken {
                        slug: mesh.slug.clone(),
                        reason,
                    });
                }
            }
        }
        joined
    }
}

fn connect(
    config: &Config,
    mesh: &MeshEntry,
    who: &Who,
    options: &Options,
    keys: Arc<FileKeyStore>,
) -> Result<MeshClient, String> {
    let mut identity = config
        .identity(mesh)
        .map_err(|error| format!("{error} {}", error.next_step()))?;
    if identity.display_name.is_none() {
        identity.display_name = mesh
            .other
            .get("displayName")
            .and_then(|name| name.as_str())
            .map(str::to_owned);
    }
    let start = |identity| {
        let builder = who
            .introduce(identity, keys.clone())
            .transfer_directory(config.uploads_dir())
            .git_access(git_access());
        options.share.iter().fold(builder, MeshClientBuilder::share_directory)
    };
    let persistent = start(identity.clone()).persistent_pool(config.sessions_dir());
    match persistent.start() {
        // Better a session that forgets what it had when it is killed than none.
        Err(error @ ClientError::Journal { .. }) => {
            tracing::warn!(mesh = mesh.slug, %error, "messages that are not shown yet would not survive a kill");
            start(identity).start()
        }
        started => started,
    }
    .map_err(|error| error.to_string())
}
