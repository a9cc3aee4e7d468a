//! One directory for all sessions of a member: each has a journal of its own in it, and takes over those of sessions that
//! ended.
//!
//! `<root>/<member and mesh>/<number>/` is one journal. The lock of the directory above is held while one is chosen, so
//! that a journal that is taken over is not opened by anybody else at the same time.

use super::log::owner;
use super::record::Record;
use super::{Journal, Restored, create_private_directory, open_lock, try_lock};
use crate::pending::lock;
use crate::{ClientError, Identity};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Opens a journal that no running session uses: one that has messages to send if there is one, else any, else a new
/// one. What other ended sessions left is moved into it.
///
/// # Errors
/// [`ClientError::Journal`] when the directory cannot be read and written.
pub(crate) fn open_in_pool(root: &Path, identity: &Identity) -> Result<(Journal, Restored), ClientError> {
    let owner = owner(&identity.public(), identity.mesh_id.as_str());
    let pool = root.join(hex::encode(&owner[..12]));
    let failed = |error| ClientError::journal(&pool, &error);
    create_private_directory(&pool).map_err(failed)?;
    let choosing = open_lock(&pool).map_err(failed)?;
    choosing.lock().map_err(failed)?;

    let (mut idle, mut highest) = (Vec::new(), 0);
    for (number, directory) in journals(&pool).map_err(failed)? {
        highest = highest.max(number);
        let Some(held) = try_lock(&directory).map_err(failed)? else {
            continue;
        };
        match Journal::open_locked(&directory, held, identity) {
            Ok(opened) => idle.push(opened),
            // It must not keep a session from starting.
            Err(error) => tracing::warn!(%error, "a journal of an ended session cannot be used"),
        }
    }
    let with_outgoing = idle.iter().position(|(_, restored)| !restored.outgoing.is_empty());
    let (own, mut restored) = match (with_outgoing, idle.is_empty()) {
        (Some(index), _) => idle.swap_remove(index),
        (None, false) => idle.remove(0),
        (None, true) => Journal::open(&pool.join((highest + 1).to_string()), identity)?,
    };
    for (other, left) in idle {
        // They are sealed with the key of their session: a client that takes this journal sends them.
        if !left.outgoing.is_empty() {
            continue;
        }
        match own.absorb(&other, left, &mut restored) {
            Ok(()) => remove(other).map_err(failed)?,
            Err(error) => tracing::warn!(%error, "what an ended session left stays where it is"),
        }
    }
    Ok((own, restored))
}

/// Directories of journals by number.
fn journals(pool: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(pool)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(number), true) = (number, entry.file_type()?.is_dir()) {
            journals.push((number, entry.path()));
        }
    }
    journals.sort_unstable();
    Ok(journals)
}

fn remove(journal: Journal) -> io::Result<()> {
    fs::remove_dir_all(&journal.directory)
}

impl Journal {
    /// Takes over what another journal holds. All of it is on disk when this returns.
    fn absorb(&self, other: &Self, left: Restored, into: &mut Restored) -> Result<(), ClientError> {
        if lock(&other.state).index.is_empty() && left.known.is_empty() {
            return Ok(());
        }
        let mut state = lock(&self.state);
        self.write(&mut state, &Record::Known(left.known.clone()))?;
        for taken in &left.unconfirmed {
            self.write(&mut state, &Record::Taken(Box::new(taken.clone())))?;
        }
        for ack in &left.acks {
            self.write(&mut state, &Record::Acked(ack.clone()))?;
        }
        drop(state);
        self.sync()
            .map_err(|error| ClientError::journal(&self.directory, &error))?;
        into.known.extend(left.known);
        into.unconfirmed.extend(left.unconfirmed);
        into.acks.extend(left.acks);
        into.warnings.extend(left.warnings);
        Ok(())
    }
}
