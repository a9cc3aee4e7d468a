//! The audit chain and backup files against the original's vectors.

mod support;

use argon2::{Algorithm, Argon2, Params, Version};
use claudemesh_crypto::{
    AUDIT_GENESIS, BACKUP_MIN_BYTES, BackupError, audit_hash, canonical_json, open_backup, seal_backup,
    seal_backup_with,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::{array, bytes, integer, list, text, vectors};

#[test]
fn audit_chain() {
    let file = vectors("audit_chain");
    let mesh = text(&file, "/meshId");
    let rows = list(&file, "/rows");
    assert_eq!(rows.len(), 5);
    let mut previous = AUDIT_GENESIS.to_owned();
    for row in rows {
        assert_eq!(text(row, "/prevHash"), previous);
        let payload = text(row, "/payload_json_as_hashed");
        let parsed: Value = serde_json::from_str(payload).expect("payload");
        assert_eq!(parsed, row["payload"]);
        let actor = row["actorMemberId"].as_str();
        let hash = audit_hash(
            &previous,
            mesh,
            text(row, "/eventType"),
            actor,
            payload,
            text(row, "/createdAt"),
        );
        assert_eq!(hash, text(row, "/hash"));
        assert_eq!(hash, hex::encode(Sha256::digest(text(row, "/hash_input"))));
        previous = hash;
    }
}

/// The original hashes the writer's key order and verifies the database's, so its chains look broken. Ours is the same
/// text for both.
#[test]
fn canonical_json_does_not_depend_on_key_order() {
    let file = vectors("audit_chain");
    let stored = canonical_json(&file["postgres_jsonb_key_order_example"]["stored"]);
    assert_eq!(stored, r#"{"groups":[],"pubkey":"...","restored":false}"#);
    let written: Value = serde_json::from_str(r#"{"pubkey":"...","groups":[],"restored":false}"#).expect("json");
    assert_eq!(canonical_json(&written), stored);
    let nested = canonical_json(&json!({"b": [{"z": 1, "é": "\n\"", "a": null}], "a": {"y": 1.5, "x": -2}, "B": []}));
    assert_eq!(
        nested,
        r#"{"B":[],"a":{"x":-2,"y":1.5},"b":[{"a":null,"z":1,"é":"\n\""}]}"#
    );
}

#[test]
fn sub_e_15_cli_10_backup() {
    let file = vectors("backup");
    let passphrase = text(&file, "/passphrase");
    let content = text(&file, "/plaintext_utf8").as_bytes();
    let (salt, nonce) = (array::<16>(&file, "/salt_hex"), array(&file, "/nonce_hex"));
    let expected = bytes(&file, "/file_hex");

    let number = |pointer| u32::try_from(integer(&file, pointer)).expect("u32");
    let params = Params::new(
        number("/mem_bytes") / 1024,
        number("/ops"),
        number("/parallelism"),
        Some(32),
    );
    let mut key = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.expect("valid parameters"))
        .hash_password_into(passphrase.as_bytes(), &salt, &mut key)
        .expect("key");
    assert_eq!(key.as_slice(), bytes(&file, "/key_hex"));

    assert_eq!(
        seal_backup_with(passphrase, content, &salt, &nonce),
        Ok(expected.clone())
    );
    assert_eq!(open_backup(passphrase, &expected).expect("opens").as_slice(), content);
    assert_eq!(
        open_backup("correct horse batterz", &expected),
        Err(BackupError::Undecryptable)
    );
    let mut altered = expected.clone();
    *altered.last_mut().expect("not empty") ^= 1;
    assert_eq!(open_backup(passphrase, &altered), Err(BackupError::Undecryptable));
    let fresh = seal_backup(passphrase, b"x").expect("seals");
    assert_eq!(fresh.len(), BACKUP_MIN_BYTES);
    assert_eq!(open_backup(passphrase, &fresh).expect("opens").as_slice(), b"x");
}

#[test]
fn backup_refusals() {
    assert_eq!(BACKUP_MIN_BYTES, 61);
    assert_eq!(
        seal_backup("elevenchars", b"x"),
        Err(BackupError::PassphraseTooShort { length: 11 })
    );
    assert_eq!(seal_backup("twelve chars", b""), Err(BackupError::Empty));
    assert_eq!(open_backup("p", b"CM"), Err(BackupError::Truncated { length: 2 }));
    assert_eq!(open_backup("p", &[b'x'; 100]), Err(BackupError::BadMagic));
    let short = [b"CMB1".as_slice(), &[0; 56]].concat();
    assert_eq!(open_backup("p", &short), Err(BackupError::Truncated { length: 60 }));
}
