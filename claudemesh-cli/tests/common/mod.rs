//! Runs the real binary with configuration directories of its own.
#![allow(dead_code, unreachable_pub)]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A person: a configuration directory.
pub struct Person {
    pub dir: PathBuf,
    _home: TempDir,
}

/// What a run of the program printed.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The one JSON document on standard output.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The error document on standard error.
    pub fn error(&self) -> Value {
        let line = self.stderr.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl Person {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self {
            dir: home.path().join("config"),
            _home: home,
        }
    }

    pub fn home(&self) -> &Path {
        self._home.path()
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claudemesh"));
        command
            .args(words)
            .env_clear()
            .env("HOME", self.home())
            .env("USER", "tester");
        command.env("CLAUDEMESH_CONFIG_DIR", &self.dir).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, words: &[&str]) -> Run {
        self.run_with(words, &[])
    }

    pub fn run_with(&self, words: &[&str], variables: &[(&str, &str)]) -> Run {
        let output = self.command(words).envs(variables.iter().copied()).output().unwrap();
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs the program with `--json`, expects success, and returns the document.
    pub fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let run = self.run(&words);
        assert_eq!(run.code, 0, "{words:?}: {run:?}");
        run.json()
    }

    /// Starts the program and reads its standard output line by line.
    pub fn start(&self, words: &[&str]) -> Running {
        let mut child = self
            .command(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = read_lines(child.stdout.take().unwrap());
        Running { child, lines }
    }
}

fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A program that runs beside the test. Killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// The first JSON line that `wanted` accepts.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => match serde_json::from_str::<Value>(&line) {
                    Ok(value) if wanted(&value) => return value,
                    _ => {}
                },
                Err(RecvTimeoutError::Timeout) => panic!("no {what} within a minute"),
                Err(RecvTimeoutError::Disconnected) => panic!("the program ended before {what}"),
            }
        }
    }

    /// Sends a signal by name and waits for the end; returns the exit code.
    pub fn stop(mut self, signal: &str) -> i32 {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `up --json` on a free port, and its first line.
pub fn up(person: &Person, words: &[&str]) -> (Running, Value) {
    let data = person.home().join("data");
    let data = data.to_str().unwrap();
    let mut all = vec!["up", "--json", "--data-dir", data, "--port", "0"];
    all.extend(words);
    let running = person.start(&all);
    let ready = running.wait_for("ready", |line| line["event"] == "ready");
    (running, ready)
}
