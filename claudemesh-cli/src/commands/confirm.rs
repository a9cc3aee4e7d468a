//! Asking before something is lost.

use crate::CliError;
use std::io::{self, BufRead, IsTerminal, Write};

/// Goes on if the person agreed with `--yes` or says so now. Without a terminal, `--yes` is required.
pub(crate) fn ask(yes: bool, question: &str) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::usage(
            "This needs a confirmation.",
            "Repeat the command with --yes.",
        ));
    }
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(CliError::cancelled("Cancelled."))
    }
}
