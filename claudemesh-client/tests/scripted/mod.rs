//! A broker that does what a test tells it to.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use claudemesh_client::{Identity, MeshClient, MeshClientBuilder};
use claudemesh_crypto::{HelloV2, HelloV2Proof, PublicKey, SecretKey, seal_direct, verify_hello_v1};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub const LIMIT: Duration = Duration::from_secs(10);
const NONCE: &str = "bm9uY2U";
const TIME: &str = "2026-01-01T00:00:00.000Z";

pub struct Broker {
    listener: TcpListener,
    pub owner: SecretKey,
    pub member: SecretKey,
}

impl Broker {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            listener,
            owner: SecretKey::generate(),
            member: SecretKey::generate(),
        }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.listener.local_addr().unwrap())
    }

    pub fn identity(&self) -> Identity {
        Identity {
            mesh_id: "mesh1".into(),
            member_id: "member1".into(),
            slug: "crew".to_owned(),
            name: "Crew".to_owned(),
            member: self.member.clone(),
            broker_url: self.url(),
            owner_pubkey: Some(self.owner.public()),
            owner: None,
            display_name: Some("ana".to_owned()),
        }
    }

    pub fn builder(&self) -> MeshClientBuilder {
        MeshClient::builder(self.identity()).request_timeout(Duration::from_secs(5))
    }

    pub async fn socket(&self) -> Socket {
        let (stream, _) = timeout(LIMIT, self.listener.accept()).await.unwrap().unwrap();
        Socket {
            socket: tokio_tungstenite::accept_async(stream).await.unwrap(),
            owner: self.owner.public(),
        }
    }

    /// Accepts a connection of protocol 2 after checking its proofs.
    pub async fn accept(&self) -> Session {
        self.accept_with(json!({})).await
    }

    /// [`Broker::accept`] with further members in the acknowledgement.
    pub async fn accept_with(&self, more: Value) -> Session {
        let mut socket = self.socket().await;
        let hello = socket.hello().await;
        let origin = format!("ws://{}", self.listener.local_addr().unwrap());
        let text = |name: &str| hello[name].as_str().unwrap();
        assert_eq!(text("origin"), origin);
        #[allow(clippy::cast_possible_truncation)]
        let timestamp_ms = hello["timestamp"].as_f64().unwrap() as i64;
        HelloV2 {
            origin: &origin,
            nonce: NONCE,
            mesh_id: "mesh1",
            member_id: "member1",
            pubkey: self.member.public(),
            session_pubkey: text("sessionPubkey").parse().unwrap(),
            timestamp_ms,
        }
        .verify(
            &HelloV2Proof {
                signature: text("signature").parse().unwrap(),
                session_signature: text("sessionSignature").parse().unwrap(),
            },
            timestamp_ms,
        )
        .unwrap();
        let mut ack = json!({
            "type": "hello_ack", "presenceId": "p1", "memberDisplayName": "ana", "protocol": 2, "services": [],
        });
        ack.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        socket.send(ack).await;
        Session {
            socket,
            hello,
            acks: Vec::new(),
        }
    }

    /// Accepts a connection as an original broker does.
    pub async fn accept_v1(&self) -> Session {
        let mut socket = self.socket().await;
        assert_eq!(socket.frame().await.unwrap()["type"], "hello_challenge");
        socket
            .send(json!({ "type": "error", "code": "no_hello", "message": "must send hello first" }))
            .await;
        let hello = socket.frame().await.unwrap();
        assert_eq!(hello["type"], "hello");
        let text = |name: &str| hello[name].as_str().unwrap();
        #[allow(clippy::cast_possible_truncation)]
        let timestamp = hello["timestamp"].as_f64().unwrap() as i64;
        verify_hello_v1(
            "mesh1",
            "member1",
            text("pubkey"),
            timestamp,
            text("signature"),
            timestamp,
        )
        .unwrap();
        socket
            .send(json!({ "type": "hello_ack", "presenceId": "p1", "memberDisplayName": "ana" }))
            .await;
        Session {
            socket,
            hello,
            acks: Vec::new(),
        }
    }

    /// Refuses a connection.
    pub async fn refuse(&self, code: &str) {
        let mut socket = self.socket().await;
        socket.hello().await;
        socket
            .send(json!({ "type": "error", "code": code, "message": "no" }))
            .await;
    }

    /// Whether somebody connects within the time.
    pub async fn is_dialled(&self, within: Duration) -> bool {
        timeout(within, self.listener.accept()).await.is_ok()
    }
}

