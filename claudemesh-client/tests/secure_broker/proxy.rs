//! A hostile broker for one member: a proxy on a real socket in front of a real broker, which does to the frames what a
//! test says. It has what a broker has (frames, the group log, who is a member) and no key of anybody.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use crate::kit::{Lab, Person, Seat, eventually, within};
use claudemesh_client::flows::create_mesh;
use claudemesh_client::proto::frame::GroupEpoch;
use claudemesh_client::proto::model::{EpochHead, HexHash};
use claudemesh_client::proto::ops::{GroupLog, LogRecord};
use claudemesh_client::{ClientEvent, MeshClient, Message};
use claudemesh_crypto::group::{EpochKeys, LogEntry, LogState, Seal};
use claudemesh_crypto::{PublicKey, SecretKey};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message as Frame;

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the member to the broker.
    Up,
    /// From the broker to the member.
    Down,
}

/// What passes instead of a frame.
pub type Rule = Box<dyn FnMut(Way, Value) -> Vec<(Way, Value)> + Send>;

#[derive(Default)]
struct Shared {
    rule: Mutex<Option<Rule>>,
    tape: Mutex<Vec<(Way, Value)>>,
    /// To the member's current connection.
    inject: Mutex<Option<mpsc::UnboundedSender<Value>>>,
}

pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// An honest one, until it is told otherwise.
    pub async fn before(lab: &Lab) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let (broker, kept) = (lab.url(), shared.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(pass_on(socket, broker.clone(), kept.clone()));
            }
        });
        Self { url, shared, accepting }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub fn rule(&self, rule: impl FnMut(Way, Value) -> Vec<(Way, Value)> + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Some(Box::new(rule));
    }

    /// Changes frames of a type that go to the member.
    pub fn edit(&self, kind: &'static str, mut edit: impl FnMut(&mut Value) + Send + 'static) {
        self.rule(move |way, mut frame| {
            if way == Way::Down && frame["type"] == kind {
                edit(&mut frame);
            }
            vec![(way, frame)]
        });
    }

    /// Keeps frames of a type from the member.
    pub fn withhold(&self, kind: &'static str) {
        self.rule(move |way, frame| match (way, frame["type"] == kind) {
            (Way::Down, true) => vec![],
            _ => vec![(way, frame)],
        });
    }

    pub fn be_honest(&self) {
        *self.shared.rule.lock().unwrap() = None;
    }

    /// Sends a frame of its own to the member.
    pub fn inject(&self, frame: Value) {
        let inject = self.shared.inject.lock().unwrap();
        inject.as_ref().expect("the member is connected").send(frame).unwrap();
    }

    /// Every frame of this type that came in this direction, as it came.
    pub fn seen(&self, way: Way, kind: &str) -> Vec<Value> {
        let tape = self.shared.tape.lock().unwrap();
        let wanted = tape.iter().filter(|(on, frame)| *on == way && frame["type"] == kind);
        wanted.map(|(_, frame)| frame.clone()).collect()
    }

    /// Messages of peers that the broker sent, as they came.
    pub fn pushes(&self) -> Vec<Value> {
        let pushes = self.seen(Way::Down, "push").into_iter();
        pushes.filter(|push| push["subtype"] != "system").collect()
    }

    /// Waits until so many messages of peers have come.
    pub async fn push_number(&self, number: usize) -> Value {
        eventually("a push", || async { self.pushes().get(number - 1).cloned() }).await
    }
}

async fn pass_on(socket: TcpStream, broker: String, shared: Arc<Shared>) {
    let Ok(member) = tokio_tungstenite::accept_async(socket).await else {
        return;
    };
    let Ok((broker, _)) = tokio_tungstenite::connect_async(&broker).await else {
        return;
    };
    let (mut to_member, mut from_member) = member.split();
    let (mut to_broker, mut from_broker) = broker.split();
    let (inject, mut injected) = mpsc::unbounded_channel();
    *shared.inject.lock().unwrap() = Some(inject);
    loop {
        let frames = tokio::select! {
            read = from_member.next() => match read {
                Some(Ok(Frame::Text(text))) => shared.judge(Way::Up, &text),
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => continue,
                _ => break,
            },
            read = from_broker.next() => match read {
                Some(Ok(Frame::Text(text))) => shared.judge(Way::Down, &text),
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => continue,
                _ => break,
            },
            Some(frame) = injected.recv() => vec![(Way::Down, frame)],
        };
        for (way, frame) in frames {
            let frame = Frame::text(frame.to_string());
            let sent = match way {
                Way::Up => to_broker.send(frame).await,
                Way::Down => to_member.send(frame).await,
            };
            if sent.is_err() {
                return;
            }
        }
    }
    let _ = tokio::join!(to_broker.close(), to_member.close());
}

impl Shared {
    fn judge(&self, way: Way, text: &str) -> Vec<(Way, Value)> {
        let frame: Value = serde_json::from_str(text).unwrap();
        self.tape.lock().unwrap().push((way, frame.clone()));
        match self.rule.lock().unwrap().as_mut() {
            Some(rule) => rule(way, frame),
            None => vec![(way, frame)],
        }
    }
}

/// A member that the hostile broker has to itself.
pub struct Victim {
    pub seat: Seat,
    pub proxy: Proxy,
    warnings: Arc<Mutex<Vec<String>>>,
}

