//! The inbox of the host's session: a socket that wakes an idle session and reaches a busy one between two tool calls.
//!
//! Two lines of JSON per connection, the first with the session's token. Nothing comes back.

use super::{Form, Outcome, Surface, Surfacing};
use crate::config::env;
use crate::mcp::render;
use claudemesh_client::Message;
use serde_json::json;
use std::fmt;
use zeroize::Zeroizing;

/// Name of the socket's path and of its token in the environment that the host gives its servers.
const SOCKET: &str = "CLAUDE_CODE_MESSAGING_SOCKET";
const TOKEN: &str = "CLAUDE_CODE_MESSAGING_TOKEN";

/// The session's inbox.
pub(crate) struct InboxSocket {
    path: String,
    token: Option<Zeroizing<String>>,
    several_meshes: bool,
}

impl fmt::Debug for InboxSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxSocket")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl InboxSocket {
    /// The inbox of the session that started this process, if it has one.
    pub(crate) fn of_environment(several_meshes: bool) -> Option<Self> {
        let path = env(SOCKET)?;
        Some(Self {
            path,
            token: env(TOKEN).map(Zeroizing::new),
            several_meshes,
        })
    }

    fn lines(&self, message: &Message, form: Form) -> Zeroizing<String> {
        let text = match form {
            Form::Full => render::full(message, self.several_meshes),
            Form::Pointer => render::pointer(message),
        };
        let from = attribute(&render::label(&message.from));
        let content = format!("<cross-session-message from-name=\"{from}\">{text}</cross-session-message>");
        let auth = self
            .token
            .as_ref()
            .map(|token| json!({ "type": "auth", "token": token.as_str() }));
        let user = json!({ "type": "user", "message": { "role": "user", "content": content } });
        Zeroizing::new(auth.iter().chain([&user]).map(|line| format!("{line}\n")).collect())
    }
}

fn attribute(text: &str) -> String {
    text.replace('&', "&amp;")
}

impl Surface for InboxSocket {
    fn name(&self) -> &'static str {
        "inbox-socket"
    }

    fn surface<'a>(&'a self, message: &'a Message, form: Form) -> Surfacing<'a> {
        Box::pin(async move {
            let lines = self.lines(message, form);
            match push(&self.path, lines.as_bytes()).await {
                Ok(()) => Outcome::Surfaced,
                Err(error) => {
                    tracing::debug!(%error, "the session's inbox did not take a message");
                    Outcome::Unavailable
                }
            }
        })
    }
}

#[cfg(unix)]
async fn push(path: &str, lines: &[u8]) -> std::io::Result<()> {
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    /// How long the host may take.
    const LIMIT: Duration = Duration::from_secs(2);
    tokio::time::timeout(LIMIT, async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(lines).await?;
        stream.shutdown().await
    })
    .await?
}

#[cfg(not(unix))]
async fn push(_: &str, _: &[u8]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
