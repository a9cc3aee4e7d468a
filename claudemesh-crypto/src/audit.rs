//! The hash chain of a mesh's audit log.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// `prev_hash` of the first row of a mesh.
pub const AUDIT_GENESIS: &str = "genesis";

/// Hash of one audit row: SHA-256 of the six fields joined by `|`, as 64 lower-case hexadecimal characters.
///
/// `payload_json` is hashed as given: store that text, or always make it with [`canonical_json`]. A row without an actor
/// has the text `null` in its place. `created_at_iso` is `YYYY-MM-DDTHH:MM:SS.mmmZ`.
#[must_use]
pub fn audit_hash(
    prev_hash: &str,
    mesh_id: &str,
    event_type: &str,
    actor_member_id: Option<&str>,
    payload_json: &str,
    created_at_iso: &str,
) -> String {
    let actor = actor_member_id.unwrap_or("null");
    let fields = [prev_hash, mesh_id, event_type, actor, payload_json, created_at_iso];
    hex::encode(Sha256::digest(fields.join("|")))
}

/// Compact JSON with the keys of every object sorted by their UTF-8 bytes: the same text whatever order a database or a
/// client keeps them in. Numbers are written as `serde_json` writes them.
#[must_use]
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            text.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(item, text);
            }
            text.push('}');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}
