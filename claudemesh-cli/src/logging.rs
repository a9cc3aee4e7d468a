//! Logs: on standard error, and only if asked for with `CLAUDEMESH_DEBUG`.

use crate::config::env;
use tracing_subscriber::EnvFilter;

/// Starts logging if `CLAUDEMESH_DEBUG` is set: `1` or `true`, or a filter such as `claudemesh_client=trace`.
pub(crate) fn start() {
    let Some(wanted) = env("CLAUDEMESH_DEBUG").filter(|value| value != "0" && value != "false") else {
        return;
    };
    let filter = match wanted.as_str() {
        "1" | "true" => "claudemesh_cli=debug,claudemesh_client=debug,claudemesh_broker=debug,warn",
        filter => filter,
    };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}
