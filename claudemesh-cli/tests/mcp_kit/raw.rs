//! The server as lines of text.

use super::{PATIENCE, Person};
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

pub struct Raw {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it wrote to standard error.
    log: Arc<Mutex<Vec<u8>>>,
    /// Every line so far.
    pub seen: Vec<Value>,
}

impl Raw {
    pub fn start(person: &Person) -> Self {
        let mut child = person
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Nobody may wait for a full pipe: with CLAUDEMESH_DEBUG the log is long.
        let mut stderr = child.stderr.take().unwrap();
        let log: Arc<Mutex<Vec<u8>>> = Arc::default();
        let kept = log.clone();
        tokio::spawn(async move {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut part).await {
                kept.lock().unwrap().extend_from_slice(&part[..length]);
            }
        });
        Self {
            stdin: child.stdin.take(),
            lines,
            child,
            log,
            seen: Vec::new(),
        }
    }

    pub async fn write(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        stdin.flush().await.unwrap();
    }

    /// Sends a request and returns the answer with its id.
    pub async fn ask(&mut self, id: Value, method: &str, params: Value) -> Value {
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string())
            .await;
        loop {
            let line = self.line().await.expect("the server ended");
            if line["id"] == id {
                return line;
            }
        }
    }

    /// The next line; `None` at the end. Every line must be one of the protocol.
    pub async fn line(&mut self) -> Option<Value> {
        let line = timeout(PATIENCE, self.lines.next_line()).await.unwrap_or_else(|_| {
            let log = String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned();
            panic!("no line; its log: {log}")
        });
        let line = line.unwrap()?;
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no protocol: {line:?}"));
        assert_eq!(value["jsonrpc"], "2.0", "{line}");
        self.seen.push(value.clone());
        Some(value)
    }

    pub async fn initialize(&mut self, version: &str) -> Value {
        let params = json!({
            "protocolVersion": version,
            "capabilities": { "roots": { "listChanged": true }, "elicitation": { "form": {}, "url": {} } },
            "clientInfo": { "name": "claude-code", "version": "2.1.330" },
        });
        let answer = self.ask(json!(0), "initialize", params).await;
        self.write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
        answer["result"].clone()
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal and returns the exit code.
    pub async fn signal(&mut self, name: &str) -> i32 {
        let pid = self.child.id().unwrap().to_string();
        let sent = tokio::process::Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()
            .await
            .unwrap();
        assert!(sent.success());
        self.exit().await
    }

    pub async fn exit(&mut self) -> i32 {
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .expect("the server did not end")
            .unwrap();
        status.code().expect("the server was killed")
    }
}
