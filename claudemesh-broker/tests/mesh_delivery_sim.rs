//! Runs the simulation of delivery (`sim`): `SIM_SEEDS` seeds from 0 on (1,000 by default), or `SIM_SEED` alone.
//! `cargo xtask sim` does the same with optimisation.

#![allow(clippy::unwrap_used)]

mod sim;

use claudemesh_broker::mesh;

use sim::Run;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn whatever_goes_wrong_nothing_is_lost_doubled_disordered_or_misdelivered() {
    if let Some(seed) = number("SIM_SEED") {
        println!("{}", sim::trace(Run::of(seed)).0.join("\n"));
        match sim::run(Run::of(seed)) {
            Ok(deliveries) => return println!("\nseed {seed}: everything holds, {deliveries} deliveries"),
            Err(failure) => panic!("seed {seed} fails ({}): {}", failure.invariant, failure.text),
        }
    }
    let seeds = number("SIM_SEEDS").unwrap_or(1_000);
    match sim::run_all(0..seeds) {
        Ok(deliveries) => println!("{seeds} seeds: everything holds, {deliveries} deliveries"),
        Err((seed, failure)) => panic!("{}", sim::report(Run::of(seed), &failure)),
    }
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in [1, 2, 3] {
        assert_eq!(sim::trace(Run::of(seed)), sim::trace(Run::of(seed)));
    }
}
