//! A git server on this machine: the smart protocol over HTTP, answered by git itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A repository, and a server for it.
pub struct GitServer {
    work: TempDir,
    port: u16,
}

impl GitServer {
    pub async fn start() -> Self {
        let work = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { work, port };
        server.git(&["init", "--quiet", "--initial-branch=main"]);
        let repository = server.path("");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, repository.clone()));
            }
        });
        server
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.work.path().join(path)
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Commits everything, and gives the commit.
    pub fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "x"]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    pub fn git(&self, words: &[&str]) -> String {
        let identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"];
        let output = Command::new("git")
            .args(identity)
            .args(words)
            .current_dir(self.work.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Address of the repository; under any name but `elsewhere`, which leads to another address.
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/team/{name}.git", self.port)
    }
}

async fn serve(mut stream: TcpStream, repository: PathBuf) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let first = head.lines().next()?;
    let answer = if first.contains("/elsewhere.git") {
        let place = first.split(' ').nth(1)?.replace("elsewhere", "review");
        format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
    } else if first.starts_with("GET") && first.contains("/info/refs?service=git-upload-pack") {
        let mut refs = b"001e# service=git-upload-pack\n0000".to_vec();
        refs.extend(upload_pack(repository, &["--advertise-refs"], Vec::new()).await);
        ok("application/x-git-upload-pack-advertisement", refs)
    } else if first.starts_with("POST") && first.contains("/git-upload-pack") {
        assert!(!head.to_ascii_lowercase().contains("content-encoding"), "not needed for so little");
        ok("application/x-git-upload-pack-result", upload_pack(repository, &[], body).await)
    } else {
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()
    };
    stream.write_all(&answer).await.ok()
}

fn ok(kind: &str, body: Vec<u8>) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: no-cache\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut answer = head.into_bytes();
    answer.extend(body);
    answer
}

async fn upload_pack(repository: impl AsRef<Path>, words: &[&str], body: Vec<u8>) -> Vec<u8> {
    let mut child = tokio::process::Command::new("git")
        .args(["upload-pack", "--stateless-rpc"])
        .args(words)
        .arg(repository.as_ref())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&body).await.unwrap();
    child.wait_with_output().await.unwrap().stdout
}
