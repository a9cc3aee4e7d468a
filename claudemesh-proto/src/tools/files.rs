//! Tools that share, fetch and read files.

use crate::model::{KeyHex, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

fn yes() -> bool {
    true
}

/// Encrypts a local file and shares it with a peer, a group or the whole mesh. Only they and you can read it; the broker
/// sees its name, tags and size. An upload that was interrupted goes on where it stopped when you call it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShareFile {
    /// Path of the local file.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
    /// Name to show; the file's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub name: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub tags: Vec<String>,
    /// Who may read it: a name, a key, `@group` or `*`; every member of now if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub to: Option<String>,
    /// `false`: the file is removed after a day.
    #[serde(default = "yes")]
    pub persistent: bool,
    /// Remove it after this many seconds (at most 30 days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub expires_in: Option<u64>,
    /// Do not encrypt it: the broker and every member it is shared with can read it. Only for bundles that the broker has
    /// to unpack.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clear: bool,
}

/// The file is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedFile {
    /// Its id: for `get_file`, `grant_file_access` and the others.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Length of its content, in bytes.
    pub size: u64,
    /// Who may read it.
    pub to: String,
    /// How many others have the key.
    pub recipients: u32,
    /// When it is removed, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How many bytes were there already from an interrupted upload.
    #[serde(default)]
    pub resumed_at: u64,
}

/// Fetches a shared file, decrypts it and writes it to a local path. A download that was interrupted goes on where it
/// stopped when you call it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FetchFile {
    /// Id of the file, from `list_files`.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// Where to write it; an existing directory takes it under its shared name. Parent directories are made.
    #[schemars(length(min = 1, max = 4096))]
    pub save_to: String,
    /// Replace a file that exists there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwrite: bool,
}

/// The file is on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FetchedFile {
    /// Its id.
    pub id: String,
    /// Its shared name.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// Length of its content, in bytes.
    pub size: u64,
    /// Whether it was encrypted end to end.
    pub encrypted: bool,
    /// Whether name and content are proven to come from `from`.
    pub authenticated: bool,
    /// Who shared it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Member key of who shared it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_pubkey: Option<KeyHex>,
    /// What to know before trusting it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Shows who fetched a file and when, and who has the key to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileStatusTool {
    /// Id of the file.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
}

/// Removes a shared file for everybody. For who shared it, and admins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeleteFileTool {
    /// Id of the file.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
}

/// The file is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeletedFile {
    /// Id of the file.
    pub id: String,
}

/// Lets another peer, a group or the whole mesh read a file that you shared, without uploading it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantFile {
    /// Id of the file.
    #[schemars(length(min = 1, max = 64))]
    pub file_id: String,
    /// Who: a name, a key, `@group` or `*`.
    #[schemars(length(min = 1, max = 256))]
    pub to: String,
}

/// They may read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantedFile {
    /// Id of the file.
    pub file_id: String,
    /// Who.
    pub to: String,
    /// How many members have the key now because of this.
    pub granted: u32,
}

/// Reads a file from a directory that another peer shares. The peer must be connected, share a directory
/// (`claudemesh mcp --share DIR`) and let you (`claudemesh grant <you> file-read`). Encrypted end to end; at most 1 MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReadPeerFile {
    /// Name or key of the peer.
    #[schemars(length(min = 1, max = 256))]
    pub peer: String,
    /// Path inside the shared directory, as `list_peer_files` shows it.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
}

/// A file of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerFile {
    /// Name of the peer.
    pub peer: String,
    /// The path.
    pub path: String,
    /// Length of the file, in bytes.
    pub size: u64,
    /// Its content, if it is text (UTF-8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its content in base64, if it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// Lists the names in a directory that another peer shares: three levels, at most 500 names. Encrypted end to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListPeerFiles {
    /// Name or key of the peer.
    #[schemars(length(min = 1, max = 256))]
    pub peer: String,
    /// Directory inside the shared one; the shared one itself if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub path: Option<String>,
    /// Only names like this: `*` stands for any text, `?` for one character, without regard to case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub pattern: Option<String>,
}

/// Names in a peer's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerFiles {
    /// Name of the peer.
    pub peer: String,
    /// The directory.
    pub path: String,
    /// Paths inside it, sorted; directories end with `/`.
    pub entries: Vec<String>,
    /// Whether there are more names than are shown.
    #[serde(default)]
    pub truncated: bool,
}
