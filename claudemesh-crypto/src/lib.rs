//! Identities, signatures, envelopes, group keys and invites of claudemesh.
//!
//! Everything here is a pure function of its arguments (randomness comes from the operating system): no sockets, no
//! files, no clock. Times are parameters, in milliseconds since the Unix epoch unless a name ends in `_secs`.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod encoding;
mod keys;

pub use encoding::{decode_base64, decode_base64_url, encode_base64, encode_base64_url, random_bytes, random_id};
pub use keys::{BoxPublicKey, BoxSecretKey, KeyError, PublicKey, SecretKey, Signature};
