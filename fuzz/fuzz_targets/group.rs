//! Records of the group log, seals, grants, requests and sealed messages. What is read is written as it was.
#![no_main]

use claudemesh_crypto::SecretKey;
use claudemesh_crypto::group::{EpochKeys, GroupEnvelope, KeyGrant, KeyRequest, LogEntry, LogState, Proposed, Seal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entry) = LogEntry::from_json(bytes) {
        let again = serde_json::to_vec(&entry).expect("it can be written");
        assert!(LogEntry::from_json(&again).is_ok());
    }
    let _ = Seal::from_json(bytes);
    let _ = KeyGrant::from_json(bytes);
    let _ = KeyRequest::from_json(bytes);
    let _ = GroupEnvelope::from_json(bytes);
    let _ = LogState::from_json(bytes);
    let _ = Proposed::from_bytes(bytes);
    let _ = EpochKeys::restore(bytes, &SecretKey::from_seed(&[2; 32]));
});
