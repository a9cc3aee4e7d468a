//! NATS with JetStream: any server that is on the path, else built from its Go module, else Debian's package.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::cache::Cache;
use super::process::{detached, spawn};
use super::programs::{GoProgram, go, install_packages, on_path};
use super::{LOG, Started, probe};

const PROGRAM: GoProgram = GoProgram {
    package: "github.com/nats-io/nats-server/v2",
    version: "v2.15.2",
    name: "nats-server",
    limit: Duration::from_secs(900),
};

/// The program, if it is there.
pub(super) fn find(cache: &Cache) -> Option<PathBuf> {
    let kept = cache.path(&PROGRAM.kept()).join(PROGRAM.name);
    kept.is_file().then_some(kept).or_else(|| on_path(PROGRAM.name))
}

/// Builds or installs it if it is not there.
pub(super) fn install(cache: &Cache) -> anyhow::Result<()> {
    if find(cache).is_some() {
        return Ok(());
    }
    match go() {
        Ok(go) => cache
            .keep(&PROGRAM.kept(), |directory| PROGRAM.build(&go, directory))
            .map(drop),
        Err(_) => install_packages(&["nats-server"]),
    }
}

/// Starts one.
pub(super) fn start(cache: &Cache, directory: &Path, address: SocketAddr) -> anyhow::Result<Started> {
    let program = find(cache).context("the program nats-server is not there")?;
    let mut command = detached(&program);
    command
        .args([
            "--addr",
            &address.ip().to_string(),
            "--port",
            &address.port().to_string(),
        ])
        .arg("--jetstream")
        .arg("--store_dir")
        .arg(directory.join("data"));
    let process = spawn(&mut command, &directory.join(LOG))?;
    Ok(Started {
        process,
        environment: vec![("CLAUDEMESH_TEST_NATS_URL", format!("nats://{address}"))],
    })
}

/// Whether it greets.
pub(super) fn is_ready(address: SocketAddr) -> bool {
    probe::ask(address, b"", 5, Duration::from_secs(5)).is_ok_and(|answer| answer == b"INFO ")
}
