//! Requests and replies of the operation table, one file per family.

mod audit;
mod contexts;
mod files;
mod graph;
mod group_keys;
mod groups;
mod members;
mod memory;
mod mesh;
mod messaging;
mod profile;
mod skills;
mod sql;
mod state;
mod streams;
mod tasks;
mod vectors;

pub use audit::*;
pub use contexts::*;
pub use files::*;
pub use graph::*;
pub use group_keys::*;
pub use groups::*;
pub use members::*;
pub use memory::*;
pub use mesh::*;
pub use messaging::*;
pub use profile::*;
pub use skills::*;
pub use sql::*;
pub use state::*;
pub use streams::*;
pub use tasks::*;
pub use vectors::*;
