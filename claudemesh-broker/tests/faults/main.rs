//! What was acknowledged survives: the real broker program killed, cut off, slowed down and robbed of its store, under load.
//!
//! Each test runs with small numbers by itself; `cargo xtask reliability` runs them with the full ones and writes what they
//! measured to `docs/reliability.md`. The numbers are in `kit/scale.rs`. Tests that need Postgres are marked as ignored:
//! `cargo xtask test` runs them where its programs are installed.
#![allow(missing_docs, clippy::unwrap_used)]

mod clients;
mod cuts;
mod herd;
mod kills;
mod kit;
mod outage;
mod persistent;
mod slow;
