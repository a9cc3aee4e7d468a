//! A Postgres server for one run: own data directory, free port on 127.0.0.1, gone afterwards.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// A running server; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    port: u16,
}

/// Starts a server if `initdb` and `pg_ctl` are installed.
///
/// # Errors
/// If the programs are there but the server does not start.
pub(crate) fn start() -> anyhow::Result<Option<Postgres>> {
    let Some(programs) = find_programs() else {
        return Ok(None);
    };
    let data = std::env::temp_dir().join(format!("claudemesh-postgres-{}", std::process::id()));
    std::fs::create_dir_all(&data)?;
    if is_root()? {
        // The server refuses to run as root; Debian's package brings the user.
        run(Command::new("chown").arg("postgres").arg(&data))?;
    }
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let server = Postgres { programs, data, port };
    run(server
        .command("initdb")?
        .args([
            "--username=claudemesh",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--pgdata",
        ])
        .arg(server.cluster()))?;
    server.launch()?;
    Ok(Some(server))
}

impl Postgres {
    /// Starts the server, also once more after [`Postgres::stop`], at the same address.
    ///
    /// # Errors
    /// If it does not answer within a minute.
    pub(crate) fn launch(&self) -> anyhow::Result<()> {
        let options = format!(
            "-h 127.0.0.1 -p {} -k {} -c max_connections=300",
            self.port,
            self.data.display()
        );
        run(self
            .command("pg_ctl")?
            .arg("--pgdata")
            .arg(self.cluster())
            .args(["--wait", "--timeout=60", "--silent"])
            .args(["--options", &options, "--log"])
            .arg(self.data.join("server.log"))
            .arg("start"))
    }

    /// Stops the server: `fast` ends its connections in order, `immediate` is a crash.
    ///
    /// # Errors
    /// If it does not end.
    pub(crate) fn stop(&self, mode: &str) -> anyhow::Result<()> {
        run(self.command("pg_ctl")?.arg("--pgdata").arg(self.cluster()).args([
            &format!("--mode={mode}"),
            "--silent",
            "stop",
        ]))
    }

    /// Where to connect.
    pub(crate) fn url(&self) -> String {
        format!("postgres://claudemesh@127.0.0.1:{}/postgres", self.port)
    }

    /// Id of the server's first process.
    pub(crate) fn pid(&self) -> Option<String> {
        let file = std::fs::read_to_string(self.cluster().join("postmaster.pid")).ok()?;
        file.lines().next().map(str::to_owned)
    }

    fn cluster(&self) -> PathBuf {
        self.data.join("cluster")
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
        command.current_dir(&self.data).stdout(Stdio::null());
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.stop("immediate") {
            eprintln!("xtask: Postgres was not stopped: {error:#}");
        }
        if let Err(error) = std::fs::remove_dir_all(&self.data) {
            eprintln!("xtask: {} stays behind: {error}", self.data.display());
        }
    }
}

/// The folder with `initdb` and `pg_ctl`: on the path, else the newest of Debian's versions.
fn find_programs() -> Option<PathBuf> {
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
