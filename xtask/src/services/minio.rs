//! MinIO: built from its Go module, or any that is on the path.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::cache::Cache;
use super::process::{detached, spawn};
use super::programs::{GoProgram, go, on_path};
use super::{LOG, Started, TEST_PASSWORD, probe};

const PROGRAM: GoProgram = GoProgram {
    package: "github.com/minio/minio",
    // The last commit of the module; its releases are no versions that Go knows.
    version: "v0.0.0-20260212201848-7aac2a2c5b7c",
    name: "minio",
    limit: Duration::from_secs(1500),
};
const USER: &str = "claudemesh";

/// The program, if it is there.
pub(super) fn find(cache: &Cache) -> Option<PathBuf> {
    let kept = cache.path(&PROGRAM.kept()).join(PROGRAM.name);
    kept.is_file().then_some(kept).or_else(|| on_path(PROGRAM.name))
}

/// Builds it if it is not there.
pub(super) fn install(cache: &Cache) -> anyhow::Result<()> {
    if find(cache).is_none() {
        let go = go()?;
        cache.keep(&PROGRAM.kept(), |directory| PROGRAM.build(&go, directory))?;
    }
    Ok(())
}

/// Starts one.
pub(super) fn start(cache: &Cache, directory: &Path, address: SocketAddr) -> anyhow::Result<Started> {
    let program = find(cache).context("the program minio is not there")?;
    let mut command = detached(&program);
    command
        .args(["server", "--quiet", "--address", &address.to_string()])
        .arg(directory.join("data"))
        .env("HOME", directory)
        .env("MINIO_ROOT_USER", USER)
        .env("MINIO_ROOT_PASSWORD", TEST_PASSWORD)
        // No console on a port of its own, and no questions about newer versions.
        .env("MINIO_BROWSER", "off")
        .env("MINIO_UPDATE", "off");
    let process = spawn(&mut command, &directory.join(LOG))?;
    Ok(Started {
        process,
        environment: vec![
            ("CLAUDEMESH_TEST_S3_ENDPOINT", format!("http://{address}")),
            ("CLAUDEMESH_TEST_S3_ACCESS_KEY", USER.to_owned()),
            ("CLAUDEMESH_TEST_S3_SECRET_KEY", TEST_PASSWORD.to_owned()),
        ],
    })
}

/// Whether it says that it is ready.
pub(super) fn is_ready(address: SocketAddr) -> bool {
    let request = format!("GET /minio/health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = probe::ask(address, request.as_bytes(), 12, Duration::from_secs(5));
    answer.is_ok_and(|answer| answer == b"HTTP/1.1 200")
}
