//! What every request goes through: parse, look up, validate, permit, limit, run, count, answer.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use claudemesh_proto::frame::{Frame, REQUEST_ID, TYPE};
use claudemesh_proto::hello::{HELLO, HELLO_CHALLENGE};
use claudemesh_proto::{ErrorCode, ErrorFrame, Ordering, RateClass};
use futures_util::FutureExt as _;
use serde_json::Value;

use super::Gateway;
use super::dispatch::Entry;
use crate::broker::now_ms;
use crate::context::{Context, Session};
use crate::outbound::Outbound;

/// Longest `_reqId`.
const MAX_REQUEST_ID: usize = 128;

/// A frame of a client, taken apart.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Its `type`.
    pub(super) kind: String,
    /// Its `_reqId`.
    pub(super) request_id: Option<String>,
    /// The other members.
    pub(super) body: Value,
}

/// Takes a frame apart. Nesting is limited by the parser (128 levels).
///
/// # Errors
/// `malformed`.
pub(super) fn parse(text: &str) -> Result<Incoming, ErrorFrame> {
    let malformed = |problem: String| ErrorFrame::new(ErrorCode::Malformed, problem);
    let value = serde_json::from_str(text).map_err(|error| malformed(format!("the frame is not JSON: {error}")))?;
    let Value::Object(mut body) = value else {
        return Err(malformed("the frame is not a JSON object".to_owned()));
    };
    let Some(Value::String(kind)) = body.remove(TYPE) else {
        return Err(malformed("the frame has no text member `type`".to_owned()).at("/type"));
    };
    let request_id = match body.remove(REQUEST_ID) {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if id.len() <= MAX_REQUEST_ID => Some(id),
        Some(_) => {
            let problem = format!("`_reqId` is not a text of at most {MAX_REQUEST_ID} bytes");
            return Err(malformed(problem).at("/_reqId"));
        }
    };
    Ok(Incoming {
        kind,
        request_id,
        body: Value::Object(body),
    })
}

/// A request that may run.
pub(super) struct Accepted<'a> {
    entry: &'a Entry,
    cx: Context,
    body: Value,
    arrived: Instant,
    /// The `id` of a `send`: original clients know the answer by it.
    send_id: Option<String>,
}

impl Gateway {
    /// Takes a request as far as its handler. What is refused is answered here.
    pub(super) fn accept(&self, session: &Arc<Session>, text: &str) -> Option<Accepted<'_>> {
        let arrived = Instant::now();
        let now_ms = now_ms();
        let incoming = match parse(text) {
            Ok(incoming) => incoming,
            Err(error) => {
                self.refuse(session, None, None, self.charged(session, now_ms, error));
                return None;
            }
        };
        let Incoming { kind, request_id, body } = incoming;
        let send_id = (kind == "send")
            .then(|| body.get("id").and_then(Value::as_str).map(str::to_owned))
            .flatten();
        let entry = match self.judge(session, &kind, &body, now_ms) {
            Ok(entry) => entry,
            Err(error) => {
                self.refuse(session, request_id.as_deref(), send_id, error);
                return None;
            }
        };
        let cx = Context {
            broker: self.broker.clone(),
            session: session.clone(),
            request_id,
            now_ms,
        };
        Some(Accepted {
            entry,
            cx,
            body,
            arrived,
            send_id,
        })
    }

    fn judge(&self, session: &Session, kind: &str, body: &Value, now_ms: i64) -> Result<&Entry, ErrorFrame> {
        if kind == HELLO || kind == HELLO_CHALLENGE {
            let text = "this socket has said hello already; open another one for another session";
            return Err(ErrorFrame::new(ErrorCode::AlreadyConnected, text));
        }
        let entry = self
            .dispatcher
            .entry(kind)
            .map_err(|error| self.charged(session, now_ms, error))?;
        entry
            .schema
            .check(body)
            .map_err(|error| self.charged(session, now_ms, error))?;
        if !session.mesh.may(&session.member, entry.meta.permission) {
            let text = format!("this member may not {} in this mesh", entry.meta.name.replace('_', " "));
            return Err(self.charged(session, now_ms, ErrorFrame::new(ErrorCode::Forbidden, text)));
        }
        self.limit(session, entry.meta.rate, now_ms)?;
        Ok(entry)
    }

    /// Takes a token of the member's bucket.
    fn limit(&self, session: &Session, class: RateClass, now_ms: i64) -> Result<(), ErrorFrame> {
        self.broker
            .limiter
            .check(&session.member, class, now_ms)
            .map_err(|limited| {
                self.broker.metrics.rate_limited(class);
                let text = format!(
                    "more {} requests than this member may send; try again in {} ms",
                    class.as_str(),
                    limited.retry_after_ms
                );
                ErrorFrame::new(ErrorCode::RateLimited, text).retry_after(limited.retry_after_ms)
            })
    }

    /// A frame that is refused costs a token too: refusing is work.
    fn charged(&self, session: &Session, now_ms: i64, error: ErrorFrame) -> ErrorFrame {
        self.limit(session, RateClass::Write, now_ms).err().unwrap_or(error)
    }

    fn refuse(&self, session: &Session, request_id: Option<&str>, send_id: Option<String>, mut error: ErrorFrame) {
        self.broker.metrics.message_rejected(&error.code);
        if let Some(id) = &send_id {
            session.sends.refused(id, &error);
        }
        error.id = send_id;
        send_error(&session.outbound, request_id, &error);
    }
}

