//! Runs the fuzz targets of `fuzz/`, one after the other, and keeps a small corpus of what they found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

const USAGE: &str = "usage: cargo xtask fuzz [--seconds N] [--minimise] [TARGET …]";
/// For how long a target runs if nobody says.
const SECONDS: u64 = 600;

/// Size of a committed corpus.
const CORPUS_BYTES: u64 = 64 * 1024;

/// A program of `fuzz/fuzz_targets`.
struct Target {
    name: &'static str,
    /// Longest input in bytes: longer ones find nothing that shorter ones do not.
    max_len: u32,
    /// What it needs of `fuzz/Cargo.toml`.
    features: &'static str,
}

const TARGETS: &[Target] = &[
    target("frames", 4_096, ""),
    target("invites", 2_048, ""),
    target("envelopes", 2_048, ""),
    target("group", 8_192, ""),
    target("backup", 256, ""),
    target("config", 1_024, "broker"),
];

const fn target(name: &'static str, max_len: u32, features: &'static str) -> Target {
    Target {
        name,
        max_len,
        features,
    }
}

/// Runs the named targets (else all) for `--seconds` each. With `--minimise` the committed corpus is then replaced by the
/// few inputs that reach as much.
///
/// # Errors
/// If cargo-fuzz is not installed, or a target finds something: its input is under `fuzz/artifacts`.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let mut seconds = SECONDS;
    let mut minimise = false;
    let mut names = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let value = arguments.next().context(USAGE)?;
                seconds = value
                    .parse()
                    .with_context(|| format!("--seconds: {value} is not a number of seconds"))?;
            }
            "--minimise" => minimise = true,
            name => names.push(name),
        }
    }
    let known = |name: &&str| TARGETS.iter().any(|target| target.name == *name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        let all: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        bail!("{name} is no fuzz target; there are: {}\n{USAGE}", all.join(", "));
    }
    for target in TARGETS {
        if names.is_empty() || names.contains(&target.name) {
            println!("{}: {seconds} s", target.name);
            fuzz(target, seconds)?;
            if minimise {
                merge(target)?;
            }
        }
    }
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// Inputs that are found go to `fuzz/found`, which is not committed; those of `fuzz/corpus` are where it starts.
fn fuzz(target: &Target, seconds: u64) -> anyhow::Result<()> {
    let found = folder().join("found").join(target.name);
    fs::create_dir_all(&found).with_context(|| format!("creating {}", found.display()))?;
    let mut command = cargo_fuzz("run", target);
    command.arg(&found).arg(folder().join("corpus").join(target.name));
    command.arg("--").args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={}", target.max_len),
        "-rss_limit_mb=1024".to_owned(),
        "-timeout=20".to_owned(),
        "-print_final_stats=1".to_owned(),
    ]);
    run_it(&mut command)
}

/// Replaces the committed corpus by few inputs that reach much: those named `seed-…` stay, of the others the smallest that
/// fit into [`CORPUS_BYTES`]. Counts of how often a line was reached do not matter here.
fn merge(target: &Target) -> anyhow::Result<()> {
    let corpus = folder().join("corpus").join(target.name);
    let merged = folder().join("found").join(format!("{}.merged", target.name));
    if merged.exists() {
        fs::remove_dir_all(&merged)?;
    }
    fs::create_dir_all(&merged)?;
    fs::create_dir_all(&corpus)?;
    for path in files(&corpus)?.into_iter().filter(|path| is_seed(path)) {
        if let Some(name) = path.file_name() {
            fs::copy(&path, merged.join(name))?;
        }
    }
    let mut command = cargo_fuzz("run", target);
    command
        .arg(&merged)
        .arg(&corpus)
        .arg(folder().join("found").join(target.name));
    command.arg("--").args([
        "-set_cover_merge=1",
        "-use_counters=0",
        &format!("-max_len={}", target.max_len),
    ]);
    run_it(&mut command)?;
    let mut sizes = Vec::new();
    for path in files(&merged)? {
        sizes.push((!is_seed(&path), fs::metadata(&path)?.len(), path));
    }
    sizes.sort();
    let mut total = 0;
    for (is_found, size, path) in sizes {
        total += size;
        if is_found && total > CORPUS_BYTES {
            fs::remove_file(path)?;
        }
    }
    fs::remove_dir_all(&corpus)?;
    fs::rename(&merged, &corpus).with_context(|| format!("replacing {}", corpus.display()))
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    Ok(entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?)
}

/// Whether a person put it there.
fn is_seed(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("seed-"))
}

/// The workspace forbids unsafe code, so that the address sanitizer would only halve the speed.
fn cargo_fuzz(task: &str, target: &Target) -> Command {
    let mut command = Command::new("cargo");
    // The compiler of this process must not decide which one cargo-fuzz gets.
    command
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env_remove("RUSTC");
    command
        .current_dir(folder())
        .args(["+nightly", "fuzz", task, "--sanitizer", "none"]);
    if !target.features.is_empty() {
        command.args(["--features", target.features]);
    }
    command.arg(target.name);
    command
}

fn run_it(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().context("running cargo")?;
    if !status.success() {
        bail!(
            "it failed: the input is under fuzz/artifacts if the target found something; else see fuzz/README.md for what \
             must be installed"
        );
    }
    Ok(())
}
