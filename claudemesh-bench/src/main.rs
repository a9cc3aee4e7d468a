//! Load driver for the broker. Run it with `cargo xtask bench`, which builds what it needs.

mod broker;
mod files;
mod graph;
mod load;
mod nats;
mod plot;
mod process;
mod publish;
mod recall;
mod reference;
mod report;
mod scenarios;
mod shared_sql;
mod vectors;
mod wire;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use broker::{DataDir, StoreKind};
use report::Report;
use scenarios::{Bench, SCENARIOS};

/// Postgres for the scenario that needs one, and the id of its first process.
const POSTGRES_URL: &str = "CLAUDEMESH_BENCH_POSTGRES_URL";
const POSTGRES_PID: &str = "CLAUDEMESH_BENCH_POSTGRES_PID";

/// What is behind it in `benchmarks.md` is not generated.
const BY_HAND: &str = "<!-- from here on by hand -->";

struct Options {
    scenarios: Vec<String>,
    seconds: f64,
    depth: u64,
    write: Option<PathBuf>,
}

fn usage() -> String {
    let list: Vec<_> = SCENARIOS
        .iter()
        .map(|(name, what)| format!("  {name:<16}{what}"))
        .collect();
    format!(
        "usage: cargo xtask bench [--seconds N] [--depth MESSAGES] [--write DOCS] [SCENARIO…]\n\n\
         Without scenarios all of them run. --write puts benchmarks.md and its charts into a directory.\n\n{}",
        list.join("\n")
    )
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options {
        scenarios: Vec::new(),
        seconds: 5.0,
        depth: 1_000_000,
        write: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seconds" => options.seconds = value()?.parse().context("--seconds")?,
            "--depth" => options.depth = value()?.parse().context("--depth")?,
            "--write" => options.write = Some(value()?.into()),
            "--help" => bail!("{}", usage()),
            name if SCENARIOS.iter().any(|(known, _)| *known == name) => options.scenarios.push(argument),
            _ => bail!("{argument}?\n\n{}", usage()),
        }
    }
    if options.scenarios.is_empty() {
        options.scenarios = SCENARIOS.iter().map(|(name, _)| (*name).to_owned()).collect();
    }
    Ok(options)
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, run())
    });
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<bool> {
    let options = options()?;
    let mut report = Report::new(process::machine());
    eprintln!("references");
    let directory = DataDir::new("references")?;
    let references = reference::measure(directory.path(), 800, Duration::from_secs_f64(options.seconds / 2.5)).await?;
    drop(directory);
    report.references(&references);
    let postgres = std::env::var(POSTGRES_URL).ok().map(|url| StoreKind::Postgres {
        url,
        pid: std::env::var(POSTGRES_PID).ok().and_then(|pid| pid.parse().ok()),
    });
    let mut bench = Bench {
        references,
        report,
        seconds: options.seconds,
        depth: options.depth,
        postgres,
    };
    for scenario in &options.scenarios {
        eprintln!("{scenario}");
        // One that fails does not cost the figures of the others.
        if let Err(error) = bench.run(scenario).await {
            bench.report.failure(scenario, &error);
        }
    }
    let command = std::iter::once("cargo xtask bench".to_owned())
        .chain(std::env::args().skip(1))
        .collect::<Vec<_>>();
    let text = bench.report.markdown(&command.join(" "));
    match &options.write {
        Some(docs) => {
            bench.report.write_charts(&docs.join("benchmarks"))?;
            let path = docs.join("benchmarks.md");
            // What people wrote about the figures stays.
            let before = std::fs::read_to_string(&path).unwrap_or_default();
            let by_hand = before.split_once(BY_HAND).map_or("\n", |(_, rest)| rest);
            std::fs::write(path, format!("{text}\n{BY_HAND}{by_hand}"))?;
        }
        None => println!("{text}"),
    }
    Ok(!bench.report.has_failures())
}
