//! Links, tokens and capabilities of invites, and signed requests.
#![no_main]

use claudemesh_crypto::{
    InviteCapability, InviteV1, InviteV2, SignedRequest, decode_box_key, parse_invite, verify_hello_v1,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse_invite(text);
    let _ = InviteV1::from_token(text);
    let _ = InviteV2::parse(text);
    let _ = InviteCapability::from_json(text);
    let _ = SignedRequest::from_header(text);
    let _ = decode_box_key(text);
    let _ = verify_hello_v1(text, text, text, 0, text, 0);
});
