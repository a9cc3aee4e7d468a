//! The transport, with what the protocol library would not answer as hosts expect.
//!
//! * `server/discover` is answered with -32601 at any time: hosts then fall back to `initialize` at once, while a server
//!   of the newer lifecycle is never given channels.
//! * Before `initialize`, requests are refused and notifications dropped; the library would refuse discovery with another
//!   code, or end the session.
//! * A known method with parameters that do not fit is -32602 instead of an unknown method.

use rmcp::RoleServer;
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, CustomRequest, ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::Transport;
use std::sync::Arc;

/// Methods that this server answers.
const METHODS: [&str; 9] = [
    "initialize",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "tools/call",
    "tools/list",
];

/// A transport that answers some requests itself.
pub(super) struct Door<T> {
    inner: T,
    initialized: bool,
    written: Arc<dyn Fn(&RequestId) + Send + Sync>,
}

/// What becomes of a message from the host.
enum Verdict {
    Pass,
    Drop,
    Refuse(RequestId, ErrorData),
}

impl<T: Transport<RoleServer>> Door<T> {
    /// Guards a transport. `written` is called when the result of a request is with the host.
    pub(super) fn new(inner: T, written: impl Fn(&RequestId) + Send + Sync + 'static) -> Self {
        Self {
            inner,
            initialized: false,
            written: Arc::new(written),
        }
    }

    fn judge(&mut self, message: &ClientJsonRpcMessage) -> Verdict {
        match message {
            ClientJsonRpcMessage::Request(request) => match &request.request {
                ClientRequest::InitializeRequest(_) => {
                    self.initialized = true;
                    Verdict::Pass
                }
                ClientRequest::PingRequest(_) => Verdict::Pass,
                ClientRequest::DiscoverRequest(_) => Verdict::Refuse(request.id.clone(), unknown("server/discover")),
                ClientRequest::CustomRequest(custom) => Verdict::Refuse(request.id.clone(), misfit(custom)),
                _ if self.initialized => Verdict::Pass,
                _ => Verdict::Refuse(request.id.clone(), too_early()),
            },
            _ if self.initialized => Verdict::Pass,
            _ => Verdict::Drop,
        }
    }
}

fn unknown(method: &str) -> ErrorData {
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, format!("Method not found: {method}"), None)
}

fn misfit(request: &CustomRequest) -> ErrorData {
    match METHODS.contains(&request.method.as_str()) {
        true => ErrorData::invalid_params(
            format!("The parameters of {} have the wrong shape.", request.method),
            None,
        ),
        false => unknown(&request.method),
    }
}

fn too_early() -> ErrorData {
    ErrorData::invalid_request("Send initialize first.", None)
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Door<T> {
    type Error = T::Error;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        let request = match &message {
            ServerJsonRpcMessage::Response(response) => Some(response.id.clone()),
            _ => None,
        };
        let sending = self.inner.send(message);
        let written = self.written.clone();
        async move {
            sending.await?;
            if let Some(request) = &request {
                written(request);
            }
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            let message = self.inner.receive().await?;
            match self.judge(&message) {
                Verdict::Pass => return Some(message),
                Verdict::Drop => tracing::debug!("dropped a message that came before initialize"),
                Verdict::Refuse(id, error) => {
                    let sending = self.inner.send(ServerJsonRpcMessage::error(error, Some(id)));
                    // In a task of its own: this future may be dropped at any await.
                    tokio::spawn(async move {
                        if let Err(error) = sending.await {
                            tracing::debug!(%error, "an answer could not be written");
                        }
                    });
                }
            }
        }
    }

    async fn close(&mut self) -> Result<(), T::Error> {
        self.inner.close().await
    }
}
