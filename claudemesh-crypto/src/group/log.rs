//! The broker's side of the log.

use super::entry::{EntryBody, LogEntry};
use super::error::Refusal;
use super::roster::EpochId;
use super::seal::Seal;
use super::state::LogState;
use crate::PublicKey;

/// The broker's side: judges entries without any secret.
pub trait GroupLog {
    /// The state after the first entry of a log.
    ///
    /// # Errors
    /// Why it cannot start this log.
    fn start(&self, mesh_id: &str, owner: &PublicKey, first: &LogEntry, now_ms: u64) -> Result<LogState, Refusal>;

    /// The state after `entry`, which the broker stores together with the entry if the head is still that of `state`.
    ///
    /// # Errors
    /// Which rule the entry breaks.
    fn check(&self, state: &LogState, entry: &LogEntry, now_ms: u64) -> Result<LogState, Refusal>;

    /// Judges entries that are proposed together on `state`, with their seals: those of the epochs among them, and late ones
    /// that bring the current key to a new device or invite.
    ///
    /// # Errors
    /// The first rule that is broken.
    fn check_batch(
        &self,
        state: &LogState,
        entries: &[LogEntry],
        seals: &[Seal],
        now_ms: u64,
    ) -> Result<LogState, Refusal> {
        let mut state = state.clone();
        let mut started = Vec::new();
        for entry in entries {
            state = self.check(&state, entry, now_ms)?;
            if let EntryBody::Epoch { epoch, .. } = &entry.body {
                let id = EpochId {
                    generation: entry.generation,
                    epoch: *epoch,
                };
                let own: Vec<Seal> = seals.iter().filter(|seal| seal.id() == id).cloned().collect();
                state.check_seals(entry, &own)?;
                started.push(id);
            }
        }
        for seal in seals.iter().filter(|seal| !started.contains(&seal.id())) {
            state.check_late_seal(seal)?;
        }
        Ok(state)
    }
}

/// [`GroupLog`] for scheme `epoch/1`.
#[derive(Clone, Copy, Debug, Default)]
pub struct EpochLog;

impl GroupLog for EpochLog {
    fn start(&self, mesh_id: &str, owner: &PublicKey, first: &LogEntry, now_ms: u64) -> Result<LogState, Refusal> {
        LogState::start(mesh_id, owner, first, now_ms)
    }

    fn check(&self, state: &LogState, entry: &LogEntry, now_ms: u64) -> Result<LogState, Refusal> {
        state.advance(entry, now_ms).map_err(|refusal| match refusal {
            // To the broker, another entry at a taken place is the loser of a race. To a client it is proof of a fork: it
            // is only ever sent what the broker accepted.
            Refusal::Fork if entry.position() <= state.head().position() => Refusal::Stale,
            other => other,
        })
    }
}
