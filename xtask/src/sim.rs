//! Runs the simulation of delivery.

use std::process::Command;

use anyhow::{Context as _, bail};

const HELP: &str = "\
cargo xtask sim [--seeds N] [--seed S] [--mutate]

  --seeds N   run seeds 0 to N-1 (10,000 by default); with --mutate: seeds that each fault has time for
  --seed S    run this seed alone and print everything that happens
  --mutate    make seeded faults, one at a time, and tell which of them the simulation catches";
const SEEDS: u64 = 10_000;
/// From so many seeds on, building with optimisation takes less time than it saves.
const MANY: u64 = 2_000;
const RUN: &str = "whatever_goes_wrong_nothing_is_lost_doubled_disordered_or_misdelivered";
const MUTATE: &str = "mesh::tests::mutants::each_seeded_fault_is_caught";

/// Runs it as the arguments say.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let (mut seeds, mut seed, mut mutate) = (None, None, false);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut number = || -> anyhow::Result<u64> {
            let text = rest
                .next()
                .with_context(|| format!("{argument} needs a number\n{HELP}"))?;
            let text = text.replace([',', '_'], "");
            text.parse()
                .with_context(|| format!("{argument}: {text} is not a number"))
        };
        match argument.as_str() {
            "--seeds" => seeds = Some(number()?),
            "--seed" => seed = Some(number()?),
            "--mutate" => mutate = true,
            "--help" => {
                println!("{HELP}");
                return Ok(());
            }
            other => bail!("unknown argument {other}\n{HELP}"),
        }
    }
    if mutate && seed.is_some() {
        bail!("a seed is run alone, or faults are made\n{HELP}");
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--quiet", "--package", "claudemesh-broker"]);
    let test = match (mutate, seed) {
        (true, _) => {
            cargo.arg("--lib");
            if let Some(seeds) = seeds {
                cargo.env("SIM_SEEDS", seeds.to_string());
            }
            MUTATE
        }
        (false, Some(seed)) => {
            cargo.args(["--test", "mesh_delivery_sim"]);
            cargo.env("SIM_SEED", seed.to_string());
            RUN
        }
        (false, None) => {
            let seeds = seeds.unwrap_or(SEEDS);
            cargo.args(["--test", "mesh_delivery_sim"]);
            if seeds >= MANY {
                cargo.args(["--config", "profile.dev.package.claudemesh-broker.opt-level=2"]);
            }
            cargo.env("SIM_SEEDS", seeds.to_string());
            RUN
        }
    };
    cargo.args(["--", "--exact", test, "--nocapture"]);
    if !cargo.status().context("running cargo test")?.success() {
        bail!("the simulation failed");
    }
    Ok(())
}
