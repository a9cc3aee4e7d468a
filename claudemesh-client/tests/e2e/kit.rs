//! A broker with real sockets and a real store, members who joined with real invite links, and a socket that speaks the
//! protocol by hand.

use claudemesh_broker::Broker;
use claudemesh_broker::config::{Config, DatabaseUrl};
use claudemesh_broker::outbound::CloseReason;
use claudemesh_broker::server::{RunningBroker, StartError};
use claudemesh_client::flows::{CreatedInvite, InviteOptions, create_invite, create_mesh, join};
use claudemesh_client::http::BrokerHttp;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{
    DeliveryStage, KeyHex, Member, MeshId, MessageId, Peer, Priority, RecipientStatus,
};
use claudemesh_client::proto::ops::{ListMembers, ListPeers, MessageStatus, MessageStatusResult, SetStatus};
use claudemesh_client::{
    ClientError, ClientEvent, ConnectionState, EventStream, Identity, KeyStore as _, MemoryKeyStore, MeshClient,
    MeshClientBuilder, Message, Resolved,
};
use claudemesh_crypto::{
    HelloV2, InviteSecret, SecretKey, decode_base64, encode_base64, encode_base64_url, random_id, sign_hello_v1,
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};
use std::fs;
use std::future::Future;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long anything may take on a busy machine. Nothing is said about how long it does take.
pub const LIMIT: Duration = Duration::from_secs(20);
/// The same for what a job of the broker does that runs every 15 or 30 seconds.
pub const SWEEP_LIMIT: Duration = Duration::from_secs(75);

/// Waits for something that must happen.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

/// Asks again and again until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> T {
    eventually_within(LIMIT, what, ask).await
}

pub async fn eventually_within<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(Duration::from_millis(25)).await;
        }
    };
    timeout(limit, asking)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

pub fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The store that a test runs on.
#[derive(Default)]
pub struct Database {
    /// For the broker; a SQLite file in its data directory if absent.
    pub url: Option<String>,
    /// For reading everything that is in it.
    pub raw_url: Option<String>,
}

/// A broker with its data.
pub struct Lab {
    running: Option<RunningBroker>,
    pub config: Config,
    database: Database,
    directory: TempDir,
    texts: Mutex<Vec<String>>,
    secrets: Mutex<Vec<(String, Vec<u8>)>>,
    keyrings: Mutex<Vec<(MeshId, Arc<MemoryKeyStore>)>>,
    counter: AtomicU32,
}

impl Lab {
    pub async fn start(database: Database) -> Self {
        Self::start_with(database, |_| {}).await
    }

    pub async fn start_with(database: Database, change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::local(directory.path());
        config.database_url = database.url.as_deref().map(DatabaseUrl::from);
        change(&mut config);
        let running = Broker::start(config.clone()).await.unwrap();
        // The same address after a restart.
        config.port = running.addr.port();
        Self {
            running: Some(running),
            config,
            database,
            directory,
            texts: Mutex::default(),
            secrets: Mutex::default(),
            keyrings: Mutex::default(),
            counter: AtomicU32::new(0),
        }
    }

    /// A broker with ana, who owns a mesh, and ben and cara, who joined it; all connected.
    pub async fn with_three(database: Database) -> (Self, Three) {
        Self::with_three_and(database, |_| {}).await
    }

