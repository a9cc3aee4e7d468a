//! Development tasks of the workspace: `cargo xtask <task>`.

mod bench;
mod defects;
mod fuzz;
mod interrupt;
mod reference;
mod reliability;
mod schemas;
mod services;
mod sim;
mod tests;

use anyhow::bail;

const TASKS: &str = "\
tasks:
  schemas        write claudemesh-proto/schemas anew from the types
  reference      write docs/reference anew from the tables
  defects        write docs/defects.md anew from the tests
  fuzz [ARGS]    run the fuzz targets, ten minutes each; see fuzz/README.md
  bench [ARGS]   measure the broker in release; see `cargo xtask bench --help`
  reliability    kill, cut and starve the broker with the full numbers, and write docs/reliability.md
  sim [ARGS]     simulate delivery with faults; see `cargo xtask sim --help`
  services       start and end servers for tests; see `cargo xtask services --help`
  test [ARGS]    run every test, with the servers that are installed: they are started for it and ended again";

fn main() -> anyhow::Result<()> {
    interrupt::catch()?;
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("schemas") => schemas::write(),
        Some("reference") => reference::write(),
        Some("defects") => defects::write(),
        Some("fuzz") => fuzz::run(&arguments.collect::<Vec<_>>()),
        Some("bench") => bench::run(&arguments.collect::<Vec<_>>()),
        Some("reliability") => reliability::run(&arguments.collect::<Vec<_>>()),
        Some("sim") => sim::run(&arguments.collect::<Vec<_>>()),
        Some("services") => services::run(&arguments.collect::<Vec<_>>()),
        Some("test") => tests::run(&arguments.collect::<Vec<_>>()),
        Some(other) => bail!("unknown task {other}\n{TASKS}"),
        None => bail!("no task given\n{TASKS}"),
    }
}
