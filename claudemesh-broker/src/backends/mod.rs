//! What a mesh keeps outside of the broker's own tables. Each backend is a trait with an embedded implementation, which
//! needs nothing installed, and one that uses a server.

pub mod blob;
pub mod embedder;
pub mod graph;
mod http_client;
pub(crate) mod mesh_file;
mod per_mesh;
pub mod sql;
pub mod vector;