pub struct Socket {
    socket: WebSocketStream<TcpStream>,
    owner: PublicKey,
}

impl Socket {
    /// Answers the question for a challenge; gives the hello.
    pub async fn hello(&mut self) -> Value {
        assert_eq!(self.frame().await.unwrap()["type"], "hello_challenge");
        let now = claudemesh_proto::model::Timestamp::from_ms(now_ms());
        self.send(json!({ "type": "challenge", "nonce": NONCE, "protocol": 2, "serverTime": now }))
            .await;
        let hello = self.frame().await.unwrap();
        assert_eq!(hello["type"], "hello");
        hello
    }

    /// The next frame; `None` when the client closed.
    pub async fn frame(&mut self) -> Option<Value> {
        loop {
            match timeout(LIMIT, self.socket.next()).await.expect("a frame in time") {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }
}

/// An accepted connection. Requests of the client's own housekeeping are answered by themselves.
pub struct Session {
    pub socket: Socket,
    pub hello: Value,
    /// `(message id, stage)` of every acknowledgement so far.
    pub acks: Vec<(String, String)>,
}

impl Session {
    /// The next request of the program; `None` when the client closed.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            let frame = self.socket.frame().await?;
            if !self.housekeeping(&frame).await {
                return Some(frame);
            }
        }
    }

    /// The next request, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.next().await.expect("a request");
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    pub async fn send(&mut self, frame: Value) {
        self.socket.send(frame).await;
    }

    /// Replies to a request.
    pub async fn reply(&mut self, request: &Value, kind: &str, body: Value) {
        let mut frame = body;
        frame["type"] = kind.into();
        frame["_reqId"] = request["_reqId"].clone();
        self.send(frame).await;
    }

    /// Acknowledges a `send`.
    pub async fn accept_message(&mut self, send: &Value) {
        let id = &send["id"];
        self.send(json!({ "type": "ack", "id": id, "messageId": id, "queued": true, "recipients": 1 }))
            .await;
    }

    /// Pushes a direct message from `sender`.
    pub async fn push(&mut self, id: &str, sender: &SecretKey, text: &str) {
        let session: PublicKey = self.hello["sessionPubkey"].as_str().unwrap().parse().unwrap();
        let sealed = seal_direct(sender, &session, text.as_bytes()).unwrap();
        let key = sender.public().to_string();
        self.send(json!({
            "type": "push", "messageId": id, "meshId": "mesh1", "senderPubkey": key, "senderMember": key,
            "senderName": "ben", "priority": "now", "nonce": sealed.nonce, "ciphertext": sealed.ciphertext,
            "createdAt": TIME, "target": { "kind": "direct", "spec": session.to_string() },
        }))
        .await;
    }

    /// Reads until this acknowledgement has come.
    pub async fn acknowledged(&mut self, id: &str, stage: &str) {
        let wanted = (id.to_owned(), stage.to_owned());
        while !self.acks.contains(&wanted) {
            let frame = self.socket.frame().await.expect("an acknowledgement");
            assert!(self.housekeeping(&frame).await, "{frame}");
        }
    }

    async fn housekeeping(&mut self, frame: &Value) -> bool {
        let (kind, body) = match frame["type"].as_str().unwrap() {
            "group_info" => (
                "group_info_result",
                json!({ "seals": [], "ownerPubkey": self.socket.owner.to_string() }),
            ),
            "group_log" => ("group_log_result", json!({ "entries": [], "seals": [], "more": false })),
            "group_status" => ("group_status_noted", json!({})),
            "key_request" => ("key_requested", json!({ "forwarded": 0 })),
            "set_stats" => ("stats_set", json!({ "stats": frame["stats"] })),
            "ack_messages" => {
                let acks = frame["acks"].as_array().unwrap();
                let pair = |ack: &Value| {
                    (
                        ack["messageId"].as_str().unwrap().to_owned(),
                        ack["stage"].as_str().unwrap().to_owned(),
                    )
                };
                self.acks.extend(acks.iter().map(pair));
                ("messages_acked", json!({ "acked": acks.len() }))
            }
            _ => return false,
        };
        self.reply(frame, kind, body).await;
        true
    }
}

pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(now.as_millis()).unwrap()
}
