//! Runs the fault tests with their full numbers and writes what they measured into `docs/reliability.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use claudemesh_testkit::postgres_server::Server;

/// What the figures stand between.
const BEGIN: &str = "<!-- figures: begin, written by cargo xtask reliability -->";
const END: &str = "<!-- figures: end -->";
/// The full numbers; the tests' own are small.
const FULL: &[(&str, &str)] = &[
    ("CLAUDEMESH_KILLS", "50"),
    ("CLAUDEMESH_CUT_RUNS", "20"),
    ("CLAUDEMESH_CUT_MESSAGES", "4000"),
    ("CLAUDEMESH_CLIENT_KILLS", "20"),
    ("CLAUDEMESH_OUTAGE_SECONDS", "30"),
    ("CLAUDEMESH_HERD", "1000"),
    ("CLAUDEMESH_SLOW_SECONDS", "10"),
];
/// The tables, in their order: what the tests call them, and their headings.
const TABLES: &[(&str, &str)] = &[
    ("kills", "The broker killed under load"),
    ("cuts", "Receivers' sockets cut under load"),
    ("client kills", "Receiving programs killed"),
    ("persistent", "Programs with a persistent inbox killed"),
    ("outage", "The store away and back"),
    ("slow reader", "A client that does not read"),
    ("herd", "Everybody comes back at once"),
];

/// `cargo xtask reliability [--dev] [--render] [TEST …]`: all tests in release, or those whose names contain one of the
/// words. `--dev` takes the development build; `--render` runs nothing and writes what earlier runs measured.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let figures = figures_file(&root)?;
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    if !has("--render") {
        let names: Vec<_> = arguments
            .iter()
            .filter(|argument| !argument.starts_with("--"))
            .collect();
        if names.is_empty() && figures.exists() {
            std::fs::remove_file(&figures).context("forgetting earlier figures")?;
        }
        measure(&names, has("--dev"), &figures)?;
    }
    write(&root.join("docs/reliability.md"), &figures)
}

fn figures_file(root: &Path) -> anyhow::Result<PathBuf> {
    let directory = root.join("target");
    std::fs::create_dir_all(&directory)?;
    Ok(std::path::absolute(directory.join("reliability.tsv"))?)
}

fn measure(names: &[&String], dev: bool, figures: &Path) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--package", "claudemesh-broker", "--test", "faults"]);
    if !dev {
        cargo.arg("--release");
    }
    // One after the other: they measure.
    cargo.args(["--", "--test-threads=1", "--nocapture"]).args(names);
    cargo.envs(FULL.iter().copied()).env("CLAUDEMESH_FIGURES", figures);
    let server = Server::start().context("starting Postgres")?;
    match &server {
        Some(server) => {
            cargo
                .arg("--include-ignored")
                .env("CLAUDEMESH_TEST_POSTGRES_URL", server.cluster().url());
        }
        None => eprintln!("xtask: no Postgres programs found: its tests are left out"),
    }
    let status = cargo.status().context("running cargo test")?;
    drop(server);
    if !status.success() {
        bail!("tests failed; docs/reliability.md stays as it is");
    }
    Ok(())
}

/// Puts the figures between their marks.
fn write(document: &Path, figures: &Path) -> anyhow::Result<()> {
    let lines = std::fs::read_to_string(figures).context("nothing was measured yet")?;
    let text = std::fs::read_to_string(document)?;
    let (before, rest) = text
        .split_once(BEGIN)
        .context("docs/reliability.md has no mark for figures")?;
    let (_, after) = rest.split_once(END).context("docs/reliability.md has no second mark")?;
    let tables = tables(&lines);
    std::fs::write(document, format!("{before}{BEGIN}\n{tables}\n{END}{after}"))?;
    Ok(())
}

/// One table per test, a row for each run.
fn tables(lines: &str) -> String {
    let mut text = machine();
    let mut tests: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    for line in lines.lines() {
        let mut fields = line.split('\t');
        let Some(test) = fields.next() else { continue };
        let fields: Vec<_> = fields.collect();
        tests.entry(test).or_default().push(fields);
    }
    for (test, heading) in TABLES {
        let Some(rows) = tests.get(test) else { continue };
        let _written = write!(text, "\n### {heading}\n");
        let names: Vec<_> = rows[0].iter().step_by(2).copied().collect();
        let _written = write!(text, "\n| {} |\n|{}\n", names.join(" | "), "---|".repeat(names.len()));
        for row in rows {
            let values: Vec<_> = row.iter().skip(1).step_by(2).copied().collect();
            let _written = writeln!(text, "| {} |", values.join(" | "));
        }
    }
    text
}

/// What it was measured on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':'))
            .map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "\nMachine: {}, {cores} cores, {} of memory, Linux {}. Broker, database and clients share it.\n",
        after(&read("/proc/cpuinfo"), "model name"),
        after(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}
