//! What the tests measured, for `docs/reliability.md`.

use std::io::Write as _;

/// Adds a line to the file that `CLAUDEMESH_FIGURES` names, if it does: a row of the table `test`.
pub(crate) fn record(test: &str, figures: &[(&str, String)]) {
    let line = figures
        .iter()
        .map(|(name, value)| format!("{name}\t{value}"))
        .collect::<Vec<_>>()
        .join("\t");
    let line = format!(
        "{line}\tbuild\t{}",
        if cfg!(debug_assertions) {
            "development"
        } else {
            "release"
        }
    );
    eprintln!("{test}: {}", line.replace('\t', " "));
    let Some(path) = std::env::var_os("CLAUDEMESH_FIGURES") else {
        return;
    };
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    writeln!(file, "{test}\t{line}").unwrap();
}
