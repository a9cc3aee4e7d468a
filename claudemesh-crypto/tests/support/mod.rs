//! Reads the vector files. Every text is expected to be there: a vector that lost a field must fail its test.
#![allow(dead_code, reason = "each test binary uses a part")]

use claudemesh_crypto::SecretKey;
use serde_json::Value;

/// The content of `tests/vectors/{name}.json`.
pub(crate) fn vectors(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text at a JSON pointer.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value
        .pointer(pointer)
        .unwrap_or_else(|| panic!("vector has no {pointer}"));
    found
        .as_str()
        .unwrap_or_else(|| panic!("vector's {pointer} is no text"))
}

/// The integer at a JSON pointer.
pub(crate) fn integer(value: &Value, pointer: &str) -> i64 {
    let found = value
        .pointer(pointer)
        .unwrap_or_else(|| panic!("vector has no {pointer}"));
    found
        .as_i64()
        .unwrap_or_else(|| panic!("vector's {pointer} is no integer"))
}

/// The bytes at a JSON pointer, in hexadecimal.
pub(crate) fn bytes(value: &Value, pointer: &str) -> Vec<u8> {
    hex::decode(text(value, pointer)).unwrap_or_else(|error| panic!("vector's {pointer}: {error}"))
}

/// As [`bytes`], of a fixed length.
pub(crate) fn array<const N: usize>(value: &Value, pointer: &str) -> [u8; N] {
    bytes(value, pointer)
        .try_into()
        .unwrap_or_else(|_| panic!("vector's {pointer} is not {N} bytes long"))
}

/// The list at a JSON pointer; never empty, so that no loop over it passes by doing nothing.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    match value.pointer(pointer).and_then(Value::as_array) {
        Some(items) if !items.is_empty() => items,
        _ => panic!("vector has no cases at {pointer}"),
    }
}

/// An identity of `keys.json`, made from its seed.
pub(crate) fn key(name: &str) -> SecretKey {
    SecretKey::from_seed(&array(&vectors("keys"), &format!("/keys/{name}/seed")))
}
