//! Shared files: what is known about them, who has their keys, who fetched them. Their bytes are in a blob store.

mod discard;
mod find;
mod keys;
mod rows;
mod upload;

pub use rows::{FileAccessRow, FileGarbage, FileGrant, FileKeyRow, FileQuery, FileRow, UploadLimits};
