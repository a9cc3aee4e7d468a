//! From the `type` of a request to its handler. Built from the operation table: what has no handler does not compile.

use std::collections::HashMap;
use std::fmt;

use claudemesh_proto::frame::Frame;
use claudemesh_proto::ops::*;
use claudemesh_proto::{ErrorCode, ErrorFrame, Operation, OperationMeta, ReplyWhen, for_each_operation};
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::{Schema, read};
use crate::Broker;
use crate::context::{Context, Handle};

/// Serves a request and gives the text of its reply, if one is to be sent.
pub(super) type Run = fn(Context, Value) -> BoxFuture<'static, Result<Option<String>, ErrorFrame>>;

/// One operation, its type erased.
pub(super) struct Entry {
    /// Its row in the table.
    pub(super) meta: &'static OperationMeta,
    /// What its request must look like.
    pub(super) schema: Schema,
    /// Its handler.
    pub(super) run: Run,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(&self.meta.name).finish()
    }
}

/// Every operation by the `type` of its request.
#[derive(Debug)]
pub(super) struct Dispatcher {
    entries: HashMap<&'static str, Entry>,
}

macro_rules! entries {
    ($( { $name:ident, $request:ty => $($rest:tt)* } )+) => {
        vec![$( Entry {
            meta: <$request as Operation>::META,
            schema: Schema::of::<$request>(),
            run: run::<$request>,
        }, )+]
    };
}

impl Dispatcher {
    /// Compiles the schema of every operation.
    pub(super) fn new() -> Self {
        let entries: Vec<Entry> = for_each_operation!(entries);
        Self {
            entries: entries.into_iter().map(|entry| (entry.meta.wire_type, entry)).collect(),
        }
    }

    /// The operation whose request has this `type`.
    ///
    /// # Errors
    /// `unknown_type`, with the nearest one that exists.
    pub(super) fn entry(&self, kind: &str) -> Result<&Entry, ErrorFrame> {
        self.entries.get(kind).ok_or_else(|| {
            let nearest = nearest(kind, self.entries.keys().copied());
            let shown: String = kind.chars().take(64).collect();
            let hint = nearest
                .map(|name| format!("; did you mean `{name}`?"))
                .unwrap_or_default();
            ErrorFrame::new(
                ErrorCode::UnknownType,
                format!("this broker serves no request of type `{shown}`{hint}"),
            )
            .suggest(nearest.map(str::to_owned))
        })
    }
}

/// The typed part of a request: everything else is the same for all operations.
fn run<O: Operation>(cx: Context, body: Value) -> BoxFuture<'static, Result<Option<String>, ErrorFrame>>
where
    Broker: Handle<O>,
{
    Box::pin(async move {
        let request: O = read(body)?;
        let request_id = cx.request_id.clone();
        let response = <Broker as Handle<O>>::handle(cx, request).await?;
        if O::META.reply_when == ReplyWhen::Asked && request_id.is_none() {
            return Ok(None);
        }
        let frame = Frame {
            kind: O::META.reply_type,
            request_id: request_id.as_deref(),
            body: &response,
        };
        frame.to_json().map(Some).map_err(|error| {
            tracing::error!(operation = O::META.name, %error, "a reply does not serialize");
            ErrorFrame::new(
                ErrorCode::Internal,
                "the broker could not write the reply; its log says why",
            )
        })
    })
}

/// The name that is at most a third of its letters away.
fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > 64 {
        return None;
    }
    let text = text.to_lowercase().replace('-', "_");
    let mut candidates: Vec<_> = names.map(|name| (strsim::levenshtein(&text, name), name)).collect();
    candidates.sort_unstable();
    candidates
        .first()
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_handler_and_a_schema() {
        let dispatcher = Dispatcher::new();
        assert_eq!(dispatcher.entries.len(), claudemesh_proto::operations().len());
    }

    #[test]
    fn an_unknown_type_is_answered_with_the_nearest_one() {
        let dispatcher = Dispatcher::new();
        for (wrong, right) in [
            ("list_peer", "list_peers"),
            ("Set-State", "set_state"),
            ("sned", "send"),
        ] {
            let error = dispatcher.entry(wrong).unwrap_err();
            assert_eq!(error.code, ErrorCode::UnknownType);
            assert_eq!(error.suggestions, [right]);
        }
        assert!(dispatcher.entry("vault_list").unwrap_err().suggestions.is_empty());
        assert!(dispatcher.entry(&"x".repeat(1_000_000)).unwrap_err().message.len() < 200);
    }
}
