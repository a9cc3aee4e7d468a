//! Where a mesh's own database file is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use claudemesh_proto::model::MeshId;

/// Creates a directory that only the broker's user may enter.
pub(crate) fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// The mesh's file in `directory`.
pub(super) fn path(directory: &Path, mesh: &MeshId) -> PathBuf {
    // The id as it is where that is a file name: two ids may differ in case only.
    let id = mesh.as_str();
    let is_plain = !id.is_empty()
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let name = match is_plain && id.len() <= 128 {
        true => format!("{id}.db"),
        // No plain id has a dot.
        false => format!("{}.id.db", claudemesh_crypto::encode_base64_url(id.as_bytes())),
    };
    directory.join(name)
}