impl Accepted<'_> {
    /// How it is ordered against other requests of its socket.
    pub(super) fn ordering(&self) -> Ordering {
        self.entry.meta.ordering
    }

    /// Runs the handler and answers. A handler that panics answers `internal`; the connection lives on.
    pub(super) fn run(self) -> impl Future<Output = ()> + Send + 'static {
        let Self {
            entry,
            cx,
            body,
            arrived,
            send_id,
        } = self;
        let (meta, run) = (entry.meta, entry.run);
        async move {
            let broker = cx.broker.clone();
            let session = cx.session.clone();
            let request_id = cx.request_id.clone();
            // The handler is called inside as well: it may panic before it gives its future.
            let served = AssertUnwindSafe(async move { run(cx, body).await })
                .catch_unwind()
                .await;
            let result = served.unwrap_or_else(|_| {
                tracing::error!(operation = meta.name, presence_id = %session.presence, "a handler panicked");
                Err(ErrorFrame::new(
                    ErrorCode::Internal,
                    "the broker failed on this request; its log says why",
                ))
            });
            broker.metrics.request_done(
                meta.name,
                result.as_ref().err().map(|error| &error.code),
                arrived.elapsed(),
            );
            match result {
                Ok(Some(reply)) => session.outbound.send(Utf8Bytes::from(reply)),
                Ok(None) => {}
                Err(mut error) => {
                    error.id = error.id.or(send_id);
                    send_error(&session.outbound, request_id.as_deref(), &error);
                }
            }
        }
    }
}

fn send_error(outbound: &Outbound, request_id: Option<&str>, error: &ErrorFrame) {
    outbound.send(error_frame(request_id, error));
}

