//! The broker's program: what it says of itself, and that it takes no arguments.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn run(argument: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_claudemesh-broker"))
        .arg(argument)
        .output()
        .unwrap()
}

#[test]
fn help_names_the_settings_and_starts_nothing() {
    let output = run("--help");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for variable in ["BROKER_PORT", "BROKER_DATA_DIR", "DATABASE_URL", "BROKER_PUBLIC_URL"] {
        assert!(text.contains(variable), "{variable} is missing:\n{text}");
    }
}

#[test]
fn the_version_tells_the_features() {
    let text = String::from_utf8(run("--version").stdout).unwrap();
    assert!(
        text.starts_with(concat!("claudemesh-broker ", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    let listed = claudemesh_broker::features::listed();
    assert!(text.contains(&format!("(features: {listed})")), "{text}");
}

#[test]
fn an_argument_that_is_not_known_is_an_error() {
    let output = run("--port=7900");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--port"));
}
