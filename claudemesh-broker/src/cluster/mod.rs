//! What passes between brokers. One broker needs nothing for it; the traits are what a connection between several has to
//! keep to.

mod fanout;
mod in_process;

pub use fanout::{Draft, Event, Fanout, FanoutError, Past, PastEvents, Placed, Register, Sink, StreamKey};
pub use in_process::InProcess;
