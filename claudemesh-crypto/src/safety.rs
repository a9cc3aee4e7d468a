//! Safety numbers: thirty digits that two people compare aloud.

use sha2::{Digest as _, Sha256};

use crate::PublicKey;

/// Six groups of five digits, the same on both sides. Use the *member* keys of both people.
///
/// From the first 120 bits of SHA-256 over the two keys in byte order, 20 bits to a group, modulo 100000.
#[must_use]
pub fn safety_number(a: &PublicKey, b: &PublicKey) -> String {
    let (lower, higher) = if a <= b { (a, b) } else { (b, a) };
    let hash = Sha256::new()
        .chain_update(lower.as_bytes())
        .chain_update(higher.as_bytes())
        .finalize();
    // Five bytes hold two groups.
    let groups: Vec<String> = hash[..15]
        .chunks_exact(5)
        .flat_map(|bytes| {
            let bits = bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            [bits >> 20, bits & 0xf_ffff]
        })
        .map(|group| format!("{:05}", group % 100_000))
        .collect();
    groups.join(" ")
}
