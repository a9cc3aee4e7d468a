//! Live state of one mesh and its rules. Pure: no I/O, no clock (the time is a parameter, see [`Now`]), no randomness, and
//! every iteration has a fixed order, so that a run can be repeated from its inputs.
//!
//! * [`Mesh`] (`roster`): members and live sessions; `view`: what each caller may see of them
//! * `status`: what a session is doing, and who says so
//! * [`resolve`] (`targets`): whom a message is for
//! * [`Delivery`] (`delivery`, `queue`, `lane`): which message goes to which session, when, and what became of it

// An error is the rare case, and the frame goes out as it is.
#![allow(clippy::result_large_err)]

#[macro_use]
mod mutants;

mod clock;
mod delivery;
mod lane;
mod member;
mod message;
mod queue;
mod roster;
mod session;
mod status;
mod targets;
mod view;

pub use clock::{Deadlines, Now};
pub use delivery::{Delivery, Grants, Limits, LoadRequest, Output, Pulled};
pub use member::{MemberFacts, MemberState, PeerState};
pub use message::{Message, MessageFacts};
pub use roster::{Connected, Disconnected, Mesh, MeshFacts, RemovedMember, Settings};
pub use session::{Session, SessionFacts, SessionView};
pub use status::StatusRecord;
pub(crate) use targets::near;
pub use targets::{Recipient, Resolved, TargetRequest, resolve};
pub use view::MeshOverview;

#[cfg(test)]
mod tests;
