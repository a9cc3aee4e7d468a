//! The session's counters. Reported to the broker once a minute while they change: the base that the broker gave plus what
//! this session did since.

use crate::ClientError;
use crate::inner::Inner;
use crate::pending::lock;
use claudemesh_proto::model::Stats;
use claudemesh_proto::ops::SetStats;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Time between two reports.
const INTERVAL: Duration = Duration::from_secs(60);

struct State {
    /// What this client has counted since it was made.
    session: Stats,
    /// Totals of the member when the current connection began.
    base: Stats,
    /// What of `session` is in `base` already, from earlier connections.
    reported_before: Stats,
    /// What of `session` the broker has.
    reported: Stats,
}

/// Counts what one client does.
pub(crate) struct SessionStats {
    state: Mutex<State>,
    started: Instant,
}

impl Default for SessionStats {
    fn default() -> Self {
        let zero = Stats::default();
        let state = State {
            session: zero,
            base: zero,
            reported_before: zero,
            reported: zero,
        };
        Self {
            state: Mutex::new(state),
            started: Instant::now(),
        }
    }
}

impl SessionStats {
    pub(crate) fn count(&self, add: impl FnOnce(&mut Stats)) {
        add(&mut lock(&self.state).session);
    }

    pub(crate) fn session(&self) -> Stats {
        Stats {
            uptime: self.started.elapsed().as_secs(),
            ..lock(&self.state).session
        }
    }

    /// A connection began; `base` is what the broker has of the member, this session's earlier reports included.
    pub(crate) fn connected(&self, base: Option<Stats>) {
        let mut state = lock(&self.state);
        state.reported_before = state.reported;
        state.base = base.unwrap_or_default();
    }

    /// The totals to report, and what of the session they contain.
    fn report(&self) -> Option<(Stats, Stats)> {
        let state = lock(&self.state);
        if state.session == state.reported {
            return None;
        }
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let State {
            session,
            base,
            reported_before,
            ..
        } = &*state;
        let totals = Stats {
            messages_in: base.messages_in + since(session.messages_in, reported_before.messages_in),
            messages_out: base.messages_out + since(session.messages_out, reported_before.messages_out),
            tool_calls: base.tool_calls + since(session.tool_calls, reported_before.tool_calls),
            errors: base.errors + since(session.errors, reported_before.errors),
            uptime: self.started.elapsed().as_secs(),
        };
        Some((totals, *session))
    }

    fn reported(&self, session: Stats) {
        lock(&self.state).reported = session;
    }
}

/// Reports until the client is closed.
pub(crate) async fn run(inner: Arc<Inner>) {
    loop {
        tokio::select! {
            () = inner.shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        report(&inner).await;
    }
}

/// Reports now, if there is something new and a connection.
pub(crate) async fn report(inner: &Arc<Inner>) {
    if !inner.is_open() {
        return;
    }
    if let Some((stats, session)) = inner.stats.report() {
        match inner.request(&SetStats { stats }).await {
            Ok(_) => inner.stats.reported(session),
            Err(error) => {
                if may_have_arrived(&error) {
                    inner.stats.reported(session);
                }
                tracing::debug!(%error, "counters were not reported");
            }
        }
    }
}

/// Whether the broker may have taken a report in although it failed here. On the same connection it would do no harm to
/// repeat it; on the next one, whose base may contain it, it would count twice. So it is taken as told: rather a little
/// less than the truth than more.
fn may_have_arrived(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::NotConnected { sent: true, .. } | ClientError::Timeout { .. } | ClientError::Protocol { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defect_095_sub_e_25_totals_do_not_double_over_reconnects() {
        let stats = SessionStats::default();
        let base = |messages_out| {
            Some(Stats {
                messages_out,
                ..Stats::default()
            })
        };
        stats.connected(base(100));
        stats.count(|counters| counters.messages_out += 5);
        let (totals, session) = stats.report().unwrap();
        assert_eq!(totals.messages_out, 105);
        stats.reported(session);
        assert!(stats.report().is_none());
        stats.connected(base(105));
        stats.count(|counters| counters.messages_out += 1);
        assert_eq!(stats.report().unwrap().0.messages_out, 106);
    }
}
