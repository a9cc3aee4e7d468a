//! Requests and replies of the operation table, one file per family.

mod audit;
mod group_keys;
mod groups;
mod members;
mod mesh;
mod messaging;
mod profile;
mod state;

pub use audit::*;
pub use group_keys::*;
pub use groups::*;
pub use members::*;
pub use mesh::*;
pub use messaging::*;
pub use profile::*;
pub use state::*;
