//! The servers of one file of state.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};

use super::cache::Cache;
use super::process::{ProcessId, Vain, tail, wait_until};
use super::state::{DATA_PREFIX, Server, State};
use super::{LOG, Service, Started};

/// How often a server that lost its port to another program is started anew.
const TRIES: usize = 3;
/// How long a server may take to end in order.
const FAREWELL: Duration = Duration::from_secs(30);
/// How the files of servers are called that end with a process.
const RUN_PREFIX: &str = "run-";

/// Servers that are started and ended together. One process at a time has them.
#[derive(Debug)]
pub(crate) struct Fleet {
    cache: Cache,
    file: PathBuf,
    state: State,
    _lock: File,
}

impl Fleet {
    /// Those of this file. Those that have ended in the meantime are forgotten, and their data are removed.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn open(cache: &Cache, name: &str) -> anyhow::Result<Self> {
        let lock = cache.lock(name)?;
        let file = cache.path(name);
        let mut fleet = Self {
            cache: cache.clone(),
            state: State::load(&file)?,
            file,
            _lock: lock,
        };
        for server in fleet.state.servers.clone() {
            if !server.process.is_running() {
                eprintln!("xtask: {} has ended by itself", server.service.name());
                fleet.forget(&server)?;
            }
        }
        Ok(fleet)
    }

    /// New ones for this process alone; they end when the value is dropped. Those that another process has left behind
    /// are ended first.
    ///
    /// # Errors
    /// If there is no place for the file.
    pub(crate) fn of_this_process() -> anyhow::Result<OwnFleet> {
        let cache = Cache::open()?;
        Self::sweep(&cache)?;
        let mut fleet = Self::open(&cache, &format!("{RUN_PREFIX}{}.json", std::process::id()))?;
        fleet.state.owner = ProcessId::of(std::process::id());
        Ok(OwnFleet(fleet))
    }

    /// Ends what processes have left behind that could not do it themselves.
    ///
    /// # Errors
    /// If a server does not end.
    pub(super) fn sweep(cache: &Cache) -> anyhow::Result<()> {
        for name in runs(cache)? {
            if !State::load(&cache.path(&name))?.is_left_behind() {
                continue;
            }
            let mut fleet = Self::open(cache, &name)?;
            // It may have been another process's turn in the meantime.
            if fleet.state.is_left_behind() {
                fleet.end_run()?;
            }
        }
        Ok(())
    }

    /// What runs.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Starts those that are installed and do not run yet, and waits until all of them serve.
    ///
    /// # Errors
    /// With every one that does not serve; the others do.
    pub(super) fn ensure(&mut self, services: &[Service]) -> anyhow::Result<()> {
        let mut problems = Vec::new();
        let mut waiting = Vec::new();
        // All are started before the first is waited for: one of them takes much longer than the others.
        for service in services {
            let there = self.state.find(*service).cloned();
            match there.map_or_else(|| self.start(*service), Ok) {
                Ok(server) => waiting.push(server),
                Err(error) => problems.push(error),
            }
        }
        for server in waiting {
            if let Err(error) = self.until_ready(server) {
                problems.push(error);
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => {
                let problems: Vec<_> = problems.iter().map(|error| format!("{error:#}")).collect();
                Err(anyhow!(problems.join("\n")))
            }
        }
    }

    /// Ends these and removes their data.
    ///
    /// # Errors
    /// With every one that does not end.
    pub(super) fn stop(&mut self, services: &[Service]) -> anyhow::Result<()> {
        let mut problems = Vec::new();
        for server in self.state.servers.clone() {
            if services.contains(&server.service)
                && let Err(error) = self.end(&server)
            {
                problems.push(format!("{}: {error:#}", server.service.name()));
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => bail!(problems.join("\n")),
        }
    }

    /// Ends all, and removes what only one process needs.
    fn end_run(&mut self) -> anyhow::Result<()> {
        self.stop(&Service::ALL)?;
        let lock = self.file.with_extension("json.lock");
        std::fs::remove_file(&lock).with_context(|| format!("removing {}", lock.display()))
    }

    fn start(&mut self, service: Service) -> anyhow::Result<Server> {
        let mut tries_left = TRIES;
        loop {
            tries_left -= 1;
            match self.start_once(service) {
                Err(error) if tries_left > 0 && lost_its_port(&format!("{error:#}")) => {}
                done => return done,
            }
        }
    }

    fn start_once(&mut self, service: Service) -> anyhow::Result<Server> {
        let name = service.name();
        let context = || format!("{name} does not start");
        let address = free_address().with_context(context)?;
        let directory = tempfile::Builder::new()
            .prefix(&format!("{DATA_PREFIX}{name}-"))
            .tempdir()
            .with_context(context)?;
        let Started { process, environment } =
            service.start(&self.cache, directory.path(), address).with_context(|| {
                format!(
                    "{}; {}",
                    context(),
                    self.last_words(service, &directory.path().join(LOG))
                )
            })?;
        let server = Server {
            service,
            process,
            address,
            directory: directory.keep(),
            environment: environment
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        };
        // Written down before it serves: if this process is ended while it waits, the server is found again.
        self.state.servers.push(server.clone());
        self.state.save(&self.file).with_context(context)?;
        Ok(server)
    }

    fn until_ready(&mut self, mut server: Server) -> anyhow::Result<()> {
        let service = server.service;
        let name = service.name();
        for tries_left in (0..TRIES).rev() {
            let vain = match wait_until(&server.process, service.patience(), || service.is_ready(server.address)) {
                Ok(()) => {
                    eprintln!(
                        "xtask: {name} serves at {}, log in {}",
                        server.address,
                        server.log().display()
                    );
                    return Ok(());
                }
                Err(vain) => vain,
            };
            let end = self.last_words(service, &server.log());
            let problem = match vain {
                Vain::Ended => format!("{name} has ended; {end}"),
                Vain::TooLong => format!("{name} does not serve after {} s; {end}", service.patience().as_secs()),
                Vain::Interrupted => format!("{name}: interrupted"),
            };
            self.end(&server).context(problem.clone())?;
            if vain != Vain::Ended || !lost_its_port(&end) || tries_left == 0 {
                bail!(problem);
            }
            server = self.start(service)?;
        }
        Ok(())
    }

    /// How the log of a server ends that does not work. It is kept: the server's data are not.
    fn last_words(&self, service: Service, log: &Path) -> String {
        let kept = self.cache.path(&format!("{}-failed.log", service.name()));
        match std::fs::copy(log, &kept) {
            Ok(_) => tail(&kept),
            Err(_) => tail(log),
        }
    }

    fn end(&mut self, server: &Server) -> anyhow::Result<()> {
        server.process.stop(server.service.gentle_signal(), FAREWELL)?;
        self.forget(server)
    }

    fn forget(&mut self, server: &Server) -> anyhow::Result<()> {
        server.remove_data()?;
        self.state.servers.retain(|other| other != server);
        self.state.save(&self.file)
    }
}

/// Servers that end with the value.
#[derive(Debug)]
pub(crate) struct OwnFleet(Fleet);

impl OwnFleet {
    /// Starts those of the services that are installed, and tells which are not.
    ///
    /// # Errors
    /// With every one that is installed and does not serve.
    pub(crate) fn start_installed(&mut self, services: &[Service]) -> anyhow::Result<()> {
        let (there, missing) = services
            .iter()
            .partition::<Vec<Service>, _>(|service| service.is_installed(&self.0.cache));
        for service in missing {
            let name = service.name();
            eprintln!("xtask: {name} is not installed (`cargo xtask services install {name}`): no tests with it");
        }
        self.0.ensure(&there)
    }

    /// What tests need to know of them.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.state.environment().into_iter()
    }
}

