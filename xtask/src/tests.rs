//! Runs the tests, with the servers that are installed.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::interrupt;
use crate::services::{Fleet, Service};

/// Tests that are behind a feature of the broker, since what they test is.
struct ServerTests {
    /// The feature.
    feature: &'static str,
    /// The test program, a file of `claudemesh-broker/tests`.
    test: &'static str,
    /// The variable that names their server; without it they are ignored.
    variable: &'static str,
}

const SERVER_TESTS: &[ServerTests] = &[
    ServerTests {
        feature: "neo4j",
        test: "graph_neo4j",
        variable: "CLAUDEMESH_TEST_NEO4J_URL",
    },
    ServerTests {
        feature: "qdrant",
        test: "vectors_qdrant",
        variable: "QDRANT_URL",
    },
    ServerTests {
        feature: "s3",
        test: "blobs",
        variable: "CLAUDEMESH_TEST_S3_ENDPOINT",
    },
];
/// Names the server that the Postgres half of the workspace's tests runs on.
const POSTGRES_URL: &str = "CLAUDEMESH_TEST_POSTGRES_URL";
/// Which server a variable names, for those that are started.
const SERVERS: &[(&str, Service)] = &[
    (POSTGRES_URL, Service::Postgres),
    ("CLAUDEMESH_TEST_S3_ENDPOINT", Service::Minio),
    ("CLAUDEMESH_TEST_NEO4J_URL", Service::Neo4j),
    ("CLAUDEMESH_TEST_NATS_URL", Service::Nats),
];

/// `cargo xtask test [ARGS]`: `cargo test --workspace`, then the tests behind features of the broker, unless cargo gets
/// arguments. Servers that the environment does not name are started for the run if they are installed. Tests that need a
/// server that is not there are ignored.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let (before, after) = split(arguments);
    let rows = if before.is_empty() { SERVER_TESTS } else { &[] };
    let mut fleet = Fleet::of_this_process()?;
    let variables: BTreeSet<_> = rows.iter().map(|row| row.variable).chain([POSTGRES_URL]).collect();
    let unnamed = |variable: &str| variables.contains(variable) && !is_set(variable);
    let services = SERVERS.iter().filter(|(variable, _)| unnamed(variable));
    fleet.start_installed(&services.map(|(_, service)| *service).collect::<Vec<_>>())?;
    let environment: Vec<(String, String)> = fleet
        .environment()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let is_there = |variable: &str| is_set(variable) || environment.iter().any(|(name, _)| name == variable);
    let test = |cargo_arguments: &[&str], variable: &str| -> anyhow::Result<bool> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--no-fail-fast"]).args(cargo_arguments);
        if !cargo_arguments.iter().any(|argument| names_package(argument)) {
            cargo.arg("--workspace");
        }
        cargo.arg("--").args(after).envs(environment.iter().cloned());
        if is_there(variable) {
            cargo.arg("--include-ignored");
        }
        Ok(cargo.status().context("running cargo test")?.success())
    };

    let before: Vec<_> = before.iter().map(String::as_str).collect();
    let mut passed = test(&before, POSTGRES_URL)?;
    // Without any of the servers, building their clients would show nothing.
    if rows.iter().any(|row| is_there(row.variable)) {
        let features: BTreeSet<_> = rows
            .iter()
            .map(|row| format!("claudemesh-broker/{}", row.feature))
            .collect();
        let features = features.into_iter().collect::<Vec<_>>().join(",");
        for row in rows {
            if interrupt::asked() {
                break;
            }
            passed &= test(&["--features", &features, "--test", row.test], row.variable)?;
        }
    }
    drop(fleet);
    // At the end, where it is seen.
    for variable in variables.into_iter().filter(|variable| !is_there(variable)) {
        eprintln!("xtask: tests that need {variable} were not run");
    }
    if !passed || interrupt::asked() {
        bail!("tests failed");
    }
    Ok(())
}

/// Whether an argument of cargo chooses packages: they are all without it.
fn names_package(argument: &str) -> bool {
    argument.starts_with("-p") || argument.starts_with("--package")
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Arguments for cargo, and those after `--` for the test programs.
fn split(arguments: &[String]) -> (&[String], &[String]) {
    match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[]),
    }
}
