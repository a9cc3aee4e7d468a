//! The ways to put a message in front of the model, tried in turn.
//!
//! | rung | adapter | proof |
//! |---|---|---|
//! | 1 | `inbox-socket`: the session's own inbox | the host took it |
//! | 2 | `channel`: a notification | only if the host announced channels |
//! | 3 | `tool-result`: with the next tool result (`mail`) | the model gets the result that it asked for |

mod channel;
mod inbox_socket;

pub(super) use channel::{CAPABILITY, Channel, Facts, MeshIds};
pub(super) use inbox_socket::InboxSocket;

use claudemesh_client::Message;
use std::pin::Pin;

/// Name of the third rung in receipts.
pub(super) const TOOL_RESULT: &str = "tool-result";

/// How far a surface got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The host has it for the model.
    Surfaced,
    /// It went out, and nothing tells whether the host shows it: the next rung is tried as well.
    Sent,
    /// There is no such way here, now.
    Unavailable,
}

/// How much of a message is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All of it.
    Full,
    /// That it is there.
    Pointer,
}

/// What [`Surface::surface`] returns.
pub(super) type Surfacing<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// One way to put a message in front of the model.
pub(super) trait Surface: Send + Sync {
    /// Name in receipts.
    fn name(&self) -> &'static str;

    /// Shows a message.
    fn surface<'a>(&'a self, message: &'a Message, form: Form) -> Surfacing<'a>;
}
