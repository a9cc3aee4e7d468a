//! Processes that outlive this one.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::programs;
use crate::interrupt;

/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A process, told apart from a later one that got the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Its id.
    pub(crate) pid: u32,
    /// When it started, as the system says it.
    pub(crate) started: String,
}

impl ProcessId {
    /// The process that has this id now; `None` if there is none, or one that has ended.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let started = if Path::new("/proc/self/stat").exists() {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            format!("{} {}", started_at(&stat)?, boot.trim())
        } else {
            let mut ps = Command::new("ps");
            let output = ps.args(["-o", "lstart=", "-p", &pid.to_string()]).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            (!text.trim().is_empty()).then(|| text.trim().to_owned())?
        };
        Some(Self { pid, started })
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Asks it to end, and ends it if it does not within `patience`. A process that ended before is no error.
    ///
    /// # Errors
    /// If it runs on.
    pub(crate) fn stop(&self, gently: Signal, patience: Duration) -> anyhow::Result<()> {
        for (signal, patience) in [(gently, patience), (Signal::KILL, Duration::from_secs(10))] {
            if !self.is_running() {
                return Ok(());
            }
            let id = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            let id = id.with_context(|| format!("{} is no process id", self.pid))?;
            if let Err(error) = kill_process(id, signal)
                && self.is_running()
            {
                return Err(error).with_context(|| format!("ending process {}", self.pid));
            }
            let until = Instant::now() + patience;
            while self.is_running() && Instant::now() < until {
                sleep(LOOK);
            }
        }
        if self.is_running() {
            bail!("process {} does not end", self.pid);
        }
        Ok(())
    }
}

/// The start time in the kernel's description of a process, in ticks since boot; `None` if it is a zombie.
fn started_at(stat: &str) -> Option<&str> {
    // The program's name, in parentheses, may contain anything. After it: state, and the start time as the 20th field.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)).flatten()
}

/// A command whose process is in a session of its own, so that the end of the terminal or of this program is not its own.
pub(crate) fn detached(program: &Path) -> Command {
    match programs::on_path("setsid") {
        Some(setsid) => {
            let mut command = Command::new(setsid);
            command.arg(program);
            command
        }
        None => {
            use std::os::unix::process::CommandExt as _;
            let mut command = Command::new(program);
            command.process_group(0);
            command
        }
    }
}

/// Starts it with its output in `log`. It runs on when this program ends, and counts as gone when it has ended itself.
///
/// # Errors
/// If there is no such program, or it ends at once.
pub(crate) fn spawn(command: &mut Command, log: &Path) -> anyhow::Result<ProcessId> {
    let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    ProcessId::of(child.id()).context("it ended at once")
}

/// Why a wait ended without what was waited for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Vain {
    /// The process ended.
    Ended,
    /// The time is over.
    TooLong,
    /// Somebody wants this program to end.
    Interrupted,
}

/// Waits until a process does what `is_ready` looks for.
pub(crate) fn wait_until(
    process: &ProcessId,
    patience: Duration,
    mut is_ready: impl FnMut() -> bool,
) -> Result<(), Vain> {
    let until = Instant::now() + patience;
    loop {
        if is_ready() {
            return Ok(());
        }
        if !process.is_running() {
            return Err(Vain::Ended);
        }
        if interrupt::asked() {
            return Err(Vain::Interrupted);
        }
        if Instant::now() > until {
            return Err(Vain::TooLong);
        }
        sleep(LOOK);
    }
}

/// Runs a program to its end with its output on stderr: stdout is for what the user evaluates.
///
/// # Errors
/// If it fails or takes longer than `limit`: then it is ended.
pub(crate) fn run(command: &mut Command, limit: Duration) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let until = Instant::now() + limit;
    let problem = loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("{name} failed: {status}");
        }
        if interrupt::asked() {
            break "interrupted".to_owned();
        }
        if Instant::now() > until {
            break format!("{name} took more than {} s", limit.as_secs());
        }
        sleep(LOOK);
    };
    child.kill()?;
    child.wait()?;
    bail!(problem)
}

/// Where a log is and how it ends, for an error.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 20;
    match std::fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<_> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(LINES)..];
            format!("its log {} ends:\n  {}", log.display(), last.join("\n  "))
        }
        Err(error) => format!("its log {} cannot be read: {error}", log.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10 18446744073709551615";

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        assert_eq!(started_at(STAT), Some("987654"));
    }

    #[test]
    fn a_zombie_does_not_run() {
        assert_eq!(started_at(&STAT.replace(") S ", ") Z ")), None);
        assert_eq!(started_at("nonsense"), None);
    }

    #[test]
    fn a_process_with_the_same_id_and_another_start_is_another_one() {
        let own = ProcessId::of(std::process::id()).unwrap();
        assert!(own.is_running());
        let earlier = ProcessId {
            started: "1 before".to_owned(),
            ..own.clone()
        };
        assert!(!earlier.is_running());
        // It would end the tests if it signalled this process.
        earlier.stop(Signal::KILL, Duration::ZERO).unwrap();
    }

    #[test]
    fn what_is_stopped_has_ended() {
        let mut command = detached(Path::new("sleep"));
        let log = tempfile::NamedTempFile::new().unwrap();
        let process = spawn(command.arg("600"), log.path()).unwrap();
        assert!(process.is_running());
        process.stop(Signal::TERM, Duration::from_secs(60)).unwrap();
        assert!(!process.is_running());
        process.stop(Signal::TERM, Duration::from_secs(60)).unwrap();
        assert_eq!(
            wait_until(&process, Duration::from_secs(60), || false),
            Err(Vain::Ended)
        );
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let error = run(Command::new("sleep").arg("600"), Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("took more than"), "{error}");
    }
}
