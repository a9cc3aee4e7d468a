//! Programs: where they are, and how they get there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::process::run;

/// A program on the path.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// Installs Debian's packages, as root on a machine that has them.
///
/// # Errors
/// With what to install, if this process may not or the machine is no Debian.
pub(crate) fn install_packages(packages: &[&str]) -> anyhow::Result<()> {
    static LISTS: OnceLock<Result<(), String>> = OnceLock::new();
    let names = packages.join(" ");
    let apt = on_path("apt-get")
        .filter(|_| rustix::process::geteuid().is_root())
        .with_context(|| format!("install it (on Debian: `apt-get install {names}`)"))?;
    let update = || {
        let mut update = Command::new(&apt);
        run(update.args(["update", "-qq"]), Duration::from_secs(300)).map_err(|error| format!("{error:#}"))
    };
    if let Err(error) = LISTS.get_or_init(update) {
        bail!("updating the lists of packages: {error}");
    }
    eprintln!("xtask: installing {names}");
    let mut install = Command::new(&apt);
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages);
    run(&mut install, Duration::from_secs(600)).with_context(|| format!("installing {names}"))
}

/// A server that is built from a Go module.
pub(crate) struct GoProgram {
    /// The package that `go install` takes.
    pub(crate) package: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// What the program is called.
    pub(crate) name: &'static str,
    /// Longest time that building it may take on two busy cores.
    pub(crate) limit: Duration,
}

impl GoProgram {
    /// Where it is kept in the cache.
    pub(crate) fn kept(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// Builds it into a directory.
    ///
    /// # Errors
    /// If there is no Go that can, or it fails.
    pub(crate) fn build(&self, go: &Path, directory: &Path) -> anyhow::Result<()> {
        eprintln!(
            "xtask: building {} {} (once; the first time takes minutes)",
            self.name, self.version
        );
        let mut build = Command::new(go);
        build
            .args(["install", "-ldflags=-s -w"])
            .arg(format!("{}@{}", self.package, self.version))
            .env("GOBIN", directory)
            // A module of the directory that this runs in has no say.
            .current_dir(directory);
        run(&mut build, self.limit).with_context(|| format!("building {}", self.package))
    }
}

/// A Go that fetches the toolchain that a module asks for: 1.21 or later. Installed if Debian has one.
///
/// # Errors
/// If there is none to be had.
pub(crate) fn go() -> anyhow::Result<PathBuf> {
    const PACKAGE: &str = "golang-go";
    if let Some(go) = on_path("go") {
        let output = Command::new(&go)
            .arg("version")
            .output()
            .context("asking go for its version")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_whitespace().find_map(|word| word.strip_prefix("go1."));
        if version.is_some_and(is_recent_go) {
            return Ok(go);
        }
        bail!("Go 1.21 or later is needed, this is {}", text.trim());
    }
    let candidate = Command::new("apt-cache").args(["show", PACKAGE]).output();
    let candidate = candidate.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if !candidate.is_ok_and(|text| debian_go(&text).is_some_and(is_recent_go)) {
        bail!("Go 1.21 or later is needed");
    }
    install_packages(&[PACKAGE])?;
    on_path("go").context("Go is installed but not on the path")
}

/// Whether a version without its `1.` is new enough.
fn is_recent_go(minor: &str) -> bool {
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().is_ok_and(|minor| minor >= 21)
}

/// The version of Debian's package without its `1.`.
fn debian_go(show: &str) -> Option<&str> {
    let version = show.lines().find_map(|line| line.strip_prefix("Version: "))?;
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    version.strip_prefix("1.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_that_is_too_old_is_seen() {
        assert!(is_recent_go("26.8"));
        assert!(is_recent_go("21"));
        assert!(is_recent_go("24~2"));
        assert!(!is_recent_go("19~1"));
        assert!(!is_recent_go(""));
        assert_eq!(debian_go("Package: golang-go\nVersion: 2:1.24~2\n"), Some("24~2"));
        assert_eq!(debian_go(""), None);
    }
}
