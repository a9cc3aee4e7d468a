//! The engine in a process of its own: what it needs in time and memory is bounded by the system, and what goes wrong in it
//! ends nothing else.
//!
//! The broker starts its own program again for this. One line of JSON comes in for each query and one goes out.

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::{env, thread};

use claudemesh_proto::ops::GraphResult;
use serde::{Deserialize, Serialize};

use super::engine::{Job, Setup};
use crate::backends::graph::GraphError;

/// The only argument of a worker.
pub(super) const ARGUMENT: &str = "--serve-graph";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Done(GraphResult),
    Failed(GraphError),
}

impl From<Reply> for Result<GraphResult, GraphError> {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Done(result) => Ok(result),
            Reply::Failed(error) => Err(error),
        }
    }
}

impl From<Result<GraphResult, GraphError>> for Reply {
    fn from(result: Result<GraphResult, GraphError>) -> Self {
        match result {
            Ok(result) => Self::Done(result),
            Err(error) => Self::Failed(error),
        }
    }
}

/// To be called first in `main` by programs that run a broker.
///
/// If this process was started to serve a graph, it does so and gives how the process ends. Otherwise the broker's graphs will
/// be served by processes of this program. Without this call they are served by threads of the broker, whose memory is not
/// bounded, and which go on for as long as a query takes.
#[must_use]
pub fn serve_if_asked() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|argument| argument == ARGUMENT) && arguments.next().is_none() {
        return Some(match serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("a process for a graph ended: {error}");
                ExitCode::FAILURE
            }
        });
    }
    // Also after the file was replaced by a newer one.
    let program = match cfg!(target_os = "linux") {
        true => Some(PathBuf::from("/proc/self/exe")),
        false => env::current_exe().ok(),
    };
    if let Some(program) = program {
        PROGRAM.get_or_init(|| program);
    }
    None
}

/// The program that can serve graphs.
pub(super) fn program() -> Option<PathBuf> {
    PROGRAM.get().cloned()
}

fn serve() -> io::Result<()> {
    let mut lines = io::stdin().lines();
    let Some(first) = lines.next() else {
        return Ok(());
    };
    let setup: Setup = serde_json::from_str(&first?)?;
    confine(&setup)?;
    let (jobs, waiting) = std::sync::mpsc::sync_channel::<Job>(1);
    // Queries on a thread of their own, so that the end of the broker is noticed while one runs.
    thread::Builder::new()
        .name("graph".to_owned())
        .stack_size(super::STACK)
        .spawn(move || {
            let mut engine = setup.engine();
            while let Ok(job) = waiting.recv() {
                let Ok(result) = catch_unwind(AssertUnwindSafe(|| engine.run(&job))) else {
                    // Nothing in here can be trusted any more.
                    std::process::exit(1);
                };
                if answer(&result.into()).is_err() {
                    // Nobody listens any more.
                    std::process::exit(0);
                }
            }
        })?;
    for line in lines {
        if jobs.send(serde_json::from_str(&line?)?).is_err() {
            break;
        }
    }
    // What runs is undone by the engine the next time.
    std::process::exit(0)
}

fn answer(reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// Bounds that the system keeps.
#[cfg(unix)]
fn confine(setup: &Setup) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let most = |bytes| Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    setrlimit(Resource::Data, most(setup.limits.memory))?;
    setrlimit(Resource::Core, most(0))?;
    Ok(())
}

#[cfg(not(unix))]
fn confine(_: &Setup) -> io::Result<()> {
    Ok(())
}