    pub async fn with_three_and(database: Database, change: impl FnOnce(&mut Config)) -> (Self, Three) {
        let lab = Self::start_with(database, change).await;
        let ana = lab.mesh("Lab", "ana").await;
        let ben = lab.join(&ana, "ben").await;
        let cara = lab.join(&ana, "cara").await;
        (lab, Three { ana, ben, cara })
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.config.port)
    }

    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The store behind the broker's back, and what to put before the names of its tables. The broker must not run.
    pub async fn store(&self) -> (sqlx::AnyConnection, &'static str) {
        assert!(self.running.is_none(), "the broker runs");
        sqlx::any::install_default_drivers();
        let (url, schema) = match &self.database.raw_url {
            Some(url) => (url.clone(), "mesh."),
            None => (
                format!("sqlite:{}", self.data_dir().join("claudemesh.db").display()),
                "",
            ),
        };
        (sqlx::AnyConnection::connect(&url).await.unwrap(), schema)
    }

    pub fn http(&self) -> BrokerHttp {
        BrokerHttp::new(&self.url()).unwrap()
    }

    pub async fn stop(&mut self) {
        self.running.take().expect("it runs").shutdown().await;
    }

    pub async fn start_again(&mut self) {
        assert!(self.running.is_none());
        let config = self.config.clone();
        let running = eventually("the start of the broker", || async {
            match Broker::start(config.clone()).await {
                Ok(running) => Some(running),
                Err(StartError::PortInUse(_)) => None,
                Err(error) => panic!("{error}"),
            }
        });
        self.running = Some(running.await);
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Ends the connections of a member as a broken network would: its clients come back by themselves.
    pub fn cut(&self, seat: &Seat) {
        let broker = &self.running.as_ref().expect("it runs").broker;
        for mesh in broker.hub.all() {
            for session in mesh.lock().sessions_of_key(&seat.key()) {
                session.outbound.close(CloseReason::SlowReader);
            }
        }
    }

    /// A text like no other, which must not be found where the broker keeps things.
    pub fn text(&self, words: &str) -> String {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let text = format!("{words} #{number} {}", random_id());
        self.texts.lock().unwrap().push(text.clone());
        text
    }

    /// Something else that the broker must not have.
    pub fn keep_secret(&self, name: &str, bytes: &[u8]) {
        self.secrets.lock().unwrap().push((name.to_owned(), bytes.to_vec()));
    }

    /// A mesh and its owner.
    pub async fn mesh(&self, mesh: &str, owner: &str) -> Seat {
        let created = create_mesh(&self.url(), mesh, Some(owner)).await.unwrap();
        let identity = created.identity;
        self.keep_secret("owner key", &*identity.owner.as_ref().unwrap().seed());
        self.seat(identity, None).await
    }

    /// Who joined with an invite of `inviter` and is connected.
    pub async fn join(&self, inviter: &MeshClient, name: &str) -> Seat {
        self.join_with(inviter, name, InviteOptions::default()).await
    }

    pub async fn join_with(&self, inviter: &MeshClient, name: &str, options: InviteOptions) -> Seat {
        let invite = create_invite(inviter, options).await.unwrap();
        self.use_link(&invite, name).await
    }

    pub async fn use_link(&self, invite: &CreatedInvite, name: &str) -> Seat {
        assert_eq!(invite.warning, None);
        let joined = join(&invite.link, name, None).await.unwrap();
        assert!(joined.warnings.is_empty(), "{:?}", joined.warnings);
        self.seat(joined.identity, joined.secret).await
    }

    /// Who joined with an invite of `inviter` and has not connected.
    pub async fn join_offline(&self, inviter: &MeshClient, name: &str) -> Person {
        let invite = create_invite(inviter, InviteOptions::default()).await.unwrap();
        let joined = join(&invite.link, name, None).await.unwrap();
        self.person(joined.identity, joined.secret)
    }

    pub fn person(&self, identity: Identity, secret: Option<InviteSecret>) -> Person {
        self.keep_secret("member key", &*identity.member.seed());
        if let Some(secret) = &secret {
            self.keep_secret("secret of an invite link", secret.as_bytes());
        }
        let keys = Arc::new(MemoryKeyStore::new());
        self.keyrings
            .lock()
            .unwrap()
            .push((identity.mesh_id.clone(), keys.clone()));
        Person {
            identity,
            keys,
            secret: Mutex::new(secret),
        }
    }

    async fn seat(&self, identity: Identity, secret: Option<InviteSecret>) -> Seat {
        let person = Arc::new(self.person(identity, secret));
        let client = person.connect().await;
        Seat { person, client }
    }

    /// Stops the broker and looks for secrets in everything that it leaves behind.
    pub async fn finish(mut self) {
        if self.running.is_some() {
            self.stop().await;
        }
        let mut places = Vec::new();
        collect_files(self.directory.path(), &mut places);
        assert!(!places.is_empty(), "the broker has left no file");
        if let Some(url) = &self.database.raw_url {
            places.extend(dump(url).await);
        }
        let mut needles: Vec<(String, Vec<u8>)> = Vec::new();
        for text in self.texts.lock().unwrap().iter() {
            needles.push((format!("text of the message {text:?}"), text.clone().into_bytes()));
        }
        needles.append(&mut self.secrets.lock().unwrap());
        for (mesh, keyring) in self.keyrings.lock().unwrap().iter() {
            needles.extend(group_secrets(mesh, keyring));
        }
        needles.sort();
        needles.dedup();
        for (name, secret) in &needles {
            for form in forms_of(secret) {
                for (place, content) in &places {
                    assert!(!contains(content, &form), "{place} holds the {name}");
                }
            }
        }
    }
}

