//! Files: what the broker knows about them. Their bytes go over HTTP, encrypted by the client that shares them.

use super::Ack;
use crate::model::{Base64, HexSignature, KeyHex, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

fn yes() -> bool {
    true
}

fn is_true(flag: &bool) -> bool {
    *flag
}

/// A file's key, wrapped for one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WrappedFileKey {
    /// Member key of the recipient; of an original client, its session key.
    pub peer_pubkey: KeyHex,
    /// The key, sealed for the recipient.
    #[schemars(length(max = 512))]
    pub sealed_key: Base64,
}

/// What the owner of a file signs about it: recipients check it against the key that they unwrap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileProof {
    /// Length of the content, in bytes.
    pub size: u64,
    /// By the owner's member key, over mesh, file, name, size and a commitment to the file's key.
    pub signature: HexSignature,
}

/// Reserves room for a file and tells where its upload stands: repeated with the same id, it is how an upload is resumed.
/// The sealed bytes follow in parts with `POST /upload`, then `finish_upload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BeginUpload {
    /// Id of the file, chosen by the client: random.
    #[schemars(length(min = 16, max = 64), regex(pattern = "^[0-9A-Za-z]+$"))]
    pub file_id: String,
    /// Name to show. The broker sees it.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^/\\\x00-\x1f\x7f]+$"))]
    pub name: String,
    /// Length of what is uploaded (sealed), in bytes.
    pub size: u64,
    /// Words to find it by. The broker sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub tags: Vec<String>,
    /// Media type of the content, for files that are not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = r"^[\x20-\x7e]+$"))]
    pub mime: Option<String>,
    /// `false`: the file is removed after a time.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub persistent: bool,
    /// How long it is kept, in seconds; makes it not persistent. At most 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub expires_in: Option<u64>,
    /// What it was shared with: `*`, `@group` or a key. For people; `keys` decides who can read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub target: Option<String>,
    /// Whether the bytes are sealed under a key that the broker does not have.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub encrypted: bool,
    /// The file's key for everybody who may read it, the owner included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000))]
    pub keys: Vec<WrappedFileKey>,
    /// The owner's statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<FileProof>,
}

/// Where an upload stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadBegun {
    /// The file.
    pub file_id: String,
    /// How many bytes are safe at the broker: the next part starts there.
    pub received: u64,
    /// Largest part, in bytes.
    pub max_part: u64,
    /// Smallest part but the last, in bytes.
    pub min_part: u64,
    /// When an upload that is not finished is dropped.
    pub expires_at: Timestamp,
    /// Whether the file is shared already: there is nothing left to do.
    #[serde(default)]
    pub done: bool,
}

/// Shares a file whose bytes have all arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FinishUpload {
    /// The file.
    #[schemars(length(min = 1, max = 64))]
    pub file_id: String,
}

/// The file is shared, and on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadFinished {
    /// The file.
    pub file_id: String,
    /// When it is removed, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Gives up an upload that is not finished. Its bytes are removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CancelUpload {
    /// The file.
    #[schemars(length(min = 1, max = 64))]
    pub file_id: String,
}

/// The upload is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadCancelled {
    /// The file.
    pub file_id: String,
    /// Whether there was such an upload.
    pub existed: bool,
}

/// Asks for a file's address and key. Counts as an access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GetFile {
    /// The file.
    #[schemars(length(min = 1, max = 64))]
    pub file_id: String,
    /// Give the key and no address: to grant access to others. Is no access.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key_only: bool,
}

/// Where a file is, and the key to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileUrl {
    /// The file.
    pub file_id: String,
    /// Address to fetch the bytes from, for a short time; empty with `keyOnly`.
    #[serde(default)]
    pub url: String,
    /// Until when the address serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_expires_at: Option<Timestamp>,
    /// Whether the address leads to the broker itself rather than to an object store.
    #[serde(default)]
    pub via_broker: bool,
    /// Its name.
    pub name: String,
    /// Whether the bytes are sealed.
    pub encrypted: bool,
    /// The file's key, sealed for the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_key: Option<Base64>,
    /// Length of the bytes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Member key of the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_pubkey: Option<KeyHex>,
    /// Name of the owner when it shared the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded_by: Option<String>,
    /// The owner's statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<FileProof>,
    /// When the file is removed, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Lists the files that are shared with you or that you shared, the newest first. Every filter is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListFiles {
    /// Part of the name, without regard to case.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub query: Option<String>,
    /// Name of who shared it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub from: Option<String>,
    /// A tag that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub tag: Option<String>,
    /// How many at most (1 to 500); 100 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u32>,
    /// Go on after this file: the last one of the list before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub after: Option<String>,
    /// Every file of the mesh; for the owner and admins.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// Files, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileList {
    /// The files.
    pub files: Vec<FileEntry>,
    /// Whether there are more: ask again with `after`.
    #[serde(default)]
    pub more: bool,
}

