//! The broker on this machine: found, or started in this process.

use crate::CliError;
use crate::config::private;
use claudemesh_broker::Broker;
use claudemesh_broker::config::Config;
use claudemesh_broker::server::RunningBroker;
use claudemesh_client::http::BrokerHttp;
use claudemesh_proto::ErrorCode;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Port of the first try.
const FIRST_PORT: u16 = 7900;
/// How many ports after it are tried.
const PORTS: u16 = 100;
/// How long a broker of another process may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What `broker.json` in the data directory says about the last broker.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Record {
    pid: u32,
    port: u16,
    url: String,
    version: String,
}

/// The broker on this machine.
pub(super) struct Host {
    url: String,
    previous: Option<String>,
    data_dir: PathBuf,
    running: Option<(RunningBroker, std::fs::File)>,
}

impl Host {
    /// The broker of `data_dir`: the one that runs, else a new one in this process.
    pub(super) async fn find_or_start(data_dir: &Path, port: Option<u16>) -> Result<Self, CliError> {
        private::create_dir(data_dir)?;
        let record = read(data_dir);
        let lock = private::try_lock(&data_dir.join("broker.lock"))?;
        let Some(lock) = lock else {
            return Self::find(data_dir, record).await;
        };
        let port = choose_port(port, record.as_ref().map(|record| record.port))?;
        let config = Config {
            port,
            ..Config::local(data_dir.join("broker"))
        };
        let running = Broker::start(config).await.map_err(|error| {
            CliError::local(
                format!("The broker does not start: {error}"),
                format!(
                    "Check {} and the port, or choose others with --data-dir and --port.",
                    data_dir.display()
                ),
            )
        })?;
        let url = running.websocket_url();
        let previous = record.map(|record| record.url).filter(|old| *old != url);
        let record = Record {
            pid: std::process::id(),
            port: running.addr.port(),
            url: url.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let text = serde_json::to_vec_pretty(&record).unwrap_or_default();
        private::write(&data_dir.join("broker.json"), &text)?;
        Ok(Self {
            url,
            previous,
            data_dir: data_dir.to_owned(),
            running: Some((running, lock)),
        })
    }

    /// The broker of another process, once it answers.
    async fn find(data_dir: &Path, record: Option<Record>) -> Result<Self, CliError> {
        let busy = || {
            CliError::new(
                ErrorCode::Unavailable,
                format!(
                    "Another process holds {}, but its broker does not answer.",
                    data_dir.display()
                ),
            )
            .next("Stop that process, or choose another directory with --data-dir.")
        };
        let record = record.ok_or_else(busy)?;
        let http = BrokerHttp::new(&record.url)?;
        match tokio::time::timeout(PATIENCE, http.health()).await {
            Ok(Ok(_)) => Ok(Self {
                url: record.url,
                previous: None,
                data_dir: data_dir.to_owned(),
                running: None,
            }),
            _ => Err(busy()),
        }
    }

    /// WebSocket address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Its address in an earlier run, if that was another one.
    pub(super) fn previous_url(&self) -> Option<&str> {
        self.previous.as_deref()
    }

    /// Where it keeps its data.
    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Whether it runs in this process.
    pub(super) fn is_mine(&self) -> bool {
        self.running.is_some()
    }

    /// Stops it if it runs in this process.
    pub(super) async fn stop(self) {
        if let Some((running, lock)) = self.running {
            running.shutdown().await;
            drop(lock);
        }
    }
}

fn read(data_dir: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(data_dir.join("broker.json")).ok()?).ok()
}

/// The port that was asked for, else the one of the last run, else the first free one.
fn choose_port(asked: Option<u16>, last: Option<u16>) -> Result<u16, CliError> {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    if let Some(port) = asked {
        return if port == 0 || free(port) {
            Ok(port)
        } else {
            Err(taken(&format!("Port {port} is taken.")))
        };
    }
    last.into_iter()
        .chain(FIRST_PORT..FIRST_PORT + PORTS)
        .find(|port| free(*port))
        .ok_or_else(|| taken(&format!("The ports from {FIRST_PORT} on are all taken.")))
}

fn taken(message: &str) -> CliError {
    CliError::new(ErrorCode::Conflict, message).next("Choose another one with --port, or 0 for any.")
}
