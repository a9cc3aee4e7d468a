//! Servers for tests: installed or found, started on loopback, and ended again.

mod cache;
mod fleet;
mod minio;
mod nats;
mod neo4j;
mod postgres;
mod probe;
mod process;
mod programs;
mod state;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use cache::Cache;
use claudemesh_testkit::postgres_server::LOG;
pub(crate) use fleet::Fleet;
use process::ProcessId;

const HELP: &str = "\
cargo xtask services COMMAND [postgres] [minio] [neo4j] [nats]

  install   installs or builds what is not there; starts nothing
  up        installs, starts on 127.0.0.1 what does not run yet, and prints the environment for the tests:
            eval \"$(cargo xtask services up)\"
  down      ends what `up` started and removes its data
  status    tells what runs, and where its log is

All four if none is named: then one that cannot be had here is told and left out.
Programs are kept in ~/.cache/claudemesh/services, or where CLAUDEMESH_SERVICES_DIR says.";

/// The password of test servers that want one. They listen on loopback only and hold nothing.
const TEST_PASSWORD: &str = "claudemesh-test";
/// What `up` has started.
const UP: &str = "up.json";

/// A server that tests run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Service {
    /// The relational store.
    Postgres,
    /// An object store that speaks S3.
    Minio,
    /// A graph database.
    Neo4j,
    /// Carries events between brokers.
    Nats,
}

/// A server that was started and may not be ready yet.
struct Started {
    process: ProcessId,
    environment: Vec<(&'static str, String)>,
}

impl Service {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Postgres, Self::Minio, Self::Neo4j, Self::Nats];

    /// What it is called on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Minio => "minio",
            Self::Neo4j => "neo4j",
            Self::Nats => "nats",
        }
    }

    /// Whether it can be started.
    fn is_installed(self, cache: &Cache) -> bool {
        match self {
            Self::Postgres => postgres::is_installed(),
            Self::Minio => minio::find(cache).is_some(),
            Self::Neo4j => neo4j::is_installed(cache),
            Self::Nats => nats::find(cache).is_some(),
        }
    }

    /// Makes it so that it can be started.
    fn install(self, cache: &Cache) -> anyhow::Result<()> {
        match self {
            Self::Postgres => postgres::install(),
            Self::Minio => minio::install(cache),
            Self::Neo4j => neo4j::install(cache),
            Self::Nats => nats::install(cache),
        }
    }

    /// Starts one with its data in a directory that is empty.
    fn start(self, cache: &Cache, directory: &Path, address: SocketAddr) -> anyhow::Result<Started> {
        match self {
            Self::Postgres => postgres::start(directory, address),
            Self::Minio => minio::start(cache, directory, address),
            Self::Neo4j => neo4j::start(cache, directory, address),
            Self::Nats => nats::start(cache, directory, address),
        }
    }

    /// Whether one at this address serves.
    fn is_ready(self, address: SocketAddr) -> bool {
        match self {
            Self::Postgres => postgres::is_ready(address),
            Self::Minio => minio::is_ready(address),
            Self::Neo4j => neo4j::is_ready(address),
            Self::Nats => nats::is_ready(address),
        }
    }

    /// Longest time from its start until it serves, on a machine that is busy.
    fn patience(self) -> Duration {
        match self {
            Self::Neo4j => Duration::from_secs(240),
            Self::Postgres | Self::Minio | Self::Nats => Duration::from_secs(90),
        }
    }

    /// How it is asked to end.
    fn gentle_signal(self) -> Signal {
        match self {
            // SIGTERM would wait for its connections to end.
            Self::Postgres => Signal::INT,
            Self::Minio | Self::Neo4j | Self::Nats => Signal::TERM,
        }
    }
}

/// `cargo xtask services …`.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let Some((command, names)) = arguments.split_first() else {
        bail!("no command given\n{HELP}");
    };
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{HELP}");
        return Ok(());
    }
    let services = named(names)?;
    let cache = Cache::open()?;
    match command.as_str() {
        "install" => install(&cache, &services, names.is_empty()).map(drop),
        "up" => {
            let services = install(&cache, &services, names.is_empty())?;
            let mut fleet = Fleet::open(&cache, UP)?;
            let started = fleet.ensure(&services);
            // Also when one of them did not start: the others run.
            print!("{}", state::exports(&fleet.state().environment()));
            started
        }
        "down" => {
            Fleet::sweep(&cache)?;
            Fleet::open(&cache, UP)?.stop(&services)
        }
        "status" => fleet::status(&cache, UP),
        other => bail!("unknown command {other}\n{HELP}"),
    }
}

/// The program of NATS, if it is there.
pub(crate) fn nats_program() -> Option<PathBuf> {
    nats::find(&Cache::open().ok()?)
}

/// The services of these names; all if there are none.
fn named(names: &[String]) -> anyhow::Result<Vec<Service>> {
    if names.is_empty() {
        return Ok(Service::ALL.to_vec());
    }
    let service = |name: &String| Service::ALL.into_iter().find(|service| service.name() == name);
    let services = names
        .iter()
        .map(|name| service(name).with_context(|| format!("unknown service {name}\n{HELP}")));
    services.collect()
}

/// Installs them and returns those that are there. What cannot be had is left out, or an error if it is wanted by name.
fn install(cache: &Cache, services: &[Service], any: bool) -> anyhow::Result<Vec<Service>> {
    let mut there = Vec::new();
    for service in services {
        match service.install(cache) {
            Ok(()) => there.push(*service),
            Err(error) if any && !crate::interrupt::asked() => {
                eprintln!("xtask: {} is left out: {error:#}", service.name());
            }
            Err(error) => return Err(error.context(format!("{} cannot be had", service.name()))),
        }
    }
    Ok(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_chosen_by_name() {
        assert_eq!(named(&[]).unwrap(), Service::ALL);
        let names = ["nats", "postgres"].map(str::to_owned);
        assert_eq!(named(&names).unwrap(), [Service::Nats, Service::Postgres]);
        let error = named(&["mysql".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("unknown service mysql"), "{error}");
    }
}
