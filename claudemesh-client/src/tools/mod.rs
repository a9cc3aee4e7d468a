//! The tools that are more than one wire request, and calling any tool by name.

mod arguments;
mod call;
mod contexts;
mod mailbox;
mod memory;
mod overview;
mod ping;
mod send;
mod tasks;

pub(crate) use arguments::{check as check_arguments, take_text};
pub(crate) use send::error_text;

pub use mailbox::Pulled;
pub use send::Sent;
