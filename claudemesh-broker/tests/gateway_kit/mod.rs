//! A broker in this process with real sockets and a real store, and small clients to talk to it.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use claudemesh_broker::Broker;
use claudemesh_broker::config::Config;
use claudemesh_broker::server::RunningBroker;
use claudemesh_crypto::{
    BoxSecretKey, HelloV2, InviteRole, InviteV2, SecretKey, encode_box_key, new_invite_code, random_bytes, random_id,
    sign_hello_v1, sign_request,
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A member of the lab's mesh.
#[derive(Clone)]
pub struct Person {
    pub key: SecretKey,
    pub id: String,
}

impl Person {
    pub fn pubkey(&self) -> String {
        self.key.public().to_string()
    }
}

/// Something that listens.
pub trait Listening {
    fn addr(&self) -> SocketAddr;
}

impl Listening for RunningBroker {
    fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// A broker, in this process unless said otherwise, with one mesh.
pub struct Lab<B = RunningBroker> {
    pub running: B,
    pub directory: tempfile::TempDir,
    /// The owner's key, which signs invites.
    pub owner_key: SecretKey,
    /// The owner as a member.
    pub owner: Person,
    pub mesh: String,
}

impl Lab {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::local(directory.path());
        change(&mut config);
        let running = Broker::start(config).await.unwrap();
        Self::of(running, directory).await
    }
}

impl<B: Listening> Lab<B> {
    /// Makes the mesh on a broker that runs.
    pub async fn of(running: B, directory: tempfile::TempDir) -> Self {
        let (owner_key, member_key) = (SecretKey::generate(), SecretKey::generate());
        let body = json!({
            "name": "Lab Mesh",
            "owner_pubkey": owner_key.public().to_string(),
            "pubkey": member_key.public().to_string(),
            "display_name": "olivia",
        });
        let (status, created) = call(
            running.addr(),
            "POST",
            "/cli/mesh/create",
            Some(&owner_key),
            Some(&body),
        )
        .await;
        assert_eq!(status, 200, "{created}");
        let id = created["member_id"].as_str().unwrap().to_owned();
        let mesh = created["id"].as_str().unwrap().to_owned();
        Self {
            running,
            directory,
            owner_key,
            owner: Person { key: member_key, id },
            mesh,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.running.addr()
    }

    /// A request that `signer` signs; answers status and JSON.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        signer: Option<&SecretKey>,
        body: Option<Value>,
    ) -> (u16, Value) {
        call(self.addr(), method, path, signer, body.as_ref()).await
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/mesh/{}{rest}", self.mesh)
    }

    /// The body of an invite that `issuer` signs.
    pub fn invite(&self, issuer: &SecretKey, role: &str, max_uses: u32) -> Value {
        let invite = InviteV2 {
            mesh_id: self.mesh.clone(),
            invite_id: random_id(),
            expires_at: now_ms() / 1_000 + 3_600,
            role: if role == "admin" {
                InviteRole::Admin
            } else {
                InviteRole::Member
            },
            owner_pubkey: self.owner_key.public(),
        };
        let canonical = invite.canonical();
        json!({
            "invite_id": invite.invite_id,
            "code": new_invite_code(),
            "role": role,
            "expires_at": invite.expires_at,
            "max_uses": max_uses,
            "signature": issuer.sign(canonical.as_bytes()).to_string(),
            "canonical_v2": canonical,
            "issuer_pubkey": issuer.public().to_string(),
        })
    }

    /// Makes an invite and gives its code.
    pub async fn invited(&self, role: &str, max_uses: u32) -> String {
        let invite = self.invite(&self.owner_key, role, max_uses);
        let code = invite["code"].as_str().unwrap().to_owned();
        let (status, answer) = self
            .call("POST", &self.path("/invites"), Some(&self.owner.key), Some(invite))
            .await;
        assert_eq!(status, 200, "{answer}");
        code
    }

    pub async fn claim(&self, code: &str, key: &SecretKey, name: &str) -> (u16, Value) {
        let recipient = BoxSecretKey::from(random_bytes::<32>());
        let body = json!({
            "recipient_x25519_pubkey": encode_box_key(&recipient.public_key()),
            "peer_pubkey": key.public().to_string(),
            "display_name": name,
        });
        self.call("POST", &format!("/invites/{code}/claim"), None, Some(body))
            .await
    }

    /// Lets a new member in.
    pub async fn join(&self, name: &str, role: &str) -> Person {
        let code = self.invited(role, 1).await;
        let key = SecretKey::generate();
        let (status, claimed) = self.claim(&code, &key, name).await;
        assert_eq!(status, 200, "{claimed}");
        Person {
            key,
            id: claimed["member_id"].as_str().unwrap().to_owned(),
        }
    }

    pub async fn socket(&self) -> Socket {
        Socket::open(self.addr()).await
    }

    pub fn hello_v1(&self, person: &Person) -> Value {
        self.hello_v1_at(person, now_ms())
    }

    pub fn hello_v1_at(&self, person: &Person, timestamp: i64) -> Value {
        json!({
            "type": "hello",
            "meshId": self.mesh,
            "memberId": person.id,
            "pubkey": person.pubkey(),
            "sessionId": "s1",
            "pid": 4242,
            "cwd": "/work",
            "timestamp": timestamp,
            "signature": sign_hello_v1(&person.key, &self.mesh, &person.id, timestamp).to_string(),
        })
    }

    /// A hello of version 2 for this nonce and origin.
    pub fn hello_v2(&self, person: &Person, nonce: &str, origin: &str) -> Value {
        self.hello_v2_of(person, &SecretKey::generate(), nonce, origin)
    }

    /// A hello of version 2 with this session key.
    pub fn hello_v2_of(&self, person: &Person, session: &SecretKey, nonce: &str, origin: &str) -> Value {
        let timestamp_ms = now_ms();
        let text = HelloV2 {
            origin,
            nonce,
            mesh_id: &self.mesh,
            member_id: &person.id,
            pubkey: person.key.public(),
            session_pubkey: session.public(),
            timestamp_ms,
        };
        let proof = text.sign(&person.key, session).unwrap();
        json!({
            "type": "hello",
            "protocol": 2,
            "caps": ["ack", "receipts"],
            "meshId": self.mesh,
            "memberId": person.id,
            "pubkey": person.pubkey(),
            "sessionPubkey": session.public().to_string(),
            "sessionId": "s2",
            "pid": 1,
            "cwd": "/work",
            "nonce": nonce,
            "origin": origin,
            "timestamp": timestamp_ms,
            "signature": proof.signature.to_string(),
            "sessionSignature": proof.session_signature.to_string(),
        })
    }

    pub fn origin(&self) -> String {
        format!("ws://{}", self.addr())
    }

    /// A connected session of version 1.
    pub async fn connect_v1(&self, person: &Person) -> Socket {
        let mut socket = self.socket().await;
        // Two proofs of one member in one millisecond would be the same proof.
        tokio::time::sleep(Duration::from_millis(2)).await;
        socket.send(&self.hello_v1(person)).await;
        let ack = socket.next().await;
        assert_eq!(ack["type"], "hello_ack", "{ack}");
        socket
    }

    /// A connected session of version 2.
    pub async fn connect_v2(&self, person: &Person) -> Socket {
        self.connect_v2_of(person, &SecretKey::generate()).await
    }

    /// A connected session of version 2 with this session key.
    pub async fn connect_v2_of(&self, person: &Person, session: &SecretKey) -> Socket {
        let mut socket = self.socket().await;
        let nonce = socket.challenge().await;
        let hello = self.hello_v2_of(person, session, &nonce, &self.origin());
        socket.send(&hello).await;
        let ack = socket.next().await;
        assert_eq!(ack["type"], "hello_ack", "{ack}");
        socket
    }
}

/// What came instead of a frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed {
    pub code: u16,
    pub reason: String,
}

