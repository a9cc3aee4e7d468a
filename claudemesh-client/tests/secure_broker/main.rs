//! The threat table row by row: a client on a real socket, and a broker that does what a broker must not. What can be
//! noticed is noticed and told in a sentence; what cannot is here too (`undetectable_…`), so that nobody believes otherwise.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]
#[path = "../e2e/kit.rs"]
mod kit;
mod proxy;
mod stage;

mod keys;
mod log;
mod messages;
mod receipts;
