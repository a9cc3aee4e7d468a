//! Runs the tests, with a Postgres server where there is one.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::postgres;

/// Names the server that the Postgres half of the store's tests runs on.
const POSTGRES_URL: &str = "CLAUDEMESH_TEST_POSTGRES_URL";

/// Runs `cargo test --workspace`. With a Postgres server (one that is named by the environment, else one that is started
/// for the run) the tests that need it are not ignored.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--workspace", "--no-fail-fast"]);
    let (before, after) = split(arguments);
    cargo.args(before).arg("--").args(after);
    let mut server = None;
    if std::env::var_os(POSTGRES_URL).is_some() {
        cargo.arg("--include-ignored");
    } else if let Some(started) = postgres::start().context("starting Postgres for the tests")? {
        cargo.arg("--include-ignored").env(POSTGRES_URL, started.url());
        server = Some(started);
    } else {
        eprintln!(
            "xtask: no Postgres programs found: its tests are reported as ignored (set {POSTGRES_URL} to name a server)"
        );
    }
    let status = cargo.status().context("running cargo test")?;
    drop(server);
    if !status.success() {
        bail!("tests failed");
    }
    Ok(())
}

/// Arguments for cargo, and those after `--` for the test programs.
fn split(arguments: &[String]) -> (&[String], &[String]) {
    match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[]),
    }
}
