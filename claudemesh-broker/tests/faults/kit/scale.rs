//! How much of everything: small by default, the full numbers by environment.

/// A number that is set by environment.
fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

fn count(variable: &str, otherwise: u64) -> usize {
    usize::try_from(number(variable, otherwise)).unwrap()
}

/// How often the broker is killed (full: 50).
pub(crate) fn kills() -> usize {
    count("CLAUDEMESH_KILLS", 5)
}

/// How often receivers' sockets are cut in runs of their own (full: 20).
pub(crate) fn cut_runs() -> usize {
    count("CLAUDEMESH_CUT_RUNS", 1)
}

/// Messages in each of these runs (full: 4,000).
pub(crate) fn cut_messages() -> usize {
    count("CLAUDEMESH_CUT_MESSAGES", 800)
}

/// How often a client process is killed (full: 20).
pub(crate) fn client_kills() -> usize {
    count("CLAUDEMESH_CLIENT_KILLS", 3)
}

/// How long the store is away, in seconds (full: 30).
pub(crate) fn outage_seconds() -> u64 {
    number("CLAUDEMESH_OUTAGE_SECONDS", 3)
}

/// Clients that come back at once (full: 1,000).
pub(crate) fn herd() -> usize {
    count("CLAUDEMESH_HERD", 40)
}

/// How long latency is measured with and without a slow reader, in seconds each (full: 10).
pub(crate) fn slow_seconds() -> u64 {
    number("CLAUDEMESH_SLOW_SECONDS", 1)
}