impl Deref for Victim {
    type Target = MeshClient;

    fn deref(&self) -> &MeshClient {
        &self.seat.client
    }
}

impl Victim {
    /// Joins with an invite of `inviter`, and waits for the group keys.
    pub async fn join(lab: &Lab, inviter: &MeshClient, name: &str) -> Self {
        let person = lab.join_offline(inviter, name).await;
        Self::seat(lab, person).await
    }

    /// The owner of a new mesh.
    pub async fn found(lab: &Lab, name: &str) -> Self {
        let created = create_mesh(&lab.url(), "Lab", Some(name)).await.unwrap();
        let identity = created.identity;
        lab.keep_secret("owner key", &*identity.owner.as_ref().unwrap().seed());
        let person = lab.person(identity, None);
        Self::seat(lab, person).await
    }

    pub async fn seat(lab: &Lab, mut person: Person) -> Self {
        let proxy = Proxy::before(lab).await;
        person.identity.broker_url = proxy.url();
        let (client, warnings) = start(&person);
        let seat = Seat {
            person: Arc::new(person),
            client,
        };
        let victim = Self { seat, proxy, warnings };
        eventually("the group keys", || async { victim.secure().is_ready().then_some(()) }).await;
        victim
    }

    /// Ends the process and starts another.
    pub async fn restart(&mut self) {
        self.seat.client.close().await;
        (self.seat.client, self.warnings) = start(&self.seat.person);
        within("the connection", self.seat.client.wait_open(crate::kit::LIMIT))
            .await
            .unwrap();
    }

    pub fn key(&self) -> PublicKey {
        self.seat.person.identity.public()
    }

    /// Waits for the sentence that the person is told.
    pub async fn told(&self, part: &str) -> String {
        let heard = || self.heard().into_iter().find(|warning| warning.contains(part));
        let waiting = async {
            loop {
                if let Some(warning) = heard() {
                    return warning;
                }
                tokio::time::sleep(std::time::Duration::from_millis(25)).await;
            }
        };
        let waited = tokio::time::timeout(crate::kit::LIMIT, waiting).await;
        waited.unwrap_or_else(|_| panic!("nothing was told about {part:?}: {:?}", self.heard()))
    }

    /// Everything that the person was told outside of messages.
    pub fn heard(&self) -> Vec<String> {
        self.warnings.lock().unwrap().clone()
    }

    /// The next message.
    pub async fn message(&self) -> Message {
        crate::kit::recv(self).await
    }
}

fn start(person: &Person) -> (MeshClient, Arc<Mutex<Vec<String>>>) {
    let client = person.builder().start().unwrap();
    let mut events = client.events();
    let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = warnings.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let ClientEvent::Warning(text) = event {
                heard.lock().unwrap().push(text);
            }
        }
    });
    (client, warnings)
}

/// Whether a remark beside the message has this part.
pub fn remarks(message: &Message, part: &str) {
    let found = message.warnings.iter().any(|warning| warning.contains(part));
    assert!(found, "no remark about {part:?}: {:?}", message.warnings);
}

pub fn wire_head(state: &LogState) -> EpochHead {
    let head = state.head();
    EpochHead {
        generation: head.generation,
        index: head.index,
        epoch: head.epoch,
        hash: HexHash(head.hash.to_string()),
    }
}

/// The group log with what a member can open of it: what a broker has that works together with this member.
pub async fn keys_of(seat: &Seat) -> EpochKeys {
    let page = seat.request(GroupLog::default()).await.unwrap();
    assert!(!page.more);
    let entries: Vec<LogEntry> = page.entries.iter().map(|record| read(&record.entry)).collect();
    let seals: Vec<Seal> = page.seals.iter().map(|record| read(&record.seal)).collect();
    let identity = &seat.person.identity;
    let owner = identity
        .owner_pubkey
        .unwrap_or_else(|| identity.owner.as_ref().unwrap().public());
    let (mesh, me) = (identity.mesh_id.as_str(), &identity.member);
    EpochKeys::from_log(mesh, &owner, &entries, &seals, me, now()).unwrap()
}

pub fn now() -> u64 {
    u64::try_from(crate::kit::now_ms()).unwrap()
}

pub fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

/// The frame with which a broker announces entries.
pub fn announce(entries: &[LogEntry], head: EpochHead) -> Value {
    let record = |entry: &LogEntry| LogRecord {
        generation: entry.generation,
        index: entry.index,
        entry: json!(entry),
    };
    let frame = GroupEpoch {
        entries: entries.iter().map(record).collect(),
        seals: Vec::new(),
        head,
    };
    let mut frame = json!(frame);
    frame["type"] = json!("group_epoch");
    frame
}

/// A second continuation of the log, by a member that works together with the broker: the entry that starts an epoch.
pub async fn fork_by(rogue: &Seat, before: &EpochKeys) -> Value {
    let me = &rogue.person.identity.member;
    let proposed = before.propose_rotate(now()).unwrap();
    assert_eq!(proposed.entries[0].author, me.public());
    let mut state = before.state().clone();
    for entry in &proposed.entries {
        state = state.advance(entry, now()).unwrap();
    }
    announce(&proposed.entries, wire_head(&state))
}

/// Somebody whom no mesh knows.
pub fn stranger() -> SecretKey {
    SecretKey::generate()
}
