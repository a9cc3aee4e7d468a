//! A broker in memory that keeps the group log by the rules of the real one, and peers that are connected to it.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::result_large_err
)]

use claudemesh_client::secure::{
    AdmitPolicy, KeyStore, MemoryKeyStore, OpenedPush, SecureChannel, SecureEvent, SecureOptions,
};
use claudemesh_client::{ClientError, Identity, Transport};
use claudemesh_crypto::group::{EpochLog, GroupLog as _, LogEntry, LogState, Refusal, Seal};
use claudemesh_crypto::{PublicKey, SecretKey};
use claudemesh_proto::frame::{GroupEpoch, KeyGrantForward, KeyRequestForward, Push, ServerFrame};
use claudemesh_proto::hello::HelloAck;
use claudemesh_proto::model::{EpochHead, HexHash, KeyHex, Target, TargetKind, Timestamp};
use claudemesh_proto::ops::{
    GroupCommit, GroupInfo, GroupInfoResult, GroupLog, GroupLogResult, KeyGrant, LogRecord, SealRecord, SendEnvelope,
};
use claudemesh_proto::{ErrorCode, ErrorFrame};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const MESH: &str = "mesh1";

pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Changes a reply before the client sees it.
pub type Tamper = Box<dyn Fn(&PublicKey, &str, &mut Value) + Send + Sync>;

#[derive(Default)]
pub struct State {
    pub log: Vec<LogEntry>,
    pub seals: Vec<Seal>,
    pub state: Option<LogState>,
    /// Members as the broker lists them.
    pub members: Vec<PublicKey>,
    pub online: BTreeMap<PublicKey, VecDeque<ServerFrame>>,
    pub requests: Vec<(PublicKey, Value)>,
    pub grants: Vec<KeyGrant>,
    pub tamper: Option<Tamper>,
    pub calls: BTreeMap<String, usize>,
}

pub struct Broker {
    pub owner: PublicKey,
    state: Mutex<State>,
}