/// The group keys and seal keys that a member has.
fn group_secrets(mesh: &MeshId, keyring: &MemoryKeyStore) -> Vec<(String, Vec<u8>)> {
    let Some(stored) = keyring.load(mesh.as_str()).unwrap() else {
        return Vec::new();
    };
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    let Some(snapshot) = stored["snapshot"].as_str() else {
        return Vec::new();
    };
    let snapshot: Value = serde_json::from_slice(&decode_base64(snapshot).unwrap()).unwrap();
    let secret = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let keys = snapshot["keys"].as_array().unwrap().iter();
    let keys = keys.map(|record| ("group key".to_owned(), secret(&record["key"])));
    let seal_keys = snapshot["sealSecrets"].as_array().unwrap().iter();
    let seal_keys = seal_keys.map(|key| ("seal key".to_owned(), secret(key)));
    let secrets: Vec<_> = keys.chain(seal_keys).collect();
    assert!(!secrets.is_empty(), "a keyring without a key");
    secrets
}

/// The bytes, and every text that they may be hidden in.
fn forms_of(secret: &[u8]) -> Vec<Vec<u8>> {
    let hexadecimal = hex::encode(secret);
    // Without the end, which depends on what follows.
    let whole = secret.len() / 3 * 3;
    vec![
        secret.to_vec(),
        hexadecimal.to_uppercase().into_bytes(),
        hexadecimal.into_bytes(),
        encode_base64(&secret[..whole]).into_bytes(),
        encode_base64_url(&secret[..whole]).into_bytes(),
    ]
}

fn contains(content: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else {
        return false;
    };
    let mut from = 0;
    while let Some(at) = content[from..].iter().position(|byte| byte == first) {
        let after = from + at + 1;
        if content[after..].starts_with(rest) {
            return true;
        }
        from = after;
    }
    false
}

fn collect_files(directory: &Path, places: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, places);
        } else {
            match fs::read(&path) {
                // SQLite's log goes with the last connection, which may be closed only now.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                read => places.push((path.display().to_string(), read.unwrap())),
            }
        }
    }
}

/// Every row of every table of the broker as text.
async fn dump(url: &str) -> Vec<(String, Vec<u8>)> {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(url).await.unwrap();
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'mesh'";
    let tables = sqlx::query(tables).fetch_all(&mut connection).await.unwrap();
    let mut places = Vec::new();
    for table in tables {
        let table: String = table.get(0);
        let query = format!("SELECT t::text FROM mesh.\"{table}\" t");
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let content: Vec<u8> = rows
            .iter()
            .flat_map(|row| row.get::<String, _>(0).into_bytes())
            .collect();
        places.push((format!("table {table}"), content));
    }
    assert!(places.len() > 10, "the tables were not found");
    places
}

/// The usual cast.
pub struct Three {
    pub ana: Seat,
    pub ben: Seat,
    pub cara: Seat,
}

/// A membership with its keyring.
pub struct Person {
    pub identity: Identity,
    keys: Arc<MemoryKeyStore>,
    secret: Mutex<Option<InviteSecret>>,
}

impl Person {
    /// A fresh process of this member.
    pub fn builder(&self) -> MeshClientBuilder {
        let builder = MeshClient::builder(self.identity.clone())
            .key_store(self.keys.clone())
            .connect_timeout(LIMIT)
            .request_timeout(LIMIT);
        match self.secret.lock().unwrap().take() {
            Some(secret) => builder.invite_secret(secret),
            None => builder,
        }
    }

    pub async fn connect(&self) -> MeshClient {
        self.builder().connect().await.unwrap()
    }

    pub async fn observe(&self) -> MeshClient {
        self.builder().observer(true).connect().await.unwrap()
    }

    /// The keyring that all its processes share.
    pub fn keys(&self) -> Arc<MemoryKeyStore> {
        self.keys.clone()
    }

    pub fn key(&self) -> KeyHex {
        self.identity.key_hex()
    }

    /// This member, as a message to it is addressed.
    pub fn address(&self) -> Resolved {
        Resolved::Direct {
            key: self.identity.public(),
            session: None,
            name: self.identity.display_name.clone().unwrap_or_default(),
        }
    }
}

/// A person at a client.
pub struct Seat {
    pub person: Arc<Person>,
    pub client: MeshClient,
}

impl Deref for Seat {
    type Target = MeshClient;

    fn deref(&self) -> &MeshClient {
        &self.client
    }
}

impl Seat {
    /// Ends the process and starts another.
    pub async fn restart(&mut self) {
        self.client.close().await;
        self.client = self.person.connect().await;
    }

