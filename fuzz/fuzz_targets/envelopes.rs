//! Envelopes of messages: direct, sealed boxes, and the original's clear text.
#![no_main]

use claudemesh_crypto::{
    SecretKey, decode_plain_text, open_direct, open_incoming, open_meta, open_root_key, open_sealed,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (nonce, ciphertext, bytes) = input;
    let key = SecretKey::from_seed(&[2; 32]);
    let public = key.public();
    let _ = open_direct(&[&key], &public, nonce, ciphertext);
    let _ = open_meta(&[&key], &public, nonce, ciphertext, bytes);
    let _ = open_incoming(&[&key], Some(nonce), ciphertext, nonce, ciphertext);
    let _ = decode_plain_text(ciphertext);
    let _ = open_root_key(&key.to_box_key(), ciphertext);
    let _ = open_sealed(&key.to_box_key(), bytes);
});
