//! Decoders of group records and envelopes: any bytes are read or refused, and nothing panics.
#![allow(missing_docs)]

use claudemesh_crypto::group::{GroupEnvelope, KeyGrant, KeyRequest, LogEntry, LogState, Proposed, Seal};
use claudemesh_crypto::{canonical_json, open_backup};
use proptest::prelude::*;
use serde_json::Value;

const NAMES: &[&str] = &[
    "type",
    "mesh",
    "generation",
    "index",
    "epoch",
    "author",
    "previous",
    "prev",
    "change",
    "commitment",
    "signature",
    "sig",
    "device",
    "to",
    "seal",
    "key",
    "keys",
    "wrapped",
    "head",
    "hash",
    "roster",
    "admit",
    "remove",
    "rotate",
    "reset",
    "invite",
    "role",
    "v",
    "scheme",
    "nonce",
    "ciphertext",
    "label",
    "session",
    "seq",
    "request",
    "grant",
    "at",
    "time",
];

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[0-9a-f]{64}".prop_map(Value::from),
        "[0-9a-f]{128}".prop_map(Value::from),
        "[A-Za-z0-9_-]{20,60}".prop_map(Value::from),
        prop::sample::select(NAMES).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 50, 10, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(prop::sample::select(NAMES).prop_map(str::to_owned), inner, 0..10)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn decode_all(bytes: &[u8]) {
    let _ = LogEntry::from_json(bytes);
    let _ = Seal::from_json(bytes);
    let _ = KeyGrant::from_json(bytes);
    let _ = KeyRequest::from_json(bytes);
    let _ = GroupEnvelope::from_json(bytes);
    let _ = LogState::from_json(bytes);
    let _ = Proposed::from_bytes(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn group_records_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_all(&bytes);
        // A backup with a real head but nothing behind it.
        let mut backup = b"CMB1".to_vec();
        backup.extend(bytes.iter().take(40));
        if backup.len() < 40 {
            prop_assert!(open_backup("passphrase long enough", &backup).is_err());
        }
    }

    #[test]
    fn group_records_of_any_json(value in json(), cut in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let text = value.to_string();
        decode_all(text.as_bytes());
        decode_all(&text.as_bytes()[..cut.index(text.len() + 1)]);
        let mut changed = text.clone().into_bytes();
        let at = flip.index(changed.len());
        changed[at] ^= 1_u8 << bit;
        decode_all(&changed);
        // One text for one value, whatever it contains.
        let canonical = canonical_json(&value);
        prop_assert_eq!(serde_json::from_str::<Value>(&canonical).ok(), Some(value));
    }
}
