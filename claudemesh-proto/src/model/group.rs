//! Groups of peers inside a mesh.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Name of a group, without the leading `@` (which is accepted and dropped). `/` separates levels: who is in
/// `backend/db` also gets what is sent to `@backend`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct GroupName(String);

impl GroupName {
    /// The name of `text`, with one leading `@` dropped.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.strip_prefix('@').unwrap_or(text).to_owned())
    }

    /// The name without `@`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This name and all levels above it, the most specific first: `a/b/c`, `a/b`, `a`.
    pub fn with_ancestors(&self) -> impl Iterator<Item = &str> {
        let mut next = Some(self.0.as_str());
        std::iter::from_fn(move || {
            let current = next?;
            next = current.rfind('/').map(|slash| &current[..slash]);
            Some(current)
        })
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for GroupName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&Cow::<str>::deserialize(deserializer)?))
    }
}

impl JsonSchema for GroupName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GroupName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": 128,
            "pattern": r"^@?[^@#*/\x00-\x1f\x7f]+(/[^@#*/\x00-\x1f\x7f]+)*$",
        })
    }
}

/// A group that a peer is in, and what it does there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Name of the group, for example `backend` or `backend/db`.
    pub name: GroupName,
    /// What the peer does in the group: `lead`, `member`, `observer` or any other word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub role: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_go_from_specific_to_general() {
        let name = GroupName::new("@a/b/c");
        assert_eq!(name.with_ancestors().collect::<Vec<_>>(), ["a/b/c", "a/b", "a"]);
    }
}