impl Drop for OwnFleet {
    fn drop(&mut self) {
        if let Err(error) = self.0.end_run() {
            eprintln!("xtask: not everything was ended: {error:#}");
        }
    }
}

/// Prints what runs.
///
/// # Errors
/// If a file of state cannot be read.
pub(super) fn status(cache: &Cache, up: &str) -> anyhow::Result<()> {
    let state = State::load(&cache.path(up))?;
    for service in Service::ALL {
        let name = service.name();
        match state.find(service) {
            Some(server) => println!("{}", describe(server)),
            None if service.is_installed(cache) => println!("{name:<9} not started"),
            None => println!("{name:<9} not installed"),
        }
    }
    for run in runs(cache)? {
        let state = State::load(&cache.path(&run))?;
        let of = state.owner.as_ref().map_or(0, |owner| owner.pid);
        let end = if state.is_left_behind() {
            "has ended: `down` ends them"
        } else {
            "runs"
        };
        for server in &state.servers {
            println!("{} (of process {of}, which {end})", describe(server));
        }
    }
    Ok(())
}

fn describe(server: &Server) -> String {
    let Server {
        service,
        process,
        address,
        ..
    } = server;
    let state = match process.is_running() {
        false => "ended",
        true if service.is_ready(*address) => "serves",
        true => "not ready",
    };
    format!(
        "{:<9} {state:<9} {address}, process {}, log in {}",
        service.name(),
        process.pid,
        server.log().display()
    )
}

/// The files of servers that end with a process.
fn runs(cache: &Cache) -> anyhow::Result<Vec<String>> {
    let names = std::fs::read_dir(cache.path("."))?.flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names
        .filter(|name| name.starts_with(RUN_PREFIX) && name.ends_with(".json"))
        .collect())
}

/// Whether another program took the port between its choice and its use.
fn lost_its_port(log: &str) -> bool {
    log.to_lowercase().contains("address already in use")
}

/// A port of 127.0.0.1 that nobody has at the moment.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
