//! Keys, hello signatures and safety numbers against the original's vectors.

mod support;

use claudemesh_crypto::{KeyError, PublicKey, SecretKey, hello_v1_text, safety_number, sign_hello_v1, verify_hello_v1};
use sha2::{Digest as _, Sha256};
use support::{array, bytes, integer, key, list, text, vectors};

#[test]
fn keys() {
    let file = vectors("keys");
    let keys = file["keys"].as_object().expect("keys is an object");
    assert_eq!(keys.len(), 6);
    for (name, case) in keys {
        let key = SecretKey::from_seed(&array(case, "/seed"));
        assert_eq!(key.public().to_string(), text(case, "/ed25519_public_hex"), "{name}");
        assert_eq!(key.to_hex().as_str(), text(case, "/ed25519_secret_hex"), "{name}");
        let public = key.public().to_box_key().expect("usable key");
        assert_eq!(
            hex::encode(public.as_bytes()),
            text(case, "/x25519_public_hex"),
            "{name}"
        );
        let expected = claudemesh_crypto::BoxSecretKey::from(array::<32>(case, "/x25519_secret_hex"));
        assert!(key.to_box_key() == expected, "{name}: secret x25519 form");
        assert_eq!(key.to_box_key().public_key(), public, "{name}");

        let read = SecretKey::from_hex(text(case, "/ed25519_secret_hex")).expect("key file form");
        assert_eq!(read.public(), key.public(), "{name}");
        let upper: PublicKey = text(case, "/ed25519_public_hex")
            .to_uppercase()
            .parse()
            .expect("upper case");
        assert_eq!(upper, key.public(), "{name}");
    }
    let halves = [
        text(&file, "/keys/alice/seed"),
        text(&file, "/keys/bob/ed25519_public_hex"),
    ]
    .concat();
    assert_eq!(SecretKey::from_hex(&halves).err(), Some(KeyError::Mismatch));
}

#[test]
fn hello() {
    let file = vectors("hello");
    assert_eq!(integer(&file, "/skew_ms"), claudemesh_crypto::HELLO_SKEW_MS);
    let cases = list(&file, "/cases");
    assert_eq!(cases.len(), 9);
    let alice = key("alice");
    for case in cases {
        let name = text(case, "/name");
        let (mesh, member, pubkey) = (text(case, "/meshId"), text(case, "/memberId"), text(case, "/pubkey"));
        let timestamp = integer(case, "/timestamp");
        let canonical = hello_v1_text(mesh, member, pubkey, timestamp);
        if case.get("canonical").is_some() {
            assert_eq!(canonical, text(case, "/canonical"), "{name}");
        }
        if case.get("canonical_hex").is_some() {
            assert_eq!(canonical.as_bytes(), bytes(case, "/canonical_hex"), "{name}");
        }
        let signature = text(case, "/signature");
        let result = verify_hello_v1(
            mesh,
            member,
            pubkey,
            timestamp,
            signature,
            integer(case, "/verify_at_now_ms"),
        );
        if case["expect"]["ok"] == true {
            assert_eq!(result, Ok(alice.public()), "{name}");
            assert_eq!(
                alice.sign(canonical.as_bytes()).to_string(),
                signature.to_lowercase(),
                "{name}"
            );
            if pubkey == alice.public().to_string() {
                assert_eq!(
                    sign_hello_v1(&alice, mesh, member, timestamp).to_string(),
                    signature,
                    "{name}"
                );
            }
        } else {
            assert_eq!(
                result.map_err(|error| error.code()),
                Err(text(case, "/expect/reason")),
                "{name}"
            );
        }
    }
}

#[test]
fn sub_e_15_cli_40_safety_numbers() {
    let file = vectors("safety_number");
    let cases = list(&file, "/cases");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let (a, b) = (key(text(case, "/a")).public(), key(text(case, "/b")).public());
        assert_eq!(safety_number(&a, &b), text(case, "/safety_number"));
        assert_eq!(safety_number(&b, &a), text(case, "/safety_number"));
        let (lower, higher) = if a < b { (a, b) } else { (b, a) };
        let hash = Sha256::digest([*lower.as_bytes(), *higher.as_bytes()].concat());
        assert_eq!(hash.as_slice(), bytes(case, "/sha256_hex"));
    }
}
