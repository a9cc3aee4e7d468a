//! A broker in this process, people with configuration directories of their own, and the real `claudemesh mcp` as a child.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod raw;

use claudemesh_broker::Broker;
use claudemesh_broker::config::Config as BrokerConfig;
use claudemesh_broker::server::RunningBroker;
use claudemesh_cli::Config;
use claudemesh_client::flows::{InviteOptions, create_invite, create_mesh, join};
use claudemesh_client::secure::FileKeyStore;
use claudemesh_client::{Identity, MeshClient};
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, CustomNotification, Implementation,
    ProgressNotificationParam, ProtocolVersion,
};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::transport::TokioChildProcess;
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A broker that can be stopped and started again on the same port.
pub struct Hub {
    data: TempDir,
    port: u16,
    running: Option<RunningBroker>,
}

impl Hub {
    pub async fn start() -> Self {
        let mut hub = Self {
            data: tempfile::tempdir().unwrap(),
            port: 0,
            running: None,
        };
        hub.up().await;
        hub
    }

    pub async fn up(&mut self) {
        let mut config = BrokerConfig::local(self.data.path());
        config.port = self.port;
        let broker = Broker::start(config).await.unwrap();
        self.port = broker.addr.port();
        self.running = Some(broker);
    }

    pub async fn down(&mut self) {
        self.running.take().unwrap().shutdown().await;
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.port)
    }
}

/// Somebody with a configuration directory.
pub struct Person {
    pub name: String,
    home: TempDir,
    variables: Vec<(String, String)>,
    words: Vec<String>,
}

impl Person {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            home: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
            words: Vec::new(),
        }
    }

    pub fn dir(&self) -> PathBuf {
        self.home.path().join("config")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A variable in the environment of the server.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An argument of `claudemesh mcp`.
    pub fn with_word(mut self, word: &str) -> Self {
        self.words.push(word.to_owned());
        self
    }

    /// Sets a key of `config.json`.
    pub fn configure(&self, key: &str, value: Value) {
        let path = self.dir().join("config.json");
        let mut file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        file[key] = value;
        std::fs::write(path, file.to_string()).unwrap();
    }

    pub fn remember(&self, identity: &Identity) -> String {
        let mut config = Config::open_at(self.dir()).unwrap();
        let slug = config.add(identity, "2026-01-01T00:00:00.000Z".to_owned()).unwrap();
        config.set_display_name(&self.name).unwrap();
        slug
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claudemesh"));
        command
            .arg("mcp")
            .args(&self.words)
            .env_clear()
            .env("HOME", self.home.path())
            .env("CLAUDEMESH_CONFIG_DIR", self.dir());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Ok(filter) = std::env::var("CLAUDEMESH_DEBUG") {
            command.env("CLAUDEMESH_DEBUG", filter);
        }
        command
    }

    /// Runs another command of the program to its end, and returns what it printed.
    pub async fn run(&self, words: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claudemesh"));
        command
            .args(words)
            .env_clear()
            .env("HOME", self.home.path())
            .env("CLAUDEMESH_CONFIG_DIR", self.dir())
            .stdin(std::process::Stdio::null());
        let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Starts the server with a host that knows nothing of channels.
    pub async fn host(&self) -> Host {
        Host::start(self, false, "test-host").await
    }

    /// Starts the server with a host that calls itself by this name.
    pub async fn host_named(&self, name: &'static str) -> Host {
        Host::start(self, false, name).await
    }

    /// Starts the server with a host that announces channels.
    pub async fn host_with_channels(&self) -> Host {
        Host::start(self, true, "test-host").await
    }
}

fn keys(person: &Person) -> Arc<FileKeyStore> {
    Arc::new(FileKeyStore::new(person.dir().join("keys")))
}

/// Lets the first create a mesh and the others join it. Returns its slug.
pub async fn found(hub: &Hub, mesh: &str, people: &[&Person]) -> String {
    let owner = people[0];
    let created = create_mesh(&hub.url(), mesh, Some(&owner.name)).await.unwrap();
    let slug = owner.remember(&created.identity);
    let client = MeshClient::builder(created.identity)
        .key_store(keys(owner))
        .observer(true)
        .connect()
        .await
        .unwrap();
    let invite = create_invite(&client, InviteOptions::default()).await.unwrap();
    for person in &people[1..] {
        let joined = join(&invite.link, &person.name, None).await.unwrap();
        person.remember(&joined.identity);
        let mut builder = MeshClient::builder(joined.identity)
            .key_store(keys(person))
            .observer(true);
        if let Some(secret) = joined.secret {
            builder = builder.invite_secret(secret);
        }
        builder.connect().await.unwrap().close().await;
    }
    client.close().await;
    slug
}

/// A broker with a mesh of Ana and Ben.
pub async fn ana_and_ben() -> (Hub, Person, Person) {
    let (ana, ben) = (Person::new("ana"), Person::new("ben"));
    let hub = Hub::start().await;
    found(&hub, "Team", &[&ana, &ben]).await;
    (hub, ana, ben)
}

/// A program that starts the server.
pub struct Host {
    pub client: RunningService<RoleClient, Ears>,
    pub heard: UnboundedReceiver<CustomNotification>,
    /// How far calls have come: done and total.
    pub progress: UnboundedReceiver<(f64, Option<f64>)>,
    /// Lists that have changed: `prompts`, `resources`.
    pub changed: UnboundedReceiver<&'static str>,
}

/// Hears notifications.
pub struct Ears {
    channels: bool,
    heard: UnboundedSender<CustomNotification>,
    progress: UnboundedSender<(f64, Option<f64>)>,
    changed: UnboundedSender<&'static str>,
    name: &'static str,
}

impl ClientHandler for Ears {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        if self.channels {
            capabilities.experimental = Some([("claude/channel".to_owned(), Map::new())].into_iter().collect());
        }
        ClientConfig::new(capabilities, Implementation::new(self.name, "1"))
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
    }

    async fn on_progress(&self, notice: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let _ = self.progress.send((notice.progress, notice.total));
    }

    async fn on_prompt_list_changed(&self, _: NotificationContext<RoleClient>) {
        let _ = self.changed.send("prompts");
    }

    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {
        let _ = self.changed.send("resources");
    }

    async fn on_custom_notification(&self, notification: CustomNotification, _: NotificationContext<RoleClient>) {
        let _ = self.heard.send(notification);
    }
}

