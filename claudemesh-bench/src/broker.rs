//! The real broker as a child process, with a data directory of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::process;

/// Where the broker keeps its rows.
#[derive(Clone, Debug)]
pub(crate) enum StoreKind {
    /// A SQLite file in the data directory.
    Sqlite,
    /// A Postgres database. With the id of the server's first process its CPU time counts as the broker's.
    Postgres {
        /// Where.
        url: String,
        /// First process of the server.
        pid: Option<u32>,
    },
}

/// A running broker. Killed when dropped.
pub(crate) struct Broker {
    child: Child,
    pid: u32,
    store: StoreKind,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// How long it took from its start until it said that it is ready.
    pub(crate) ready: Duration,
}

/// A directory under `target`, on the disk of the checkout, that is removed at the end.
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// A new one.
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let root = std::env::current_exe()?;
        let root = root
            .parent()
            .and_then(Path::parent)
            .context("the program is not in a target directory")?;
        let path = root.join("bench").join(format!("{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Bytes of all files in it.
    pub(crate) fn bytes(&self) -> u64 {
        let Ok(files) = std::fs::read_dir(&self.0) else {
            return 0;
        };
        files
            .flatten()
            .filter_map(|file| file.metadata().ok())
            .map(|file| file.len())
            .sum()
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // What stays behind is found under `target`.
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

impl Broker {
    /// Starts the broker program that lies beside this one, with every limit out of the way.
    pub(crate) async fn start(data: &DataDir, store: &StoreKind) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("claudemesh-broker");
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut command = Command::new(&program);
        command
            .env("BROKER_HOST", "127.0.0.1")
            .env("BROKER_PORT", port.to_string())
            .env("BROKER_DATA_DIR", data.path())
            .env(
                "RUST_LOG",
                std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()),
            )
            .env("MAX_CONNECTIONS_PER_MESH", "100000")
            .env("MAX_UNAUTHENTICATED_SOCKETS", "100000")
            .env("ENROL_RATE_LIMIT_PER_MIN", "1000000")
            .env("GRAPH_TIMEOUT_MS", "60000")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for class in ["READ", "WRITE", "MESSAGE", "HEAVY"] {
            command.env(format!("RATE_LIMIT_{class}_PER_SEC"), "1000000");
            command.env(format!("RATE_LIMIT_{class}_BURST"), "1000000");
        }
        match store {
            StoreKind::Sqlite => command.env_remove("DATABASE_URL"),
            StoreKind::Postgres { url, .. } => command.env("DATABASE_URL", url),
        };
        let started = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let pid = child.id().context("the broker ended at once")?;
        while !is_ready(address).await {
            if let Some(status) = child.try_wait()? {
                bail!("the broker ended: {status}");
            }
            if started.elapsed() > Duration::from_secs(60) {
                bail!("the broker is not ready after a minute");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Self {
            child,
            pid,
            store: store.clone(),
            address,
            ready: started.elapsed(),
        })
    }

    /// Its address for programs.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// CPU time of the broker, and of the database server if it uses one.
    pub(crate) fn cpu(&self) -> Duration {
        let store = match &self.store {
            StoreKind::Postgres { pid: Some(pid), .. } => process::cpu_of_tree(*pid),
            _ => Duration::ZERO,
        };
        process::cpu(self.pid) + store
    }

    /// Its resident memory in bytes: now, and the most there was.
    pub(crate) fn memory(&self) -> (u64, u64) {
        process::memory(self.pid)
    }

    /// Asks it to stop and waits for it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.pid.to_string()).status().await?;
        if tokio::time::timeout(Duration::from_secs(20), self.child.wait())
            .await
            .is_err()
        {
            bail!("the broker does not stop");
        }
        Ok(())
    }
}

async fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return false;
    };
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let asked = stream.write_all(request.as_bytes()).await;
    asked.is_ok() && stream.read_to_string(&mut answer).await.is_ok() && answer.starts_with("HTTP/1.1 200")
}
