//! Clients that do not keep to the rules, over raw sockets: whatever they send, every request has one typed answer, the
//! broker does not panic, nobody else notices, and nothing of another mesh is told.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "hostile/frames.rs"]
mod frames;
mod gateway_kit;
#[path = "hostile/hello.rs"]
mod hello;
#[path = "hostile/other_mesh.rs"]
mod other_mesh;
#[path = "hostile/process.rs"]
mod process;
#[path = "hostile/schemas.rs"]
mod schemas;
#[path = "hostile/sockets.rs"]
mod sockets;
#[path = "hostile/strings.rs"]
mod strings;
#[path = "hostile/watch.rs"]
mod watch;