impl Host {
    async fn start(person: &Person, channels: bool, name: &'static str) -> Self {
        let (sender, heard) = unbounded_channel();
        let (reports, progress) = unbounded_channel();
        let (changes, changed) = unbounded_channel();
        let transport = TokioChildProcess::new(person.command()).unwrap();
        let client = timeout(
            PATIENCE,
            Ears {
                channels,
                heard: sender,
                progress: reports,
                changed: changes,
                name,
            }
            .serve(transport),
        )
        .await
        .unwrap()
        .unwrap();
        let host = Self {
            client,
            heard,
            progress,
            changed,
        };
        // Without a mesh, or with the broker away, this fails: connected or not is not this function's business.
        let _ = host.call("list_peers", json!({})).await;
        host
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> CallToolResult {
        let Value::Object(arguments) = arguments else {
            panic!("arguments must be an object")
        };
        let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        timeout(PATIENCE, self.client.call_tool(request))
            .await
            .unwrap()
            .unwrap()
    }

    /// Calls a tool that succeeds, and returns its structured content.
    pub async fn get(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_eq!(result.is_error, Some(false), "{tool}: {result:?}");
        result.structured_content.unwrap()
    }

    /// Calls a tool that fails, and returns what it says.
    pub async fn fail(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        assert_eq!(result.is_error, Some(true), "{tool}: {result:?}");
        assert_eq!(result.structured_content, None, "hosts drop it");
        texts(&result).remove(0)
    }

    /// Sends a message to one peer and returns its id.
    pub async fn send(&self, to: &str, message: &str, priority: &str) -> String {
        let sent = self
            .get(
                "send_message",
                json!({ "to": to, "message": message, "priority": priority }),
            )
            .await;
        assert_eq!(sent["results"][0]["stage"], "accepted", "{sent}");
        sent["results"][0]["messageId"].as_str().unwrap().to_owned()
    }

    /// How far a message has come with its only recipient.
    pub async fn stage(&self, id: &str) -> (String, Value) {
        let status = self.get("message_status", json!({ "id": id })).await;
        let recipient = &status["recipients"][0];
        (
            recipient["stage"].as_str().unwrap().to_owned(),
            recipient["adapter"].clone(),
        )
    }

    /// Waits until a message has come so far. Returns the adapter.
    pub async fn until(&self, id: &str, stage: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (found, adapter) = self.stage(id).await;
            if found == stage {
                return adapter;
            }
            assert!(Instant::now() < deadline, "{id} is {found}, not {stage}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The next channel notification of this kind.
    pub async fn channel(&mut self, kind: &str) -> (String, Value) {
        let next = async {
            loop {
                let notification = self.heard.recv().await.unwrap();
                let params = notification.params.unwrap_or_default();
                if notification.method == "notifications/claude/channel" && params["meta"]["kind"] == kind {
                    return (params["content"].as_str().unwrap().to_owned(), params["meta"].clone());
                }
            }
        };
        timeout(PATIENCE, next)
            .await
            .unwrap_or_else(|_| panic!("no notification of kind {kind}"))
    }

    /// Channel notifications that are messages, or point to one, of those that came until now.
    pub fn messages_heard(&mut self) -> Vec<Value> {
        let heard = std::iter::from_fn(|| self.heard.try_recv().ok());
        heard
            .filter_map(|notification| notification.params)
            .filter(|params| !matches!(params["meta"]["kind"].as_str(), Some("system" | "state_change")))
            .collect()
    }

    /// Waits for a notice that both lists have changed.
    pub async fn lists_change(&mut self) {
        for list in ["prompts", "resources"] {
            let notice = async { while self.changed.recv().await.unwrap() != list {} };
            timeout(PATIENCE, notice)
                .await
                .unwrap_or_else(|_| panic!("no notice of {list}"));
        }
    }

    /// Forgets the notices that came, once none comes any more for a moment.
    pub async fn quiet(&mut self) {
        while timeout(Duration::from_millis(700), self.changed.recv()).await.is_ok() {}
    }

    pub async fn end(self) {
        let _ = timeout(PATIENCE, self.client.cancel()).await.unwrap();
    }
}

pub fn texts(result: &CallToolResult) -> Vec<String> {
    result
        .content
        .iter()
        .filter_map(|content| Some(content.as_text()?.text.clone()))
        .collect()
}

/// The inbox of a session, as a host has it: takes connections and keeps what each wrote.
pub struct Inbox {
    pushes: UnboundedReceiver<String>,
}

impl Inbox {
    pub fn listen(path: &Path) -> Self {
        use tokio::io::AsyncReadExt;
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let (sender, pushes) = unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Self { pushes }
    }

    /// The lines of the next push.
    pub async fn next(&mut self) -> Vec<Value> {
        let push = timeout(PATIENCE, self.pushes.recv()).await.expect("no push").unwrap();
        assert!(push.ends_with('\n'));
        push.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn is_silent(&mut self) -> bool {
        self.pushes.try_recv().is_err()
    }
}
