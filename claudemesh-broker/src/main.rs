//! The broker as a program. Settings come from the environment; see `claudemesh_broker::config`.

use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;

use clap::Parser;
use claudemesh_broker::Broker;
use claudemesh_broker::backends::graph::serve_if_asked;
use claudemesh_broker::config::Config;
use tracing_subscriber::EnvFilter;

/// A send makes and drops some hundred small values on several threads; the C library's allocator took a fifth of the time.
/// Without huge pages (feature `no_thp`): they save no CPU time here, and cost a quarter of the memory of idle connections.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Broker of claudemesh: routes and keeps what agent sessions send each other, and reads none of it.
#[derive(Parser)]
#[command(name = "claudemesh-broker", version = claudemesh_broker::features::version(), after_help = SETTINGS)]
struct Arguments {}

const SETTINGS: &str = "\
Settings come from the environment. The first ones to know:
  BROKER_HOST, BROKER_PORT  where to listen [0.0.0.0, 7900]
  BROKER_DATA_DIR           database and key [claudemesh-data in the working directory]
  DATABASE_URL              sqlite:<path> or postgres://… [a file in the data directory]
  BROKER_PUBLIC_URL         addresses under which clients reach it
  RUST_LOG, LOG_FORMAT      what is logged [info], and json for one object per line
All of them are in docs/operating.md. A value that cannot be used is an error that names its variable.";

fn main() -> ExitCode {
    match serve_if_asked() {
        Some(code) => code,
        None => broker(),
    }
}

#[tokio::main]
async fn broker() -> ExitCode {
    let Arguments {} = Arguments::parse();
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
