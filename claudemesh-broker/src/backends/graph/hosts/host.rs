//! Where an engine runs: in a process, or on a thread.

use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use claudemesh_proto::ops::GraphResult;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::engine::{Job, Setup};
use super::worker::{ARGUMENT, Reply};
use crate::backends::graph::{GraphError, GraphLimits};

/// How much longer than it may run a query is waited for: the engine can end most of them by itself.
const GRACE: Duration = Duration::from_millis(500);

/// An engine that runs somewhere. Dropped, it ends with what it does; a thread ends after that.
#[derive(Debug)]
pub(super) struct Host {
    place: Place,
    limits: GraphLimits,
    used: Instant,
    is_usable: bool,
}

#[derive(Debug)]
enum Place {
    Process(Box<Process>),
    Thread(mpsc::Sender<(Job, oneshot::Sender<Reply>)>),
}

#[derive(Debug)]
struct Process {
    // Killed when dropped.
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Host {
    /// Starts an engine: in a process of `program`, else on a thread.
    pub(super) async fn start(program: Option<&Path>, setup: Setup) -> Result<Self, GraphError> {
        let limits = setup.limits;
        let place = match program {
            Some(program) => Place::Process(Box::new(Process::start(program, &setup).await.map_err(unavailable)?)),
            None => Place::Thread(on_thread(setup).map_err(unavailable)?),
        };
        Ok(Self {
            place,
            limits,
            used: Instant::now(),
            is_usable: true,
        })
    }

    /// Whether it can run another query.
    pub(super) fn is_usable(&self) -> bool {
        self.is_usable
    }

    /// How long nobody has used it.
    pub(super) fn idle(&self) -> Duration {
        self.used.elapsed()
    }

    /// Runs a query. What does not end in time makes this host useless.
    pub(super) async fn run(&mut self, job: Job) -> Result<GraphResult, GraphError> {
        self.is_usable = false;
        let asking = async {
            match &mut self.place {
                Place::Process(process) => process.ask(&job).await.ok(),
                Place::Thread(jobs) => {
                    let (send, reply) = oneshot::channel();
                    jobs.send((job, send)).ok()?;
                    reply.await.ok()
                }
            }
        };
        let reply = timeout(self.limits.time + GRACE, asking).await;
        self.used = Instant::now();
        match reply {
            Ok(Some(reply)) => {
                self.is_usable = true;
                reply.into()
            }
            Ok(None) => Err(GraphError::TooLarge(format!(
                "the query ended the graph's engine, most likely because it needs more than {} MiB of memory; nothing was \
                 changed",
                self.limits.memory / 1024 / 1024
            ))),
            Err(_) => Err(GraphError::Timeout(self.limits.time)),
        }
    }
}

fn unavailable(error: std::io::Error) -> GraphError {
    GraphError::Unavailable(error.to_string())
}

impl Process {
    async fn start(program: &Path, setup: &Setup) -> std::io::Result<Self> {
        let mut child = Command::new(program)
            .arg(ARGUMENT)
            // Nothing of the broker's settings and secrets.
            .env_clear()
            // The allocator takes memory as it is needed, so that what is counted is what is used.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("a process for a graph has no pipes"));
        };
        let mut process = Self {
            _child: child,
            input,
            output: BufReader::new(output),
        };
        process.tell(setup).await?;
        Ok(process)
    }

    async fn tell(&mut self, value: &impl serde::Serialize) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.input.write_all(&line).await?;
        self.input.flush().await
    }

    async fn ask(&mut self, job: &Job) -> std::io::Result<Reply> {
        self.tell(job).await?;
        let mut line = Vec::new();
        self.output.read_until(b'\n', &mut line).await?;
        Ok(serde_json::from_slice(&line)?)
    }
}

fn on_thread(setup: Setup) -> std::io::Result<mpsc::Sender<(Job, oneshot::Sender<Reply>)>> {
    let (send, jobs) = mpsc::channel::<(Job, oneshot::Sender<Reply>)>();
    // Not one of the runtime's: that would wait for it at its end.
    thread::Builder::new()
        .name("graph".to_owned())
        .stack_size(super::STACK)
        .spawn(move || {
            let mut engine = setup.engine();
            while let Ok((job, reply)) = jobs.recv() {
                // Who asked may be gone.
                let _taken = reply.send(engine.run(&job).into());
            }
        })?;
    Ok(send)
}
