//! Postgres: Debian's package, or any that is on the path.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use claudemesh_testkit::postgres_server::{Cluster, programs};

use super::process::ProcessId;
use super::{Started, probe, programs::install_packages};

/// Installs it if it is not there.
pub(super) fn install() -> anyhow::Result<()> {
    match programs() {
        Some(_) => Ok(()),
        None => install_packages(&["postgresql"]),
    }
}

/// Whether it is there.
pub(super) fn is_installed() -> bool {
    programs().is_some()
}

/// Starts one.
pub(super) fn start(directory: &Path, address: SocketAddr) -> anyhow::Result<Started> {
    let programs = programs().context("the programs initdb and pg_ctl are not there")?;
    let cluster = Cluster::create(programs, directory, address.port())?;
    if let Err(error) = cluster.launch() {
        // It may still be at it.
        let _ended = cluster.stop("immediate");
        return Err(error);
    }
    let process = cluster.pid().and_then(ProcessId::of);
    Ok(Started {
        process: process.context("Postgres ended at once")?,
        environment: vec![("CLAUDEMESH_TEST_POSTGRES_URL", cluster.url())],
    })
}

/// Whether it answers: to the question for TLS, which comes before everything else.
pub(super) fn is_ready(address: SocketAddr) -> bool {
    const TLS: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let answer = probe::ask(address, &TLS, 1, Duration::from_secs(5));
    answer.is_ok_and(|answer| matches!(answer.as_slice(), b"S" | b"N"))
}
