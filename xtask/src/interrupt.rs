//! Ctrl-C and SIGTERM: the programs that a task runs get them too and end; the task then ends what it has started.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::iterator::Signals;

/// `timeout` signals its program and then the whole group: that is one request, not two.
const ONE_REQUEST: Duration = Duration::from_secs(1);

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on the first request to end is noted, and a later one ends the process at once.
///
/// # Errors
/// If the system does not let it.
pub(crate) fn catch() -> anyhow::Result<()> {
    let mut signals = Signals::new(TERM_SIGNALS).context("catching Ctrl-C")?;
    std::thread::spawn(move || {
        let mut first = None;
        for _ in signals.forever() {
            ASKED.store(true, Ordering::Relaxed);
            if first.get_or_insert_with(Instant::now).elapsed() > ONE_REQUEST {
                std::process::exit(130);
            }
        }
    });
    Ok(())
}

/// Whether somebody wants the task to end.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
