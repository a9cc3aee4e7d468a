//! The broker as a program. Settings come from the environment; see `claudemesh_broker::config`.

use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;

use claudemesh_broker::Broker;
use claudemesh_broker::config::Config;
use tracing_subscriber::EnvFilter;

/// A send makes and drops some hundred small values on several threads; the C library's allocator took a fifth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    start_log();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let broker = Broker::start(Config::from_env()?).await?;
    stop_signal().await?;
    broker.shutdown().await;
    Ok(())
}

/// To stderr: one JSON object per line with `LOG_FORMAT=json`, else text. What is logged is set by `RUST_LOG`.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Reported to stderr as well, which panics if that is where it went wrong: a full disk would end the store's task.
        .log_internal_errors(false)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal());
    if std::env::var("LOG_FORMAT").is_ok_and(|format| format == "json") {
        log.json().flatten_event(true).init();
    } else {
        log.init();
    }
}

/// Waits until the process is asked to stop.
async fn stop_signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            interrupted = tokio::signal::ctrl_c() => interrupted,
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
