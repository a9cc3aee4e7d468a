//! What the secure layer needs of a connection.

use crate::ClientError;
use claudemesh_proto::Operation;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

/// Sends one request and waits for its reply. Object-safe, so that key handling is tested without a socket.
pub trait Transport: Send + Sync {
    /// Sends the request `wire_type` with the members of `body`, and gives the members of the reply.
    fn call<'a>(&'a self, wire_type: &'a str, body: Value) -> BoxFuture<'a, Result<Value, ClientError>>;
}

impl dyn Transport + '_ {
    /// [`Transport::call`] with the types of an operation.
    ///
    /// # Errors
    /// Those of the request, and [`ClientError::Protocol`] for a reply of another shape.
    pub fn request<'a, O: Operation>(&'a self, request: &O) -> BoxFuture<'a, Result<O::Response, ClientError>> {
        let body = serde_json::to_value(request).map_err(|error| ClientError::unserializable(O::META, &error));
        async move {
            let reply = self.call(O::META.wire_type, body?).await?;
            serde_json::from_value(reply).map_err(|error| ClientError::bad_reply(O::META, &error))
        }
        .boxed()
    }
}
