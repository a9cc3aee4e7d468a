//! What was started, in a file: so that it is found again, and nothing else is ended.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::process::ProcessId;
use super::{LOG, Service};

/// How the directories of servers' data are called; nothing else is removed.
pub(crate) const DATA_PREFIX: &str = "claudemesh-";

/// A server that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Server {
    /// Which.
    pub(crate) service: Service,
    /// Its first process.
    pub(crate) process: ProcessId,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its data; goes with it.
    pub(crate) directory: PathBuf,
    /// What tests need to know of it.
    pub(crate) environment: BTreeMap<String, String>,
}

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The servers end with this process; absent if they stay until somebody ends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<ProcessId>,
    /// In the order in which they were started.
    pub(crate) servers: Vec<Server>,
}

impl State {
    /// Reads the file; one that is not there says that nothing was started.
    ///
    /// # Errors
    /// If it cannot be read, with its path.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} cannot be read; end the servers that it names by hand, then remove it",
                    path.display()
                )
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Writes the file, as a whole or not at all, for its owner alone; removes it when nothing is left to say.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let context = || format!("writing {}", path.display());
        if self.servers.is_empty() {
            return match std::fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(context),
                _ => Ok(()),
            };
        }
        let directory = path.parent().with_context(context)?;
        let mut file = tempfile::NamedTempFile::new_in(directory).with_context(context)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)
            .with_context(context)?;
        file.persist(path).with_context(context)?;
        Ok(())
    }

    /// The server of a service.
    pub(crate) fn find(&self, service: Service) -> Option<&Server> {
        self.servers.iter().find(|server| server.service == service)
    }

    /// Whether the process that the servers should end with has ended.
    pub(crate) fn is_left_behind(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| !owner.is_running())
    }

    /// The environment of all servers.
    pub(crate) fn environment(&self) -> BTreeMap<&str, &str> {
        let all = self.servers.iter().flat_map(|server| &server.environment);
        all.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

impl Server {
    /// What it writes to its terminal.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join(LOG)
    }

    /// Removes its data.
    ///
    /// # Errors
    /// If they stay.
    pub(crate) fn remove_data(&self) -> anyhow::Result<()> {
        let name = self.directory.file_name().map(|name| name.to_string_lossy());
        if !name.is_some_and(|name| name.starts_with(DATA_PREFIX)) {
            bail!("{} is no directory of a server for tests", self.directory.display());
        }
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Lines for a shell to evaluate.
pub(crate) fn exports(environment: &BTreeMap<&str, &str>) -> String {
    let quoted = |value: &str| value.replace('\'', r"'\''");
    environment
        .iter()
        .map(|(name, value)| format!("export {name}='{}'\n", quoted(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(directory: &Path) -> Server {
        Server {
            service: Service::Minio,
            process: ProcessId {
                pid: 1,
                started: "before".to_owned(),
            },
            address: ([127, 0, 0, 1], 9000).into(),
            directory: directory.to_owned(),
            environment: BTreeMap::from([("B".to_owned(), "it's".to_owned()), ("A".to_owned(), "1 2".to_owned())]),
        }
    }

    #[test]
    fn the_file_says_what_was_started_and_is_gone_when_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("up.json");
        assert_eq!(State::load(&path).unwrap(), State::default());
        let mut state = State {
            owner: None,
            servers: vec![server(directory.path())],
        };
        state.save(&path).unwrap();
        assert_eq!(State::load(&path).unwrap(), state);
        assert!(state.find(Service::Minio).is_some());
        assert_eq!(state.find(Service::Nats), None);
        state.servers.clear();
        state.save(&path).unwrap();
        state.save(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("up.json");
        std::fs::write(&path, "{").unwrap();
        let error = format!("{:#}", State::load(&path).unwrap_err());
        assert!(error.contains("up.json"), "{error}");
    }

    #[test]
    fn servers_are_left_behind_when_their_owner_has_ended() {
        let mut state = State::default();
        assert!(!state.is_left_behind());
        state.owner = ProcessId::of(std::process::id());
        assert!(state.owner.is_some() && !state.is_left_behind());
        state.owner = Some(server(Path::new("/x")).process);
        assert!(state.is_left_behind());
    }

    #[test]
    fn only_data_of_test_servers_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("claudemesh-minio-x");
        std::fs::create_dir(&data).unwrap();
        server(&data).remove_data().unwrap();
        server(&data).remove_data().unwrap();
        assert!(!data.exists());
        server(directory.path()).remove_data().unwrap_err();
        assert!(directory.path().exists());
    }

    #[test]
    fn a_shell_gets_the_values_as_they_are() {
        let state = State {
            owner: None,
            servers: vec![server(Path::new("/x"))],
        };
        assert_eq!(exports(&state.environment()), "export A='1 2'\nexport B='it'\\''s'\n");
    }
}