/// A WebSocket client.
pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn open(addr: SocketAddr) -> Self {
        Self(
            tokio_tungstenite::connect_async(format!("ws://{addr}/ws"))
                .await
                .unwrap()
                .0,
        )
    }

    pub async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next frame, or how the connection was closed.
    pub async fn try_next(&mut self) -> Result<Value, Closed> {
        let gone = || Closed {
            code: 1006,
            reason: String::new(),
        };
        loop {
            let message = timeout(Duration::from_secs(10), self.0.next())
                .await
                .expect("no frame in time");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    let (code, reason) = (frame.code.into(), frame.reason.to_string());
                    // Answers the close.
                    while let Some(Ok(_)) = self.0.next().await {}
                    return Err(Closed { code, reason });
                }
                Some(Ok(Message::Close(None)) | Err(_)) | None => return Err(gone()),
                Some(Ok(_)) => {}
            }
        }
    }

    pub async fn next(&mut self) -> Value {
        self.try_next().await.expect("the connection is open")
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

    /// Sends a request and gives the frame with its id.
    pub async fn ask(&mut self, mut request: Value) -> Value {
        let id = random_id();
        request["_reqId"] = json!(id);
        self.send(&request).await;
        loop {
            let frame = self.next().await;
            if frame["_reqId"] == id.as_str() {
                return frame;
            }
        }
    }

    pub async fn challenge(&mut self) -> String {
        self.send(&json!({ "type": "hello_challenge" })).await;
        let frame = self.next().await;
        assert_eq!(frame["type"], "challenge");
        assert_eq!(frame["protocol"], 2);
        frame["nonce"].as_str().unwrap().to_owned()
    }

    /// The error frame and the close that must follow.
    pub async fn refused(&mut self) -> (Value, Closed) {
        let error = self.next().await;
        assert_eq!(error["type"], "error", "{error}");
        (error, self.try_next().await.unwrap_err())
    }
}

/// An answer as it came.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Sends one HTTP request on a connection of its own.
pub async fn http(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A refused body may end the connection while it is still written.
    let _sent = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
        .await
        .expect("no answer in time");
    let text = String::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("no answer: {text}"))
        .parse()
        .unwrap();
    Answer {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// The Authorization header of a request.
pub fn authorization(signer: &SecretKey, method: &str, path: &str, body: &[u8]) -> String {
    format!(
        "authorization: {}\r\n",
        sign_request(signer, method, path, body, now_ms())
    )
}

pub async fn call(
    addr: SocketAddr,
    method: &str,
    path: &str,
    signer: Option<&SecretKey>,
    body: Option<&Value>,
) -> (u16, Value) {
    let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let headers = signer
        .map(|signer| authorization(signer, method, path, &bytes))
        .unwrap_or_default();
    let answer = http(addr, method, path, &headers, &bytes).await;
    let json = serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body));
    (answer.status, json)
}