impl Broker {
    pub fn new(owner: PublicKey) -> Arc<Self> {
        Arc::new(Self {
            owner,
            state: Mutex::default(),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn tamper(&self, tamper: impl Fn(&PublicKey, &str, &mut Value) + Send + Sync + 'static) {
        self.state().tamper = Some(Box::new(tamper));
    }

    fn handle(&self, caller: PublicKey, wire_type: &str, body: Value) -> Result<Value, ErrorFrame> {
        let mut state = self.state();
        *state.calls.entry(wire_type.to_owned()).or_default() += 1;
        let mut reply = match wire_type {
            "group_commit" => commit(&mut state, self.owner, caller, serde_json::from_value(body).unwrap())?,
            "group_log" => log(&state, caller, serde_json::from_value(body).unwrap()),
            "group_info" => {
                let request: GroupInfo = serde_json::from_value(body).unwrap();
                let invite: Option<PublicKey> = request.invite_key.map(|key| key.as_str().parse().unwrap());
                let seals = state
                    .seals
                    .iter()
                    .filter(|seal| seal.to == caller || Some(seal.to) == invite);
                json(&GroupInfoResult {
                    head: head(&state),
                    seals: seals.map(seal_record).collect(),
                    owner_pubkey: KeyHex(self.owner.to_string()),
                })
            }
            "group_status" => json!({}),
            "key_request" => {
                let request = body["request"].clone();
                state.requests.push((caller, request.clone()));
                let mut forwarded = 0;
                for (member, queue) in state.online.iter_mut().filter(|(member, _)| **member != caller) {
                    let _ = member;
                    forwarded += 1;
                    queue.push_back(ServerFrame::KeyRequest(Box::new(KeyRequestForward {
                        request: request.clone(),
                    })));
                }
                json!({ "forwarded": forwarded })
            }
            "key_grant" => {
                let grant: KeyGrant = serde_json::from_value(body).unwrap();
                let to: PublicKey = grant.to.as_str().parse().unwrap();
                state.grants.push(grant.clone());
                let queue = state.online.get_mut(&to);
                let delivered = queue.is_some();
                if let Some(queue) = queue {
                    queue.push_back(ServerFrame::KeyGrant(Box::new(KeyGrantForward { grant: grant.grant })));
                }
                json!({ "delivered": delivered })
            }
            "list_members" => {
                let members = state.members.iter().map(|key| {
                    json!({ "id": key.short(), "pubkey": key.to_string(), "displayName": key.short(),
                            "permission": "member", "online": true, "joinedAt": Timestamp::from_ms(0) })
                });
                json!({ "members": members.collect::<Vec<_>>() })
            }
            "list_peers" => {
                let peers = state.online.keys().map(|key| {
                    json!({ "pubkey": key.to_string(), "memberPubkey": key.to_string(), "displayName": key.short(),
                            "status": "idle", "connectedAt": Timestamp::from_ms(0) })
                });
                json!({ "peers": peers.collect::<Vec<_>>() })
            }
            other => panic!("the broker does not serve {other}"),
        };
        if let Some(tamper) = &state.tamper {
            tamper(&caller, wire_type, &mut reply);
        }
        Ok(reply)
    }
}

pub fn json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap()
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

fn head(state: &State) -> Option<EpochHead> {
    state.state.as_ref().map(wire_head)
}

pub fn seal_record(seal: &Seal) -> SealRecord {
    SealRecord {
        generation: seal.generation,
        epoch: seal.epoch,
        to: KeyHex(seal.to.to_string()),
        seal: json(seal),
    }
}

pub fn log_record(entry: &LogEntry) -> LogRecord {
    LogRecord {
        generation: entry.generation,
        index: entry.index,
        entry: json(entry),
    }
}

fn refusal(refusal: &Refusal) -> ErrorFrame {
    let code = match refusal {
        Refusal::Stale | Refusal::Gap { .. } => ErrorCode::StaleEpoch,
        Refusal::NotOnRoster(_) => ErrorCode::NotOnRoster,
        Refusal::NotAllowed(_) => ErrorCode::Forbidden,
        _ => ErrorCode::InvalidCommit,
    };
    ErrorFrame::new(code, refusal.to_string())
}

fn commit(state: &mut State, owner: PublicKey, caller: PublicKey, request: GroupCommit) -> Result<Value, ErrorFrame> {
    let entries: Vec<LogEntry> = request
        .entries
        .into_iter()
        .map(|entry| LogEntry::from_json(entry.to_string().as_bytes()).unwrap())
        .collect();
    let seals: Vec<Seal> = request
        .seals
        .into_iter()
        .map(|seal| Seal::from_json(seal.seal.to_string().as_bytes()).unwrap())
        .collect();
    let next = match &state.state {
        Some(current) => EpochLog.check_batch(current, &entries, &seals, now_ms()),
        None => EpochLog
            .start(MESH, &owner, &entries[0], now_ms())
            .and_then(|first| EpochLog.check_batch(&first, &entries[1..], &seals, now_ms())),
    };
    let next = next.map_err(|error| refusal(&error))?;
    let head = wire_head(&next);
    for (member, queue) in state.online.iter_mut().filter(|(member, _)| **member != caller) {
        queue.push_back(ServerFrame::GroupEpoch(Box::new(GroupEpoch {
            entries: entries.iter().map(log_record).collect(),
            seals: seals
                .iter()
                .filter(|seal| seal.to == *member)
                .map(seal_record)
                .collect(),
            head: head.clone(),
        })));
    }
    state.state = Some(next);
    state.log.extend(entries);
    state.seals.extend(seals);
    Ok(json!({ "head": head }))
}

fn log(state: &State, caller: PublicKey, request: GroupLog) -> Value {
    let limit = request.limit.unwrap_or(200) as usize;
    let from = usize::try_from(request.from_index).unwrap();
    let generation = request.generation.unwrap_or(1);
    let all: Vec<_> = state
        .log
        .iter()
        .filter(|entry| entry.generation == generation)
        .collect();
    let entries: Vec<_> = all
        .iter()
        .skip(from)
        .take(limit)
        .map(|entry| log_record(entry))
        .collect();
    json(&GroupLogResult {
        more: from + entries.len() < all.len(),
        entries,
        seals: state
            .seals
            .iter()
            .filter(|seal| seal.to == caller)
            .map(seal_record)
            .collect(),
        head: head(state),
    })
}

struct Link {
    broker: Arc<Broker>,
    member: PublicKey,
}

impl Transport for Link {
    fn call<'a>(&'a self, wire_type: &'a str, body: Value) -> BoxFuture<'a, Result<Value, ClientError>> {
        Box::pin(async move {
            // Others get their turn between request and reply, as on a network.
            tokio::task::yield_now().await;
            self.broker
                .handle(self.member, wire_type, body)
                .map_err(ClientError::from)
        })
    }
}

/// One process of a member.
pub struct Peer {
    pub name: &'static str,
    pub identity: Arc<Identity>,
    pub channel: Arc<SecureChannel>,
    pub store: Arc<dyn KeyStore>,
    pub broker: Arc<Broker>,
    link: Arc<Link>,
}

pub fn options() -> SecureOptions {
    SecureOptions {
        admit: AdmitPolicy::Enrolled,
        key_wait: Duration::from_millis(300),
        jitter: Duration::from_millis(2),
        request_interval: Duration::ZERO,
        ..SecureOptions::default()
    }
}

pub fn identity(member: SecretKey, owner_pubkey: Option<PublicKey>, owner: Option<SecretKey>) -> Arc<Identity> {
    Arc::new(Identity {
        mesh_id: MESH.into(),
        member_id: member.public().short().into(),
        slug: "mesh".to_owned(),
        name: "Mesh".to_owned(),
        member,
        broker_url: "ws://localhost".to_owned(),
        owner_pubkey,
        owner,
        display_name: None,
    })
}

impl Peer {
    pub fn new(name: &'static str, broker: &Arc<Broker>, identity: Arc<Identity>, store: Arc<dyn KeyStore>) -> Self {
        Self::with_options(name, broker, identity, store, options())
    }

    pub fn with_options(
        name: &'static str,
        broker: &Arc<Broker>,
        identity: Arc<Identity>,
        store: Arc<dyn KeyStore>,
        options: SecureOptions,
    ) -> Self {
        let member = identity.public();
        let mut state = broker.state();
        if !state.members.contains(&member) {
            state.members.push(member);
        }
        drop(state);
        let channel = SecureChannel::with_options(identity.clone(), SecretKey::generate(), store.clone(), options);
        let link = Arc::new(Link {
            broker: broker.clone(),
            member,
        });
        Self {
            name,
            identity,
            channel: Arc::new(channel),
            store,
            broker: broker.clone(),
            link,
        }
    }

    /// A member with a key of its own and an empty store.
    pub fn member(name: &'static str, broker: &Arc<Broker>) -> Self {
        let identity = identity(SecretKey::generate(), Some(broker.owner), None);
        Self::new(name, broker, identity, Arc::new(MemoryKeyStore::new()))
    }

    pub fn key(&self) -> PublicKey {
        self.identity.public()
    }

    pub fn transport(&self) -> &dyn Transport {
        self.link.as_ref()
    }

    fn go_online(&self) {
        let mut state = self.broker.state();
        state.online.entry(self.key()).or_default();
        let waiting: Vec<_> = state.requests.clone();
        for (from, request) in waiting {
            if from != self.key() {
                let frame = ServerFrame::KeyRequest(Box::new(KeyRequestForward { request }));
                state.online.get_mut(&self.key()).unwrap().push_back(frame);
            }
        }
    }

    pub async fn connect(&self) -> Result<(), ClientError> {
        self.go_online();
        let ack: HelloAck =
            serde_json::from_value(json!({ "presenceId": "p", "memberDisplayName": self.name, "protocol": 2 }))
                .unwrap();
        self.channel.on_connected(self.transport(), &ack).await
    }

    pub fn disconnect(&self) {
        self.broker.state().online.remove(&self.key());
    }

    /// Handles one waiting frame; `false` if there is none.
    pub async fn step(&self) -> Option<Result<(), ClientError>> {
        let frame = self.broker.state().online.get_mut(&self.key())?.pop_front()?;
        Some(match frame {
            ServerFrame::GroupEpoch(frame) => self.channel.on_group_epoch(&frame, self.transport()).await,
            ServerFrame::KeyRequest(frame) => self.channel.on_key_request(&frame, self.transport()).await,
            ServerFrame::KeyGrant(frame) => self.channel.on_key_grant(&frame, self.transport()).await,
            _ => Ok(()),
        })
    }

    pub async fn seal(&self, target: &str, text: &str, id: &str) -> Result<SendEnvelope, ClientError> {
        self.channel
            .seal_multicast(target, text.as_bytes(), id, Default::default(), None, self.transport())
            .await
    }

    pub fn seal_to(&self, to: &Peer, text: &str, id: &str) -> SendEnvelope {
        self.channel
            .seal_direct(&to.key(), None, text.as_bytes(), id, Default::default(), None)
            .unwrap()
    }

    /// What the broker pushes for an envelope of ours.
    pub fn push(&self, envelope: &SendEnvelope) -> Push {
        let kind = match envelope.target_spec.as_str() {
            "*" | "@all" => TargetKind::Broadcast,
            spec if spec.starts_with('@') => TargetKind::Group,
            _ => TargetKind::Direct,
        };
        Push {
            message_id: envelope.id.clone().unwrap().into(),
            mesh_id: MESH.to_owned(),
            sender_pubkey: self.channel.session_key().to_string(),
            priority: envelope.priority,
            nonce: envelope.nonce.clone(),
            ciphertext: envelope.ciphertext.clone(),
            created_at: Timestamp::from_ms(0),
            subtype: envelope.subtype.clone(),
            event: None,
            event_data: None,
            sender_member: Some(KeyHex(self.key().to_string())),
            sender_name: Some(self.name.to_owned()),
            target: Some(Target {
                kind,
                spec: envelope.target_spec.clone(),
            }),
            meta: envelope.meta.clone(),
            sealed: envelope.sealed.clone(),
            attempt: Some(1),
        }
    }

    pub async fn open(&self, push: &Push) -> OpenedPush {
        self.channel.open(push, self.transport()).await
    }

    pub fn warnings(&self) -> Vec<String> {
        let events = self.channel.take_events().into_iter();
        events
            .filter_map(|event| match event {
                SecureEvent::Warning(text) => Some(text),
                _ => None,
            })
            .collect()
    }
}

/// Delivers frames until none is left.
pub async fn pump(peers: &[&Peer]) {
    loop {
        let mut busy = false;
        for peer in peers {
            while let Some(outcome) = peer.step().await {
                outcome.unwrap();
                busy = true;
            }
        }
        if !busy {
            return;
        }
    }
}

/// A broker and the mesh's owner, connected.
pub async fn mesh() -> (Arc<Broker>, Peer) {
    mesh_in(Arc::new(MemoryKeyStore::new()), options()).await
}

pub async fn mesh_in(store: Arc<dyn KeyStore>, options: SecureOptions) -> (Arc<Broker>, Peer) {
    let owner = SecretKey::generate();
    let broker = Broker::new(owner.public());
    let identity = identity(SecretKey::generate(), Some(owner.public()), Some(owner));
    let peer = Peer::with_options("olga", &broker, identity, store, options);
    peer.connect().await.unwrap();
    (broker, peer)
}

/// A member that the owner admitted.
pub async fn joined(name: &'static str, broker: &Arc<Broker>, owner: &Peer) -> Peer {
    let peer = Peer::member(name, broker);
    peer.connect().await.unwrap();
    pump(&[owner, &peer]).await;
    assert!(peer.channel.is_ready());
    peer.warnings();
    owner.warnings();
    peer
}

pub fn has(warnings: &[String], part: &str) -> bool {
    warnings.iter().any(|warning| warning.contains(part))
}
