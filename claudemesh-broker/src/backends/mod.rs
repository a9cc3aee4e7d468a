//! What a mesh keeps outside of the broker's own tables. Each backend is a trait with an embedded implementation, which
//! needs nothing installed, and one that uses a server.

pub mod blob;
pub mod embedder;
mod http_client;
pub mod sql;
pub mod vector;

use claudemesh_proto::model::MeshId;

/// Name of a mesh's file: its id as it is where that is a file name, since two ids may differ in case only.
pub(crate) fn mesh_file_name(mesh: &MeshId) -> String {
    let id = mesh.as_str();
    let is_plain = !id.is_empty()
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    match is_plain && id.len() <= 128 {
        true => format!("{id}.db"),
        // No plain id has a dot.
        false => format!("{}.id.db", claudemesh_crypto::encode_base64_url(id.as_bytes())),
    }
}
