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

    #[test]
    fn a_frame_is_taken_apart() {
        let incoming = parse(r#"{"type":"get_state","_reqId":"r1","key":"k"}"#).unwrap();
        assert_eq!(
            (incoming.kind.as_str(), incoming.request_id.as_deref()),
            ("get_state", Some("r1"))
        );
        assert_eq!(
            incoming.body,
            serde_json::json!({ "key": "k" }),
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
}
