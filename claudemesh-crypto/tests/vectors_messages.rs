//! Direct and clear-text envelopes against the original's vectors.

mod support;

use claudemesh_crypto::{
    EnvelopeError, Opened, decode_base64, decode_plain_text, encode_base64, encode_plain_text, is_direct_target,
    open_direct, open_incoming, seal_direct_with_nonce,
};
use support::{array, bytes, key, list, text, vectors};

#[test]
fn direct() {
    let file = vectors("direct_envelope");
    let cases = list(&file, "/cases");
    assert_eq!(cases.len(), 5);
    for case in cases {
        let name = text(case, "/name");
        let (from, to) = (key(text(case, "/from")), key(text(case, "/to")));
        let plaintext = text(case, "/plaintext_utf8");
        let (nonce, ciphertext) = (text(case, "/envelope/nonce"), text(case, "/envelope/ciphertext"));

        let nonce_bytes = array(case, "/nonce_hex");
        assert_eq!(encode_base64(&nonce_bytes), nonce, "{name}");
        assert_eq!(
            decode_base64(ciphertext),
            Some(bytes(case, "/ciphertext_hex")),
            "{name}"
        );
        let sealed = seal_direct_with_nonce(&from, &to.public(), plaintext.as_bytes(), &nonce_bytes).expect(name);
        assert_eq!(
            (sealed.nonce.as_str(), sealed.ciphertext.as_str()),
            (nonce, ciphertext),
            "{name}"
        );

        let other = key("owner");
        let opened = open_direct(&[&other, &to], &from.public(), nonce, ciphertext).expect(name);
        assert_eq!(opened.as_slice(), plaintext.as_bytes(), "{name}");
        // The key of the pair is the same from both ends.
        let opened = open_direct(&[&from], &to.public(), nonce, ciphertext).expect(name);
        assert_eq!(opened.as_slice(), plaintext.as_bytes(), "{name}");

        let incoming = open_incoming(&[&to], None, &from.public().to_string(), nonce, ciphertext);
        assert_eq!(
            incoming,
            Opened::Direct {
                text: plaintext.to_owned()
            },
            "{name}"
        );
    }
}

#[test]
fn direct_must_fail() {
    let file = vectors("direct_envelope");
    let cases = list(&file, "/must_fail");
    assert_eq!(cases.len(), 2);
    for case in cases {
        let name = text(case, "/name");
        let (from, to) = (key(text(case, "/from")), key(text(case, "/to")));
        let (nonce, ciphertext) = (text(case, "/envelope/nonce"), text(case, "/envelope/ciphertext"));
        let opened = open_direct(&[&to], &from.public(), nonce, ciphertext);
        assert_eq!(opened, Err(EnvelopeError::Undecryptable), "{name}");
        let incoming = open_incoming(&[&to], None, &from.public().to_string(), nonce, ciphertext);
        assert_eq!(incoming, Opened::Undecryptable, "{name}");
    }
}

#[test]
fn clear_text() {
    let file = vectors("group_envelope");
    let cases = list(&file, "/cases");
    assert_eq!(cases.len(), 3);
    let (bob, session, sender) = (
        key("bob"),
        key("bob_session"),
        key("alice_session").public().to_string(),
    );
    for case in cases {
        let name = text(case, "/name");
        let plaintext = text(case, "/plaintext_utf8");
        let (nonce, ciphertext) = (text(case, "/envelope/nonce"), text(case, "/envelope/ciphertext"));
        assert_eq!(encode_plain_text(plaintext).ciphertext, ciphertext, "{name}");
        assert_eq!(decode_plain_text(ciphertext).as_deref(), Some(plaintext), "{name}");
        let expected = Opened::Plaintext {
            text: plaintext.to_owned(),
            authenticated: false,
        };
        // With a key as sender, and with a sender that is none.
        for sender in [sender.as_str(), "system"] {
            assert_eq!(
                open_incoming(&[&session, &bob], None, sender, nonce, ciphertext),
                expected,
                "{name}"
            );
        }
    }
    // The targets that the clear form applies to, but the last, which is a sentence.
    let targets = list(&file, "/applies_to");
    for target in &targets[..targets.len() - 1] {
        assert!(!is_direct_target(target.as_str().expect("text")));
    }
    assert!(is_direct_target(&sender) && !is_direct_target(&sender.to_uppercase()));
}