/// The text of an `error` frame.
pub(super) fn error_frame(request_id: Option<&str>, error: &ErrorFrame) -> Utf8Bytes {
    let frame = Frame {
        kind: "error",
        request_id,
        body: error,
    };
    let text = frame
        .to_json()
        .unwrap_or_else(|_| r#"{"type":"error","code":"internal","message":""}"#.to_owned());
    Utf8Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Broker;
    use crate::config::Config;
    use crate::gateway::Schema;
    use crate::hub::{self, Admitted};
    use crate::outbound::{self, OutboundFrames};
    use crate::store::{NewMember, NewMesh, SecretText};
    use claudemesh_proto::Operation as _;
    use claudemesh_proto::model::{KeyHex, MemberId, MeshId, MeshPolicy, MessageMode, Permissions, Role, Timestamp};
    use claudemesh_proto::ops::ListPeers;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_frame_is_taken_apart() {
        let incoming = parse(r#"{"type":"get_state","_reqId":"r1","key":"k"}"#).unwrap();
        assert_eq!(
            (incoming.kind.as_str(), incoming.request_id.as_deref()),
            ("get_state", Some("r1"))
        );
        assert_eq!(
            incoming.body,
            json!({ "key": "k" }),
            "type and _reqId are not part of the request"
        );
    }

    #[test]
    fn what_is_no_frame_is_malformed() {
        let long = format!(r#"{{"type":"x","_reqId":"{}"}}"#, "r".repeat(129));
        let deep = format!(r#"{{"type":"x","value":{}}}"#, "[".repeat(100_000));
        for text in [
            "",
            "null",
            "[]",
            "{",
            r#"{"type":1}"#,
            r#"{"type":"x","_reqId":7}"#,
            "{}",
            &long,
            &deep,
        ] {
            assert_eq!(parse(text).unwrap_err().code, ErrorCode::Malformed);
        }
    }

    /// JSON with the members of real frames, of any kind and depth.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[0-9a-f]{64}".prop_map(Value::from),
        ];
        let name = prop_oneof![
            3 => prop::sample::select(vec![
                "type", "_reqId", "id", "key", "value", "targetSpec", "ciphertext", "nonce", "priority", "meshId", "memberId",
                "pubkey", "signature", "timestamp", "sessionPubkey", "groups", "name", "protocol", "caps", "head", "entries",
                "seals", "grants", "acks", "sealed", "meta", "stats", "limit", "offset",
            ])
            .prop_map(str::to_owned),
            1 => any::<String>(),
        ];
        leaf.prop_recursive(5, 60, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::hash_map(name.clone(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn any_text_is_taken_apart_or_refused(text in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for text in [text.as_str(), &String::from_utf8_lossy(&bytes), &format!("{{{text}}}"), &format!("{{\"type\":{text}}}")] {
                if let Err(error) = parse(text) {
                    prop_assert_eq!(error.code, ErrorCode::Malformed);
                    prop_assert!(error.message.len() < 500);
                }
            }
        }

        #[test]
        fn any_body_is_read_or_refused_by_every_schema(mut body in json(), kind in any::<String>()) {
            thread_local!(static DISPATCHER: super::super::dispatch::Dispatcher = super::super::dispatch::Dispatcher::new());
            thread_local!(static HELLO: Schema = Schema::of::<claudemesh_proto::hello::Hello>());
            if let Value::Object(members) = &mut body {
                members.insert("type".to_owned(), Value::from(kind));
            }
            let Ok(incoming) = parse(&body.to_string()) else { return Ok(()) };
            DISPATCHER.with(|dispatcher| {
                let _unknown = dispatcher.entry(&incoming.kind).map(|_| ());
                for meta in claudemesh_proto::operations() {
                    let entry = dispatcher.entry(meta.wire_type).unwrap();
                    if let Err(error) = entry.schema.check(&incoming.body) {
                        prop_assert_eq!(error.code, ErrorCode::InvalidRequest);
                        prop_assert!(error.message.len() < 1_000);
                    }
                }
                Ok(())
            })?;
            HELLO.with(|schema| {
                if schema.check(&incoming.body).is_ok() {
                    // What fits the schema can be read.
                    let hello = serde_json::from_value::<claudemesh_proto::hello::Hello>(incoming.body.clone());
                    prop_assert!(hello.is_ok(), "{:?}: {}", hello.err(), incoming.body);
                }
                Ok(())
            })?;
        }
    }

    /// A session without a socket.
    async fn session(broker: &Arc<Broker>) -> (Arc<Session>, OutboundFrames) {
        let (mesh, member, key) = (MeshId::from("m"), MemberId::from("o"), KeyHex("ab".repeat(32)));
        let owner = NewMember {
            id: member.clone(),
            mesh_id: mesh.clone(),
            pubkey: key.clone(),
            display_name: "o".to_owned(),
            role: Role::Admin,
            is_owner: true,
            role_tag: None,
            default_groups: Vec::new(),
            message_mode: MessageMode::default(),
            permissions: Permissions::default(),
            dashboard_user_id: None,
            joined_at: Timestamp::from_ms(0),
        };
        let row = NewMesh {
            id: mesh.clone(),
            name: "m".to_owned(),
            slug: "m".to_owned(),
            owner_pubkey: key.clone(),
            root_key: SecretText(String::new()),
            policy: MeshPolicy::default(),
            created_at: Timestamp::from_ms(0),
            owner,
        };
        broker.store.create_mesh(row, None).await.unwrap();
        let live = broker.hub.mesh(broker, &mesh).await.unwrap().unwrap();
        let hello = json!({ "meshId": mesh, "memberId": member, "pubkey": key, "timestamp": 0, "signature": "" });
        let hello = serde_json::from_value(hello).unwrap();
        let (outbound, mut frames) = outbound::channel();
        let admitted = Admitted {
            member,
            member_key: key,
            hello,
            protocol: 1,
        };
        let session = hub::connect(broker, &live, admitted, outbound).await.unwrap();
        assert!(frames.next().await.unwrap().contains("hello_ack"));
        (session, frames)
    }

    #[tokio::test]
    async fn a_handler_that_panics_answers_internal_and_the_session_lives_on() {
        let directory = tempfile::tempdir().unwrap();
        let running = Broker::start(Config::local(directory.path())).await.unwrap();
        let (session, mut frames) = session(&running.broker).await;
        let at_once =
            |_: Context, _: Value| -> futures_util::future::BoxFuture<'static, _> { panic!("before its future") };
        let later = |_: Context, _: Value| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(async {
                tokio::task::yield_now().await;
                panic!("in its future")
            })
        };
        let entries = [at_once as super::super::dispatch::Run, later].map(|run| Entry {
            meta: ListPeers::META,
            schema: Schema::of::<ListPeers>(),
            run,
        });
        for entry in &entries {
            let cx = Context {
                broker: running.broker.clone(),
                session: session.clone(),
                request_id: Some("r".to_owned()),
                now_ms: 0,
            };
            let accepted = Accepted {
                entry,
                cx,
                body: json!({}),
                arrived: Instant::now(),
                send_id: Some("id".to_owned()),
            };
            accepted.run().await;
            let error: Value = serde_json::from_str(&frames.next().await.unwrap()).unwrap();
            assert_eq!(
                (&error["code"], &error["_reqId"], &error["id"]),
                (&json!("internal"), &json!("r"), &json!("id"))
            );
            assert!(!error.to_string().contains("future"), "the panic's text is for the log");
        }
        assert!(!session.outbound.is_closing());
        assert!(
            running
                .broker
                .metrics
                .text()
                .unwrap()
                .contains("outcome=\"internal\"} 2")
        );
        running.shutdown().await;
    }
}
