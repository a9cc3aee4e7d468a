//! Identifiers and encoded bytes. Each is its own type so that a member id cannot be passed where a mesh id belongs.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::{Borrow, Cow};
use std::fmt;

macro_rules! text_type {
    ($( $(#[$doc:meta])* $name:ident, $schema:tt; )+) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text form.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl From<String> for $name { fn from(text: String) -> Self { Self(text) } }
        impl From<&str> for $name { fn from(text: &str) -> Self { Self(text.to_owned()) } }
        impl From<$name> for String { fn from(value: $name) -> Self { value.0 } }
        impl AsRef<str> for $name { fn as_ref(&self) -> &str { &self.0 } }
        impl Borrow<str> for $name { fn borrow(&self) -> &str { &self.0 } }
        impl JsonSchema for $name {
            fn inline_schema() -> bool { true }
            fn schema_name() -> Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut SchemaGenerator) -> Schema { json_schema!($schema) }
        }
    )+ };
}

text_type! {
    /// A mesh: a tenant of the broker. 32 characters of `0-9A-Za-z` when made by this broker.
    MeshId, { "type": "string", "minLength": 1, "maxLength": 64 };
    /// One key enrolled in one mesh. 32 characters of `0-9A-Za-z` when made by this broker.
    MemberId, { "type": "string", "minLength": 1, "maxLength": 64 };
    /// One accepted `hello`: a live session of a member.
    PresenceId, { "type": "string", "minLength": 1, "maxLength": 64 };
    /// One message, the same for all of its recipients. Clients of protocol 2 choose it (32 random characters).
    MessageId, { "type": "string", "minLength": 1, "maxLength": 64 };
    /// Ed25519 public key: 64 lower-case hexadecimal characters.
    KeyHex, { "type": "string", "pattern": "^[0-9a-f]{64}$" };
    /// Ed25519 signature: 128 lower-case hexadecimal characters.
    HexSignature, { "type": "string", "pattern": "^[0-9a-f]{128}$" };
    /// SHA-256: 64 lower-case hexadecimal characters.
    HexHash, { "type": "string", "pattern": "^[0-9a-f]{64}$" };
    /// Bytes in standard base64 with padding.
    Base64, { "type": "string", "maxLength": 1_048_576 };
}

impl KeyHex {
    /// The first eight characters, for people to tell peers apart.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}
