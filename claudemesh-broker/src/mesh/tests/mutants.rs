//! Whether the simulation finds faults: each of them is made alone, and has to be caught.

use super::sim::faults::Fault;
use super::sim::{Failure, Run, run};
use crate::mesh::mutants::Mutant;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Seeds that a fault has time for, unless `SIM_SEEDS` says so.
const SEEDS: u64 = 300;

#[derive(Clone, Copy)]
enum Made {
    Core(Mutant),
    Around(Fault),
}

impl Made {
    fn name(self) -> String {
        match self {
            Self::Core(mutant) => format!("{mutant:?}"),
            Self::Around(fault) => format!("{fault:?}"),
        }
    }

    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Core(mutant) => ("core", mutant.what()),
            Self::Around(fault) => fault.describe(),
        }
    }

    /// The first seed that catches it, counted from 1.
    fn caught_after(self, seeds: u64) -> Option<(u64, Failure)> {
        let fault = match self {
            Self::Core(mutant) => {
                Mutant::make(Some(mutant));
                None
            }
            Self::Around(fault) => Some(fault),
        };
        let caught = (0..seeds).find_map(|seed| {
            let failure = run(Run {
                seed,
                fault,
                // What the core says of itself does not count: the rules around it have to find the fault.
                check_core: false,
            });
            Some((seed + 1, failure.err()?))
        });
        Mutant::make(None);
        caught
    }
}

#[test]
fn each_seeded_fault_is_caught() {
    let seeds = std::env::var("SIM_SEEDS").map_or(SEEDS, |text| text.parse().expect("a number"));
    let core = Mutant::ALL.iter().map(|mutant| Made::Core(*mutant));
    let faults: Vec<_> = core.chain(Fault::ALL.map(Made::Around)).collect();
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    let work = || {
        while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
            let at = faults.iter().position(|other| other.name() == fault.name());
            let caught = fault.caught_after(seeds);
            rows.lock().unwrap().push((at, *fault, caught));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(at, ..)| *at);
    println!("| fault | where | what | caught by | after seeds |\n|---|---|---|---|---:|");
    let mut escaped = Vec::new();
    for (_, fault, caught) in rows {
        let (name, (place, what)) = (fault.name(), fault.describe());
        match caught {
            Some((after, failure)) => println!("| {name} | {place} | {what} | {} | {after} |", failure.invariant),
            None => {
                println!("| {name} | {place} | {what} | **not caught** | {seeds} |");
                escaped.push(name);
            }
        }
    }
    assert!(
        escaped.is_empty(),
        "not caught with {seeds} seeds: {}",
        escaped.join(", ")
    );
}
