//! A Postgres server for tests: own data directory, a port on 127.0.0.1, nothing left afterwards.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// Name of the log in a server's directory.
pub const LOG: &str = "server.log";

/// A server that is stopped when dropped.
#[derive(Debug)]
pub struct Server {
    cluster: Cluster,
    _directory: TempDir,
}

impl Server {
    /// Starts a server if `initdb` and `pg_ctl` are installed.
    ///
    /// # Errors
    /// If the programs are there but the server does not start.
    pub fn start() -> anyhow::Result<Option<Self>> {
        let Some(programs) = programs() else {
            return Ok(None);
        };
        let directory = tempfile::Builder::new().prefix("claudemesh-postgres-").tempdir()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let cluster = Cluster::create(programs, directory.path(), port)?;
        cluster.launch()?;
        Ok(Some(Self {
            cluster,
            _directory: directory,
        }))
    }

    /// What to do with it.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.cluster.stop("immediate") {
            eprintln!("Postgres was not stopped: {error:#}");
        }
    }
}

/// A server's data, and where it listens. Whoever launches it stops it.
#[derive(Debug)]
pub struct Cluster {
    programs: PathBuf,
    directory: PathBuf,
    port: u16,
}

impl Cluster {
    /// Makes the data in a directory that is empty. For root, it is given to the user `postgres`.
    ///
    /// # Errors
    /// If `initdb` fails.
    pub fn create(programs: PathBuf, directory: &Path, port: u16) -> anyhow::Result<Self> {
        let directory = directory.to_owned();
        if is_root()? {
            // The server refuses to run as root; Debian's package brings the user.
            run(Command::new("chown").arg("postgres").arg(&directory))?;
        }
        let cluster = Self {
            programs,
            directory,
            port,
        };
        run(cluster
            .command("initdb")?
            .args([
                "--username=claudemesh",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--pgdata",
            ])
            .arg(cluster.data()))?;
        Ok(cluster)
    }

    /// Starts the server in a session of its own, also once more after [`Cluster::stop`], at the same address.
    ///
    /// # Errors
    /// If it does not answer within a minute.
    pub fn launch(&self) -> anyhow::Result<()> {
        let options = format!(
            "-h 127.0.0.1 -p {} -k {} -c max_connections=300",
            self.port,
            self.directory.display()
        );
        run(self
            .command("pg_ctl")?
            .arg("--pgdata")
            .arg(self.data())
            .args(["--wait", "--timeout=60", "--silent"])
            .args(["--options", &options, "--log"])
            .arg(self.directory.join(LOG))
            .arg("start"))
    }

    /// Stops the server: `fast` ends its connections in order, `immediate` is a crash.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&self, mode: &str) -> anyhow::Result<()> {
        run(self.command("pg_ctl")?.arg("--pgdata").arg(self.data()).args([
            &format!("--mode={mode}"),
            "--silent",
            "stop",
        ]))
    }

    /// Where to connect: a database whose user may create others.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://claudemesh@127.0.0.1:{}/postgres", self.port)
    }

    /// Id of the server's first process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        file.lines().next()?.parse().ok()
    }

    fn data(&self) -> PathBuf {
        self.directory.join("cluster")
    }

    fn command(&self, program: &str) -> anyhow::Result<Command> {
        let path = self.programs.join(program);
        let mut command = if is_root()? {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
                .arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(&self.directory).stdout(Stdio::null());
        Ok(command)
    }
}

/// The folder with `initdb` and `pg_ctl`: on the path, else the newest of Debian's versions. `None` if they are not
/// installed.
#[must_use]
pub fn programs() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH")?;
    let mut folders: Vec<PathBuf> = std::env::split_paths(&on_path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<_> = versions.flatten().map(|entry| entry.path()).collect();
        versions.sort();
        folders.extend(versions.into_iter().rev().map(|version| version.join("bin")));
    }
    let has = |folder: &Path| folder.join("initdb").exists() && folder.join("pg_ctl").exists();
    folders.into_iter().find(|folder| has(folder))
}

fn is_root() -> anyhow::Result<bool> {
    let id = Command::new("id")
        .arg("-u")
        .output()
        .context("asking for the user id")?;
    Ok(id.stdout.trim_ascii() == b"0")
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("running {:?}", command.get_program()))?;
    if !status.success() {
        bail!(
            "{:?} {:?} failed: {status}",
            command.get_program(),
            command.get_args().collect::<Vec<_>>()
        );
    }
    Ok(())
}
