//! Identities, signatures, envelopes, group keys and invites of claudemesh.
//!
//! Everything here is a pure function of its arguments (randomness comes from the operating system): no sockets, no
//! files, no clock. Times are parameters, in milliseconds since the Unix epoch unless a name ends in `_secs`.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod at_rest;
mod audit;
mod backup;
mod direct;
mod encoding;
mod file;
pub mod group;
mod hello;
mod interop;
mod invite;
mod keys;
mod peer_files;
mod request;
mod safety;
mod sealed_box;

pub use at_rest::{AT_REST_OVERHEAD, AtRestKey};
pub use audit::{AUDIT_GENESIS, audit_hash, canonical_json};
#[doc(hidden)]
pub use backup::seal_backup_with;
pub use backup::{BACKUP_MIN_BYTES, BACKUP_PASSPHRASE_MIN, BackupError, open_backup, seal_backup};
#[doc(hidden)]
pub use direct::seal_direct_with_nonce;
pub use direct::{
    DirectMeta, Envelope, EnvelopeError, MetaHead, SenderProof, open_direct, open_meta, seal_direct, seal_meta,
};
pub use encoding::{decode_base64, decode_base64_url, encode_base64, encode_base64_url, random_bytes, random_id};
pub use file::{
    FILE_CHUNK_BYTES, FILE_HEADER_BYTES, FileError, FileKey, FileOpener, FileProofText, FileSealer,
    MAX_FILE_CONTENT_BYTES, SEALED_CHUNK_BYTES, file_chunks, file_content_bytes, open_secretbox_file,
    sealed_file_bytes,
};
pub use hello::{HELLO_SKEW_MS, HelloError, HelloV2, HelloV2Proof, hello_v1_text, sign_hello_v1, verify_hello_v1};
pub use interop::{Opened, decode_plain_text, encode_plain_text, is_direct_target, open_incoming};
#[doc(hidden)]
pub use invite::seal_root_key_with_ephemeral;
pub use invite::{
    InviteCapability, InviteError, InviteLink, InviteRole, InviteSecret, InviteV1, InviteV2, NewInviteV1,
    decode_box_key, encode_box_key, format_link, is_invite_code, new_invite_code, open_root_key, parse_invite,
    seal_root_key,
};
pub use keys::{BoxPublicKey, BoxSecretKey, KeyError, PublicKey, SecretKey, Signature};
pub use peer_files::{PEER_ASK_SKEW_MS, PeerAsk, PeerAskError, PeerAsked};
pub use request::{
    REQUEST_SCHEME, REQUEST_SKEW_MS, RequestError, SignedRequest, request_digest, sign_request, sign_request_digest,
};
pub use safety::safety_number;
#[doc(hidden)]
pub use sealed_box::seal_to_box_with_ephemeral;
pub use sealed_box::{SEAL_OVERHEAD, SealError, open_sealed, seal_to, seal_to_box};
