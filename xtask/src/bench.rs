//! Builds the broker and its load driver for release, and runs the driver.

use std::process::Command;

use anyhow::{Context as _, bail};
use claudemesh_testkit::postgres_server::Server;

use crate::services;

/// Runs `claudemesh-bench`. Without `--write` its report goes to `docs/benchmarks.md` if all scenarios run, else to the
/// terminal.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let cargo = env!("CARGO");
    let mut build = Command::new(cargo);
    build.args([
        "build",
        "--release",
        "--package",
        "claudemesh-broker",
        "--package",
        "claudemesh-bench",
    ]);
    if !build.status().context("running cargo build")?.success() {
        bail!("the build failed");
    }
    let mut bench = Command::new(cargo);
    bench
        .args(["run", "--release", "--quiet", "--package", "claudemesh-bench", "--"])
        .args(arguments);
    let names_scenarios = arguments
        .iter()
        .any(|argument| argument.starts_with(char::is_alphabetic));
    if !names_scenarios && !arguments.iter().any(|argument| argument == "--write") {
        bench.args(["--write", "docs"]);
    }
    let server = Server::start().context("starting Postgres for the benchmark")?;
    if let Some(server) = &server {
        bench.env("CLAUDEMESH_BENCH_POSTGRES_URL", server.cluster().url());
        if let Some(pid) = server.cluster().pid() {
            bench.env("CLAUDEMESH_BENCH_POSTGRES_PID", pid.to_string());
        }
    }
    const NATS: &str = "CLAUDEMESH_BENCH_NATS_SERVER";
    if let Some(program) = services::nats_program().filter(|_| std::env::var_os(NATS).is_none()) {
        bench.env(NATS, program);
    }
    let status = bench.status().context("running the driver");
    drop(server);
    if !status?.success() {
        bail!("the benchmark failed");
    }
    Ok(())
}