    pub fn key(&self) -> KeyHex {
        self.person.key()
    }
}

/// The next message.
pub async fn recv(client: &MeshClient) -> Message {
    within("a message", client.recv())
        .await
        .expect("the client is not closed")
}

/// The text of the next message.
pub async fn recv_text(client: &MeshClient) -> String {
    let message = recv(client).await;
    message
        .text
        .clone()
        .unwrap_or_else(|| panic!("it can be read: {:?}", *message))
}

pub async fn recv_texts(client: &MeshClient, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(recv_text(client).await);
    }
    texts
}

/// Makes sure that `to` gets nothing that `from` has sent so far: sends an urgent message, which must be the next to come.
pub async fn expect_nothing(lab: &Lab, from: &MeshClient, to: &Seat) {
    let fence = lab.text("fence");
    from.send_to(&to.person.address(), &fence, Priority::Now).await.unwrap();
    assert_eq!(recv_text(to).await, fence);
    assert_eq!(to.waiting(), 0);
}

pub fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (ErrorCode, Option<String>) {
    match result {
        Err(ClientError::Refused(frame)) => (frame.code, frame.field),
        Err(error) => (error.code(), None),
        Ok(value) => panic!("it is refused: {value:?}"),
    }
}

pub fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ErrorCode {
    refusal(result).0
}

pub async fn status_of(client: &MeshClient, id: &MessageId) -> MessageStatusResult {
    client.request(MessageStatus { message_id: id.clone() }).await.unwrap()
}

/// The line of one recipient.
pub async fn line_of(client: &MeshClient, id: &MessageId, recipient: &KeyHex) -> RecipientStatus {
    let status = status_of(client, id).await;
    let line = status.recipients.iter().find(|line| line.pubkey == *recipient);
    line.unwrap_or_else(|| panic!("a recipient: {status:?}")).clone()
}

pub async fn wait_stage(client: &MeshClient, id: &MessageId, recipient: &KeyHex, stage: DeliveryStage) {
    eventually(stage.as_str(), || async {
        (line_of(client, id, recipient).await.stage == Some(stage)).then_some(())
    })
    .await;
}

/// All receipts of a message, until no further one can come.
pub async fn all_receipts(client: &MeshClient, id: &MessageId) -> Vec<(KeyHex, DeliveryStage, Option<String>)> {
    let mut stream = client.receipts(id.clone());
    let mut receipts = Vec::new();
    let collecting = async {
        while let Some(receipt) = stream.next().await {
            receipts.push((receipt.recipient, receipt.stage, receipt.adapter.or(receipt.reason)));
        }
    };
    timeout(SWEEP_LIMIT, collecting)
        .await
        .expect("the last receipt comes in time");
    receipts
}

pub async fn set_status(client: &MeshClient, status: claudemesh_client::proto::model::PeerStatus) {
    client.request(SetStatus { status }).await.unwrap();
}

pub async fn peers(client: &MeshClient) -> Vec<Peer> {
    client.request(ListPeers {}).await.unwrap().peers
}

pub async fn peer_names(client: &MeshClient) -> Vec<String> {
    let mut names: Vec<_> = peers(client).await.into_iter().map(|peer| peer.display_name).collect();
    names.sort();
    names
}

pub async fn members(client: &MeshClient) -> Vec<Member> {
    client.request(ListMembers {}).await.unwrap().members
}

pub async fn member(client: &MeshClient, key: &KeyHex) -> Member {
    let members = members(client).await;
    members
        .into_iter()
        .find(|member| member.pubkey == *key)
        .expect("a member")
}

/// Waits until the client is at its end, and says why.
pub async fn closed(client: &MeshClient) -> Option<ClientError> {
    eventually("the end of the client", || async {
        match client.state() {
            ConnectionState::Closed { error } => Some(error),
            _ => None,
        }
    })
    .await
}

