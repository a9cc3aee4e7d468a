//! What the tables hold, and what is asked of them.

use crate::store::StoreError;
use crate::store::rows::{count, flag, get, json, json_opt, text, time, time_opt};
use claudemesh_proto::model::{KeyHex, MemberId, MeshId, Timestamp};
use claudemesh_proto::ops::{FileProof, WrappedFileKey};
use sqlx::any::AnyRow;

/// A file, shared or on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct FileRow {
    /// Its mesh.
    pub mesh_id: MeshId,
    /// Its id, unique in the mesh.
    pub id: String,
    /// Name of its blob.
    pub blob: String,
    /// What the blob store calls the upload, while there is one.
    pub upload: Option<String>,
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its media type.
    pub mime: Option<String>,
    /// Length of its blob.
    pub size: u64,
    /// How many bytes of it are on disk.
    pub received: u64,
    /// Whether it stays until it is deleted.
    pub persistent: bool,
    /// How long it is kept after it was shared, in milliseconds.
    pub keep_ms: Option<i64>,
    /// Whether the blob is sealed.
    pub encrypted: bool,
    /// What it was shared with.
    pub target: Option<String>,
    /// The owner's statement.
    pub proof: Option<FileProof>,
    /// Member that shared it.
    pub owner_member: MemberId,
    /// Key of that member.
    pub owner_key: KeyHex,
    /// Name of that member then.
    pub owner_name: String,
    /// When its upload began.
    pub begun_at: Timestamp,
    /// When it was shared.
    pub shared_at: Option<Timestamp>,
    /// When it ends: the file once it is shared, the upload before.
    pub expires_at: Option<Timestamp>,
}

/// A blob that nothing refers to any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGarbage {
    /// Mesh that it was in.
    pub mesh_id: MeshId,
    /// Name of the blob.
    pub blob: String,
    /// What the blob store calls the upload, if it was not finished.
    pub upload: Option<String>,
}

/// Bounds that are checked where an upload begins.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Most bytes of all files of the mesh, uploads included.
    pub mesh_bytes: u64,
    /// Most files of the mesh.
    pub mesh_files: u64,
    /// Most uploads of one member that are not finished.
    pub member_uploads: u64,
}

/// Who fetched a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAccessRow {
    /// Key of the member.
    pub peer_key: KeyHex,
    /// Its name then.
    pub peer_name: String,
    /// When.
    pub at: Timestamp,
}

/// Who has a file's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileKeyRow {
    /// Key that it is wrapped for.
    pub peer_key: KeyHex,
    /// Since when.
    pub granted_at: Timestamp,
}

/// A file's key for one more recipient.
#[derive(Clone, Debug)]
pub struct FileGrant {
    /// The key, wrapped.
    pub key: WrappedFileKey,
    /// Who grants it.
    pub by: KeyHex,
    /// When.
    pub at: Timestamp,
}

/// What [`Store::list_files`](crate::store::Store::list_files) looks for.
#[derive(Clone, Debug, Default)]
pub struct FileQuery {
    /// Keys of the caller: files that one of them may open or owns; empty: every file.
    pub keys: Vec<KeyHex>,
    /// Part of the name.
    pub name: Option<String>,
    /// Exact name of the owner.
    pub owner: Option<String>,
    /// A tag.
    pub tag: Option<String>,
    /// Go on after this file.
    pub after: Option<String>,
    /// Most rows.
    pub limit: usize,
}

pub(super) fn file_row(row: &AnyRow) -> Result<FileRow, StoreError> {
    Ok(FileRow {
        mesh_id: text(row, "mesh_id")?,
        id: get(row, "id")?,
        blob: get(row, "blob")?,
        upload: get(row, "upload")?,
        name: get(row, "name")?,
        tags: json(row, "tags")?,
        mime: get(row, "mime")?,
        size: count(row, "size")?,
        received: count(row, "received")?,
        persistent: flag(row, "persistent")?,
        keep_ms: get(row, "keep_ms")?,
        encrypted: flag(row, "encrypted")?,
        target: get(row, "target")?,
        proof: json_opt(row, "proof")?,
        owner_member: text(row, "owner_member_id")?,
        owner_key: text(row, "owner_pubkey")?,
        owner_name: get(row, "owner_name")?,
        begun_at: time(row, "begun_at")?,
        shared_at: time_opt(row, "shared_at")?,
        expires_at: time_opt(row, "expires_at")?,
    })
}

pub(super) fn garbage(row: &FileRow) -> FileGarbage {
    FileGarbage {
        mesh_id: row.mesh_id.clone(),
        blob: row.blob.clone(),
        upload: row.upload.clone(),
    }
}
