//! Records of the group log, seals, grants, requests and sealed messages, one on each line. What is read is written as it
//! was. Entries are signed anew and put at the end of a log, so that what members may sign is judged, whatever it says.
#![no_main]

use claudemesh_crypto::SecretKey;
use claudemesh_crypto::group::{
    EntryBody, EpochKeys, GroupEnvelope, Head, HeadRelation, KeyGrant, KeyRequest, LogEntry, LogState, Position,
    Proposed, Seal,
};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};

/// Mesh, time and keys of the vectors, which are the seeds.
const MESH: &str = "mesh-vectors";
const NOW_MS: u64 = 1_800_000_000_000;

fuzz_target!(|bytes: &[u8]| {
    let people = [1, 2, 3].map(|seed| SecretKey::from_seed(&[seed; 32]));
    let owner = people[0].public();
    let mut state: Option<LogState> = None;
    let (mut entries, mut seals) = (Vec::new(), Vec::new());
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(seal) = Seal::from_json(line) {
            same(&seal);
            seals.push(seal);
        }
        if let Ok(grant) = KeyGrant::from_json(line) {
            same(&grant);
        }
        if let Ok(request) = KeyRequest::from_json(line) {
            same(&request);
        }
        if let Ok(envelope) = GroupEnvelope::from_json(line) {
            same(&envelope);
        }
        if let Ok(stored) = LogState::from_json(line) {
            assert_eq!(LogState::from_json(&stored.to_json()).ok(), Some(stored));
        }
        let _ = Proposed::from_bytes(line);
        let _ = EpochKeys::restore(line, &people[1]);
        let Ok(entry) = LogEntry::from_json(line) else {
            continue;
        };
        same(&entry);
        let entry = at_the_end(state.as_ref().map(LogState::head), entry, &people);
        let next = match &state {
            None => LogState::start(MESH, &owner, &entry, NOW_MS),
            Some(state) => state.advance(&entry, NOW_MS),
        };
        if let Ok(next) = next {
            assert_eq!(LogState::from_json(&next.to_json()).as_ref(), Ok(&next));
            assert_eq!(next.compare(&next.head()), HeadRelation::Same);
            if let Some(before) = &state {
                assert!(next.head().position() > before.head().position());
                assert_ne!(next.compare(&before.head()), HeadRelation::Fork);
            }
            let _ = next.check_seals(&entry, &seals);
            entries.push(entry);
            state = Some(next);
        }
    }
    // Whoever follows the same log comes to the same state.
    if let Some(state) = state {
        let keys = EpochKeys::from_log(MESH, &owner, &entries, &seals, &people[1], NOW_MS).expect("the log is accepted");
        assert_eq!(*keys.state(), state);
        let _ = keys.missing_epochs();
    }
});

/// What was read is written and read to the same.
fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let written = serde_json::to_vec(value).expect("it can be written");
    assert_eq!(serde_json::from_slice::<T>(&written).ok().as_ref(), Some(value));
}

/// The entry as its author would have signed it for this place.
fn at_the_end(head: Option<Head>, entry: LogEntry, people: &[SecretKey]) -> LogEntry {
    let author = people.iter().find(|key| key.public() == entry.author);
    let (at, prev) = match head {
        None => (entry.position(), entry.prev),
        Some(head) => {
            let resets = matches!(entry.body, EntryBody::Reset { .. });
            let at = Position {
                generation: head.generation + u64::from(resets),
                index: if resets { 0 } else { head.index + 1 },
            };
            (at, head.hash)
        }
    };
    LogEntry::sign(MESH, at, prev, entry.body, author.unwrap_or(&people[0]))
}
