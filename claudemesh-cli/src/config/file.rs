//! The shape of `config.json`: that of the original, with keys of other versions kept.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use zeroize::Zeroizing;

/// `config.json`. Keys that this version does not know are kept as they are.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ConfigFile {
    /// Always 1.
    #[serde(default = "version")]
    pub version: u64,
    /// Joined meshes in the order of joining; the first is the default.
    #[serde(default)]
    pub meshes: Vec<MeshEntry>,
    /// Name of this person or session.
    #[serde(rename = "displayName", default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Everything else: `role`, `groups`, `messageMode`, `accountId`, and keys of other versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn version() -> u64 {
    1
}

impl Default for ConfigFile {
    fn default() -> Self {
        Self {
            version: version(),
            meshes: Vec::new(),
            display_name: None,
            other: Map::new(),
        }
    }
}

/// One joined mesh.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshEntry {
    /// Id of the mesh.
    pub mesh_id: String,
    /// This member's row.
    pub member_id: String,
    /// Short name, unique in this file.
    pub slug: String,
    /// Name of the mesh.
    pub name: String,
    /// This member's key, 64 hexadecimal characters.
    pub pubkey: String,
    /// The secret half, 128 hexadecimal characters: in files of the original. New meshes have a key file instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<Zeroizing<String>>,
    /// The key file, relative to the configuration directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// WebSocket address of the broker.
    pub broker_url: String,
    /// When it was joined, ISO 8601.
    #[serde(default)]
    pub joined_at: String,
    /// Key of the mesh's owner, 64 hexadecimal characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_pubkey: Option<String>,
    /// Everything else: `rootKey`, `inviteVersion`, and keys of other versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl fmt::Debug for MeshEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshEntry")
            .field("slug", &self.slug)
            .field("mesh_id", &self.mesh_id)
            .field("pubkey", &self.pubkey)
            .field("broker_url", &self.broker_url)
            .finish_non_exhaustive()
    }
}

impl ConfigFile {
    /// Reads the text of a file. A file without a list of meshes has none.
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The text of the file: two spaces, a line break at the end.
    pub(super) fn to_text(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// A slug like `wanted` that no other mesh of this file has.
    pub(super) fn free_slug(&self, wanted: &str, mesh_id: &str) -> String {
        let base = safe_slug(wanted);
        let taken = |slug: &str| {
            self.meshes
                .iter()
                .any(|mesh| mesh.slug == slug && mesh.mesh_id != mesh_id)
        };
        (1_u32..)
            .map(|count| {
                if count == 1 {
                    base.clone()
                } else {
                    format!("{base}-{count}")
                }
            })
            .find(|slug| !taken(slug))
            .unwrap_or(base)
    }
}

/// A slug that is safe as the name of a file, whatever a broker or an invite says.
pub(super) fn safe_slug(text: &str) -> String {
    let mapped: String = text
        .chars()
        .take(64)
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let trimmed = mapped.trim_matches('-');
    if trimmed.is_empty() {
        "mesh".to_owned()
    } else {
        trimmed.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_cannot_leave_the_key_directory() {
        assert_eq!(safe_slug("../../etc/passwd"), "etc-passwd");
        assert_eq!(safe_slug("Team One"), "team-one");
        assert_eq!(safe_slug("///"), "mesh");
    }

    #[test]
    fn debug_output_has_no_secret() {
        let text = r#"{"meshId":"m","memberId":"x","slug":"s","name":"S","pubkey":"p","secretKey":"SECRET","brokerUrl":"ws://h/ws"}"#;
        let entry: MeshEntry = serde_json::from_str(text).unwrap();
        assert!(!format!("{entry:?}").contains("SECRET"));
    }
}
