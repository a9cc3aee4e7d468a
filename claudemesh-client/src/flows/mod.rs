//! What people do with meshes: create one, invite to it, join it.

mod create;
mod invite;
mod join;

pub use create::{CreateOptions, Created, create_mesh, create_mesh_with};
pub use invite::{CreatedInvite, InviteOptions, create_invite};
pub use join::{Joined, join, join_as};
