//! Runs the simulation of delivery (`sim`): `SIM_SEEDS` seeds from 0 on (1,000 by default), or `SIM_SEED` alone.
//! `cargo xtask sim` does the same with optimisation.

#![allow(clippy::unwrap_used)]

mod sim;

use sim::Run;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn whatever_goes_wrong_nothing_is_lost_doubled_disordered_or_misdelivered() {
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(1_000),
    };
    let count = seeds.end - seeds.start;
    match sim::run_all(seeds) {
        Ok(deliveries) => println!("{count} seeds, {deliveries} deliveries"),
        Err((seed, failure)) => panic!("{}", sim::report(Run::of(seed), &failure)),
    }
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in [1, 2, 3] {
        assert_eq!(sim::trace(Run::of(seed)), sim::trace(Run::of(seed)));
    }
}
