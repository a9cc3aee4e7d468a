//! Envelopes of messages: direct, sealed boxes, and the original's clear text. The input is three lines: nonce, ciphertext,
//! and bytes; these are also sealed by a peer who may seal what it likes.
#![no_main]

use claudemesh_crypto::{
    PublicKey, SecretKey, decode_plain_text, encode_base64, open_direct, open_incoming, open_meta, open_root_key,
    open_sealed,
};
use crypto_box::SalsaBox;
use crypto_box::aead::Aead as _;
use libfuzzer_sys::fuzz_target;

/// Marks metadata inside an envelope.
const META_TAG: &[u8] = b"claudemesh-meta-v1\0";
const BODY: &[u8] = b"body";

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (nonce, ciphertext, bytes) = (line(), line(), line());
    let (me, peer) = (SecretKey::from_seed(&[2; 32]), SecretKey::from_seed(&[3; 32]));
    if let (Ok(nonce), Ok(ciphertext)) = (std::str::from_utf8(nonce), std::str::from_utf8(ciphertext)) {
        let _ = open_incoming(&[&me], None, &peer.public().to_string(), nonce, ciphertext);
        let _ = open_incoming(&[&me], Some(nonce), ciphertext, nonce, ciphertext);
        let _ = decode_plain_text(ciphertext);
        let _ = open_root_key(&me.to_box_key(), ciphertext);
        if let Ok(sender) = ciphertext.parse::<PublicKey>() {
            let _ = open_direct(&[&me], &sender, nonce, ciphertext);
        }
    }
    let _ = open_sealed(&me.to_box_key(), bytes);
    // What a member of the mesh can make: sealed as it should be, whatever is inside.
    let cipher = SalsaBox::new(&me.public().to_box_key().expect("a key"), &peer.to_box_key());
    let meta = [META_TAG, peer.public().as_bytes(), me.public().as_bytes(), bytes].concat();
    for plaintext in [bytes, &meta] {
        let sealed = cipher.encrypt(&[7; 24].into(), plaintext).expect("it is sealed");
        let (nonce, sealed) = (encode_base64(&[7; 24]), encode_base64(&sealed));
        let opened = open_direct(&[&me], &peer.public(), &nonce, &sealed);
        assert_eq!(opened.is_ok(), !plaintext.starts_with(META_TAG));
        if let Ok(meta) = open_meta(&[&me], &peer.public(), &nonce, &sealed, BODY) {
            assert!(meta.check_body(BODY).is_ok());
            if let Some(proof) = &meta.sender {
                let _ = proof.verify("mesh", &meta.id, &peer.public(), &me.public());
            }
        }
    }
});