/// The next event that `pick` takes.
pub async fn event<T>(events: &mut EventStream, what: &str, mut pick: impl FnMut(ClientEvent) -> Option<T>) -> T {
    let looking = async {
        loop {
            let event = events.next().await.expect("the client is not closed");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    };
    within(what, looking).await
}

/// The protocol by hand.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(lab: &Lab) -> Self {
        Self(tokio_tungstenite::connect_async(lab.url()).await.unwrap().0)
    }

    /// An original client: `hello` at once.
    pub async fn v1(lab: &Lab, person: &Person, session: Option<&SecretKey>) -> (Self, Value) {
        let mut socket = Self::open(lab).await;
        // Two proofs of one member in one millisecond would be the same proof.
        sleep(Duration::from_millis(2)).await;
        let identity = &person.identity;
        let timestamp = now_ms();
        let signature = sign_hello_v1(
            &identity.member,
            identity.mesh_id.as_str(),
            identity.member_id.as_str(),
            timestamp,
        );
        let mut hello = json!({
            "type": "hello",
            "meshId": identity.mesh_id,
            "memberId": identity.member_id,
            "pubkey": person.key(),
            "displayName": identity.display_name,
            "sessionId": "4242-1776211200000",
            "pid": 4242,
            "cwd": "/home/someone/project",
            "hostname": "laptop",
            "peerType": "ai",
            "channel": "claude-code",
            "timestamp": timestamp,
            "signature": signature.to_string(),
        });
        if let Some(session) = session {
            hello["sessionPubkey"] = json!(session.public().to_string());
        }
        socket.send(&hello).await;
        let ack = socket.next().await;
        assert_eq!(ack["type"], "hello_ack", "{ack}");
        (socket, ack)
    }

    /// A client of version 2 that acknowledges nothing by itself.
    pub async fn v2(lab: &Lab, person: &Person, session: &SecretKey) -> Self {
        Self::v2_with(lab, person, session, &["ack", "receipts"]).await
    }

    /// The same with these capabilities.
    pub async fn v2_with(lab: &Lab, person: &Person, session: &SecretKey, caps: &[&str]) -> Self {
        let mut socket = Self::open(lab).await;
        socket.send(&json!({ "type": "hello_challenge" })).await;
        let nonce = socket.next_of("challenge").await["nonce"].as_str().unwrap().to_owned();
        let identity = &person.identity;
        let origin = format!("ws://127.0.0.1:{}", lab.config.port);
        let timestamp_ms = now_ms();
        let text = HelloV2 {
            origin: &origin,
            nonce: &nonce,
            mesh_id: identity.mesh_id.as_str(),
            member_id: identity.member_id.as_str(),
            pubkey: identity.public(),
            session_pubkey: session.public(),
            timestamp_ms,
        };
        let proof = text.sign(&identity.member, session).unwrap();
        let hello = json!({
            "type": "hello",
            "protocol": 2,
            "caps": caps,
            "meshId": identity.mesh_id,
            "memberId": identity.member_id,
            "pubkey": person.key(),
            "sessionPubkey": session.public().to_string(),
            "sessionId": "by-hand",
            "pid": 1,
            "cwd": "/work",
            "nonce": nonce,
            "origin": origin,
            "timestamp": timestamp_ms,
            "signature": proof.signature.to_string(),
            "sessionSignature": proof.session_signature.to_string(),
        });
        socket.send(&hello).await;
        let ack = socket.next().await;
        assert_eq!(ack["type"], "hello_ack", "{ack}");
        socket
    }

    pub async fn send(&mut self, frame: &Value) {
        self.0.send(Frame::text(frame.to_string())).await.unwrap();
    }

    pub async fn next(&mut self) -> Value {
        let reading = async {
            loop {
                match self.0.next().await.expect("the socket is open").unwrap() {
                    Frame::Text(text) => return serde_json::from_str(&text).unwrap(),
                    Frame::Close(frame) => panic!("the socket was closed: {frame:?}"),
                    _ => {}
                }
            }
        };
        within("a frame", reading).await
    }

    /// The next frame of this type; others are passed over.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// The next message of a peer; events are passed over.
    pub async fn next_message(&mut self) -> Value {
        loop {
            let push = self.next_of("push").await;
            if push["event"].is_null() {
                return push;
            }
        }
    }

    /// Sends a request, and gives its reply and what came before it.
    pub async fn ask(&mut self, mut request: Value) -> (Value, Vec<Value>) {
        let id = random_id();
        request["_reqId"] = json!(id);
        self.send(&request).await;
        let mut before = Vec::new();
        loop {
            let frame = self.next().await;
            if frame["_reqId"] == id.as_str() {
                return (frame, before);
            }
            before.push(frame);
        }
    }

    /// Everything but events of the mesh that has come so far.
    pub async fn drained(&mut self) -> Vec<Value> {
        let (_, before) = self.ask(json!({ "type": "list_peers" })).await;
        before.into_iter().filter(|frame| frame["event"].is_null()).collect()
    }

    pub async fn close(mut self) {
        let _gone = self.0.close(None).await;
    }
}
