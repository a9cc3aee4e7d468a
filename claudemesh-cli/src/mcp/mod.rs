//! `claudemesh mcp`: the joined meshes as tools of an agent, over the Model Context Protocol on standard input and output.
//!
//! | module | what |
//! |---|---|
//! | `session` | who this session is, and its connections |
//! | `door` | the transport, and what is answered before and beside the protocol library |
//! | `server` | the protocol's requests |
//! | `catalog` | the list of tools, from the tool table |
//! | `call` | one call of a tool |
//! | `progress` | notices of how far a call has come |
//! | `skills` | skills as prompts and resources |
//! | `delivery` | received messages on their way to the model |
//! | `surface` | the ways to put a message in front of the model |
//! | `mail` | messages that no surface took, and those that were shown and not yet read |
//! | `written` | messages in tool results that the host does not have yet |
//! | `render` | messages as text that is safe to show to a model |

mod call;
mod catalog;
mod delivery;
mod door;
mod instructions;
mod mail;
mod notices;
mod problem;
mod progress;
mod render;
mod server;
mod session;
mod skills;
mod surface;
mod written;

use crate::{CliError, Config};
use rmcp::ServiceExt;
use rmcp::transport::async_rw::AsyncRwTransport;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long connections may take to end: hosts kill a server that stays.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Serve this mesh only.
    pub mesh: Option<String>,
    /// Directories that members with the `file-read` grant may read.
    pub share: Vec<PathBuf>,
}

/// Serves until the agent closes standard input or a signal asks to stop, then ends the process with code 0.
///
/// # Errors
/// If `options` names a mesh that was not joined, or signals cannot be received.
pub async fn run(config: &Config, options: Options) -> Result<(), CliError> {
    if options.mesh.is_some() {
        config.mesh(options.mesh.as_deref())?;
    }
    check_shared(&options.share)?;
    let mut stop = Stop::listen()?;
    let server = server::Server::start(config, options);
    let closing = server.clone();
    let ended = CancellationToken::new();
    let serving = async {
        let transport = AsyncRwTransport::new_server(tokio::io::stdin(), tokio::io::stdout());
        let answered = server.clone();
        let door = door::Door::new(transport, move |request| answered.written(request));
        match server.serve_with_ct(door, ended.clone()).await {
            Ok(running) => drop(running.waiting().await),
            Err(error) => tracing::debug!(%error, "the host left before the session began"),
        }
    };
    tokio::select! {
        () = serving => {}
        () = stop.requested() => ended.cancel(),
    }
    let _ = timeout(CLOSE_LIMIT, closing.close()).await;
    // A read of standard input cannot be cancelled: an orderly end of the runtime would wait for the host's next line.
    std::process::exit(0);
}

/// Says now what would otherwise make every mesh unusable.
fn check_shared(directories: &[PathBuf]) -> Result<(), CliError> {
    for directory in directories {
        if !directory.is_dir() {
            let text = format!("--share {}: there is no such directory.", directory.display());
            return Err(CliError::usage(text, "Name a directory that exists.".to_owned()));
        }
    }
    Ok(())
}

/// Signals that ask to stop: hosts send SIGINT, terminals that close SIGHUP.
struct Stop {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 3],
}

impl Stop {
    #[cfg(unix)]
    fn listen() -> Result<Self, CliError> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| {
            signal(kind).map_err(|error| CliError::local(format!("Cannot receive signals: {error}"), "Try again."))
        };
        let signals = [
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ];
        Ok(Self { signals })
    }

    #[cfg(unix)]
    async fn requested(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn listen() -> Result<Self, CliError> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn requested(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
