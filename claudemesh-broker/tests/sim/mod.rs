//! A seeded simulation of delivery: the real core (members, resolution, delivery, status) in a world of virtual time, with
//! a store that commits late, fails and leaves open whether it did, a broker that crashes, connections that are cut,
//! programs that die, are slow or come back, a wall clock that is set, grants, groups, visibility and members that
//! change. The same seed gives the same run.
//!
//! * `world`: time and connections; `chance`: what happens; `calm`: how it ends
//! * `broker`, `outputs`, `committer`: what is around the core in the broker; `store`: what is on disk
//! * `program`, `clients`: the client and its program
//! * `checks`: what must hold; `faults`: faults in the modelled rules, to see that the checks find them

// All of this is a test; the lint only exempts functions that are marked as one.
#![allow(clippy::unwrap_used)]
// Shared by two test programs, each of which uses a part.
#![allow(dead_code, unreachable_pub)]

mod broker;
mod calm;
mod chance;
mod checks;
mod clients;
mod committer;
pub mod faults;
mod names;
mod outputs;
mod program;
mod rng;
mod store;
mod trace;
mod world;

use super::mesh;
use checks::Violation;
use faults::Fault;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use world::World;

/// How many lines of its trace a failure shows.
const SHOWN: usize = 150;

/// What one run is about.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub seed: u64,
    /// A fault in the modelled rules.
    pub fault: Option<Fault>,
    /// Whether the core checks its own structure after each event.
    pub check_core: bool,
}

impl Run {
    pub fn of(seed: u64) -> Self {
        Self {
            seed,
            fault: None,
            // It takes as long as everything else together.
            check_core: seed.is_multiple_of(8),
        }
    }
}

/// A run in which something did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Name of the invariant, or where the core panicked.
    pub invariant: String,
    pub text: String,
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PANICKED_AT: Cell<Option<String>> = const { Cell::new(None) };
}

/// Panics of runs are reports, and are not printed; those of everything else are.
fn quiet_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                return before(info);
            }
            PANICKED_AT.set(info.location().map(ToString::to_string));
        }));
    });
}

/// Runs a seed. Gives the number of deliveries.
///
/// # Errors
/// What did not hold.
pub fn run(run: Run) -> Result<usize, Failure> {
    execute(run, false).0
}

/// Runs a seed and keeps its trace.
pub fn trace(run: Run) -> (Vec<String>, u64) {
    let (_, world) = execute(run, true);
    (world.trace.lines, world.trace.hash)
}

fn execute(run: Run, trace: bool) -> (Result<usize, Failure>, World) {
    quiet_panics();
    let mut world = World::new(run.seed, run.fault, run.check_core, trace);
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    QUIET.set(false);
    let result = match result {
        Ok(()) => Ok(world.checks.deliveries),
        Err(cause) => Err(failure(cause.as_ref())),
    };
    (result, world)
}

fn failure(cause: &(dyn std::any::Any + Send)) -> Failure {
    if let Some(Violation { invariant, text }) = cause.downcast_ref() {
        return Failure {
            invariant: format!("{invariant:?}"),
            text: text.clone(),
        };
    }
    let text = cause.downcast_ref::<String>().cloned();
    let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Failure {
        invariant: "Core".to_owned(),
        text: format!(
            "{} at {}",
            text.unwrap_or_default(),
            PANICKED_AT.take().unwrap_or_default()
        ),
    }
}

/// The end of the story of a failing seed, and how to see all of it.
pub fn report(run: Run, failure: &Failure) -> String {
    let (lines, _) = trace(run);
    let from = lines.len().saturating_sub(SHOWN);
    format!(
        "{}\n\nseed {} fails ({}): {}\nabove are the last {} of {} lines; for all of them: cargo xtask sim --seed {}",
        lines[from..].join("\n"),
        run.seed,
        failure.invariant,
        failure.text,
        lines.len() - from,
        lines.len(),
        run.seed
    )
}

/// Runs seeds on all processors, until one fails. Gives the number of deliveries, or the smallest failing seed found.
pub fn run_all(seeds: std::ops::Range<u64>) -> Result<usize, (u64, Failure)> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let workers: Vec<_> = (0..threads)
        .map(|worker| {
            let seeds = seeds.clone();
            std::thread::spawn(move || {
                let mut deliveries = 0;
                for seed in (seeds.start + worker..seeds.end).step_by(usize::try_from(threads).unwrap()) {
                    match run(Run::of(seed)) {
                        Ok(count) => deliveries += count,
                        Err(failure) => return Err((seed, failure)),
                    }
                }
                Ok(deliveries)
            })
        })
        .collect();
    let mut deliveries = 0;
    let mut failed: Option<(u64, Failure)> = None;
    for worker in workers {
        match worker.join().expect("failures of runs are caught") {
            Ok(count) => deliveries += count,
            Err((seed, failure)) if failed.as_ref().is_none_or(|(first, _)| seed < *first) => {
                failed = Some((seed, failure))
            }
            Err(_) => {}
        }
    }
    failed.map_or(Ok(deliveries), Err)
}
