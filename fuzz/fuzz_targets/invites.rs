//! Links, tokens and capabilities of invites, signed requests, and the texts of hello.
#![no_main]

use claudemesh_crypto::{
    InviteCapability, InviteV1, InviteV2, SignedRequest, decode_base64, decode_base64_url, decode_box_key,
    encode_base64, encode_base64_url, parse_invite, verify_hello_v1,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse_invite(text);
    if let Ok(invite) = InviteV1::from_token(text) {
        let _ = format!("{invite:?}");
    }
    if let Ok(invite) = InviteV2::parse(text) {
        // The signature is over this text: there is one for each invite.
        assert_eq!(invite.canonical(), text);
    }
    let _ = InviteCapability::from_json(text);
    let _ = SignedRequest::from_header(text);
    let _ = decode_box_key(text);
    let _ = verify_hello_v1(text, text, text, 0, text, 0);
    if let Some(bytes) = decode_base64(text) {
        assert_eq!(decode_base64(&encode_base64(&bytes)), Some(bytes));
    }
    if let Some(bytes) = decode_base64_url(text) {
        assert_eq!(decode_base64_url(&encode_base64_url(&bytes)), Some(bytes));
    }
});
