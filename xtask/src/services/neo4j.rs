//! Neo4j Community, from its Maven artifacts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::cache::Cache;
use super::process::{detached, run, spawn};
use super::programs::{install_packages, on_path};
use super::{LOG, Started, TEST_PASSWORD, probe};

const POM: &str = include_str!("../../services/neo4j/pom.xml");
const USER: &str = "neo4j";

/// Its artifacts, if they and Java are there.
fn find(cache: &Cache) -> Option<(PathBuf, PathBuf)> {
    let artifacts = cache.path(&kept());
    Some((on_path("java")?, artifacts.is_dir().then_some(artifacts)?))
}

/// Whether it is there.
pub(super) fn is_installed(cache: &Cache) -> bool {
    find(cache).is_some()
}

fn kept() -> String {
    let version = POM.split_once("<neo4j.version>").map_or("", |(_, rest)| rest);
    format!("neo4j-{}", version.split('<').next().unwrap_or_default())
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services/neo4j")
}

/// Fetches the artifacts if they are not there, and installs Java and Maven if they are needed.
pub(super) fn install(cache: &Cache) -> anyhow::Result<()> {
    if on_path("javac").is_none() {
        // A development kit: the launcher is compiled when it starts.
        install_packages(&["default-jdk-headless"])?;
    }
    let fetch = |directory: &Path| {
        if on_path("mvn").is_none() {
            install_packages(&["maven"])?;
        }
        eprintln!("xtask: fetching {}", kept());
        let mut maven = Command::new("mvn");
        maven
            .args([
                "-q",
                "--batch-mode",
                "--no-transfer-progress",
                "-Dstyle.color=never",
                "--file",
            ])
            .arg(sources().join("pom.xml"))
            .arg("dependency:copy-dependencies")
            .arg("-DincludeScope=runtime")
            .arg(format!("-DoutputDirectory={}", directory.display()));
        run(&mut maven, Duration::from_secs(600)).context("fetching Neo4j")
    };
    cache.keep(&kept(), fetch).map(drop)
}

/// Starts one. Its Bolt port opens before the password is set.
pub(super) fn start(cache: &Cache, directory: &Path, address: SocketAddr) -> anyhow::Result<Started> {
    let (java, artifacts) = find(cache).context("Java or the artifacts of Neo4j are not there")?;
    let mut command = detached(&java);
    command
        // Small, and no threads for a machine that it would have for itself.
        .args([
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "--class-path",
        ])
        .arg(artifacts.join("*"))
        .arg(sources().join("Launcher.java"))
        .arg(directory.join("data"))
        .arg(address.port().to_string())
        .env("NEO4J_PASSWORD", TEST_PASSWORD);
    let process = spawn(&mut command, &directory.join(LOG))?;
    Ok(Started {
        process,
        environment: vec![
            ("CLAUDEMESH_TEST_NEO4J_URL", format!("bolt://{address}")),
            ("CLAUDEMESH_TEST_NEO4J_USER", USER.to_owned()),
            ("CLAUDEMESH_TEST_NEO4J_PASSWORD", TEST_PASSWORD.to_owned()),
        ],
    })
}

/// Whether it lets somebody in who has the password.
pub(super) fn is_ready(address: SocketAddr) -> bool {
    let answer = probe::ask(address, &login(), 8, Duration::from_secs(10));
    // The version that was agreed on, then the length of a message, which is a struct of one field: SUCCESS.
    answer.is_ok_and(|answer| answer[..4] == VERSION && answer[6..8] == [0xb1, 0x70])
}

/// Bolt 4.4: the last version whose first message has the password.
const VERSION: [u8; 4] = [0, 0, 4, 4];

/// The handshake and the message HELLO.
fn login() -> Vec<u8> {
    let mut bytes = vec![0x60, 0x60, 0xb0, 0x17];
    bytes.extend(VERSION);
    bytes.extend([0; 12]);
    let fields = [
        ("user_agent", "claudemesh-xtask/0"),
        ("scheme", "basic"),
        ("principal", USER),
        ("credentials", TEST_PASSWORD),
    ];
    let mut hello = vec![0xb1, 0x01, 0xa4];
    for text in fields.iter().flat_map(|(name, value)| [name, value]) {
        // A text of up to 255 bytes.
        hello.push(0xd0);
        hello.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        hello.extend(text.as_bytes());
    }
    bytes.extend(u16::try_from(hello.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend(hello);
    bytes.extend([0, 0]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_project_file() {
        assert!(kept().starts_with("neo4j-5."), "{}", kept());
    }

    #[test]
    fn the_login_is_one_chunk_and_its_end() {
        let login = login();
        let length = usize::from(u16::from_be_bytes([login[20], login[21]]));
        assert_eq!(login.len(), 22 + length + 2);
        assert!(login.ends_with(&[0, 0]));
    }
}