/// A shared file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Length of its content, in bytes.
    pub size: u64,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Who shared it.
    pub uploaded_by: String,
    /// When.
    pub uploaded_at: Timestamp,
    /// Whether it stays until it is deleted.
    pub persistent: bool,
    /// Whether the broker cannot read it.
    pub encrypted: bool,
    /// When it is removed, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What it was shared with: `*`, `@group` or a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Member key of the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_pubkey: Option<KeyHex>,
    /// Whether the caller shared it.
    #[serde(default)]
    pub own: bool,
}

/// Shows who fetched a file and when, and who may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileStatus {
    /// The file.
    #[schemars(length(min = 1, max = 64))]
    pub file_id: String,
}

/// Who fetched a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileStatusResult {
    /// The file.
    pub file_id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The last 500 times that it was fetched, the newest first.
    pub accesses: Vec<FileAccess>,
    /// Who has the key.
    #[serde(default)]
    pub recipients: Vec<FileRecipient>,
}

/// One time that a file was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileAccess {
    /// Name of who fetched it.
    pub peer_name: String,
    /// When.
    pub accessed_at: Timestamp,
    /// Member key of who fetched it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_pubkey: Option<KeyHex>,
}

/// Who has the key of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileRecipient {
    /// Name of the member; empty if it has left.
    #[serde(default)]
    pub name: String,
    /// The key that it is wrapped for.
    pub peer_pubkey: KeyHex,
    /// Since when.
    pub granted_at: Timestamp,
}

/// Gives another member the key of a file. Owner only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantFileAccess {
    /// The file.
    #[schemars(length(min = 1, max = 64))]
    pub file_id: String,
    /// Member key of the recipient; of an original client, its session key.
    pub peer_pubkey: KeyHex,
    /// The file's key, sealed for the recipient.
    #[schemars(length(max = 512))]
    pub sealed_key: Base64,
}

/// The member has the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileAccessGranted {
    /// The file.
    pub file_id: String,
    /// The recipient.
    pub peer_pubkey: KeyHex,
}

/// Removes a file for everybody, its bytes included. For who shared it, and admins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeleteFile {
    /// The file.
    #[schemars(length(min = 1, max = 64))]
    pub file_id: String,
}

/// The file is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileDeleted {
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub ack: Ack,
}

/// Asks another member for a file of its shared directories. Clients of protocol 2 put the question into `sealed` and
/// leave `filePath` empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerFileRequest {
    /// Key of the member, or of one of its sessions.
    pub target_pubkey: KeyHex,
    /// Path inside the shared directories.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub file_path: String,
    /// The question, signed and sealed for the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Base64>,
}

/// The other member's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerFileResult {
    /// The path that was asked for.
    #[serde(default)]
    pub file_path: String,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Base64>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The answer, signed and sealed for who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Base64>,
}

/// Answers a `peer_file_request_forward`. Only the session that was asked may, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerFileResponse {
    /// Who asked.
    pub requester_pubkey: KeyHex,
    /// The forwarded request's id. Original clients send it as `_reqId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub relay_id: Option<String>,
    /// The path that was asked for.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub file_path: String,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Base64>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,
    /// The answer, signed and sealed for who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Base64>,
}

/// The answer was passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerAnswerTaken {
    /// Whether somebody still waited for it.
    pub delivered: bool,
}

/// Asks another member for the names in its shared directories. Clients of protocol 2 put the question into `sealed` and
/// leave `dirPath` empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerDirRequest {
    /// Key of the member, or of one of its sessions.
    pub target_pubkey: KeyHex,
    /// Directory inside the shared ones.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub dir_path: String,
    /// Only names like this (`*` and `?`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub pattern: Option<String>,
    /// The question, signed and sealed for the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Base64>,
}

/// The other member's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerDirResult {
    /// The directory that was asked for.
    #[serde(default)]
    pub dir_path: String,
    /// Names, sorted; directories end with `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<String>>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The answer, signed and sealed for who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Base64>,
}

/// Answers a `peer_dir_request_forward`. Only the session that was asked may, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerDirResponse {
    /// Who asked.
    pub requester_pubkey: KeyHex,
    /// The forwarded request's id. Original clients send it as `_reqId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub relay_id: Option<String>,
    /// The directory that was asked for.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub dir_path: String,
    /// Names, sorted; directories end with `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500), inner(length(max = 4096)))]
    pub entries: Option<Vec<String>>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,
    /// The answer, signed and sealed for who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Base64>,
}
