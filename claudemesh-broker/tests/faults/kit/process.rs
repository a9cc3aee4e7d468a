//! A broker program of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How to start the program.
pub(crate) struct Setting {
    pub(crate) addr: SocketAddr,
    /// Where its data and its log are.
    pub(crate) directory: PathBuf,
    /// A SQLite file in the directory if absent.
    pub(crate) database: Option<String>,
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Setting {
    pub(crate) fn new(directory: &Path, database: Option<&str>) -> Self {
        Self {
            addr: TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
            directory: directory.to_owned(),
            database: database.map(str::to_owned),
            variables: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, variable: &'static str, value: impl ToString) -> Self {
        self.variables.push((variable, value.to_string()));
        self
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.addr)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("broker.log")
    }

    /// Starts it and waits until it serves.
    pub(crate) async fn start(&self) -> Process {
        let mut process = self.spawn();
        let started = Instant::now();
        while process.health("/health").await.0 != 200 {
            if let Some(status) = process.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                panic!("the broker ended with {status}: {log}");
            }
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "the broker does not get ready"
            );
            sleep(Duration::from_millis(10)).await;
        }
        process
    }

    fn spawn(&self) -> Process {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        // The signal of a file that would get too large would end it; an operator's limit does not do that either.
        let mut command = Command::new("/bin/sh");
        command
            .args([
                "-c",
                "trap '' XFSZ; exec \"$0\"",
                env!("CARGO_BIN_EXE_claudemesh-broker"),
            ])
            .env_clear()
            .env("BROKER_HOST", self.addr.ip().to_string())
            .env("BROKER_PORT", self.addr.port().to_string())
            .env("BROKER_DATA_DIR", self.data())
            .env("RUST_LOG", "info")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(database) = &self.database {
            command.env("DATABASE_URL", database);
        }
        Process {
            child: command.spawn().unwrap(),
            addr: self.addr,
        }
    }
}

/// A running broker; killed when dropped.
pub(crate) struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Status and text of a plain request; 0 if there is no answer.
    pub(crate) async fn health(&self, path: &str) -> (u16, String) {
        let request = async {
            let mut stream = TcpStream::connect(self.addr).await?;
            stream
                .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
                .await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = match timeout(Duration::from_secs(10), request).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => return (0, String::new()),
        };
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_default(), answer)
    }

    /// SIGKILL: nothing is said, nothing is flushed.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}
