//! The claudemesh broker: accepts sessions, routes and stores sealed messages, keeps what a mesh shares.
//!
//! * `backends`: what a mesh keeps outside of the broker's own tables
//! * `cluster`: what passes between brokers
//! * `gateway`: the socket and HTTP edge, and the pipeline that every request goes through
//! * `mesh`: live state and delivery rules, pure: time is a parameter
//! * `ops`: one handler per operation, one file per family
//! * `security`: permissions, rate limits, audit chain
//! * `store`: SQL and the group committer

pub mod backends;
pub mod broker;
pub mod cluster;
pub mod config;
pub mod context;
mod door;
mod errors;
pub mod features;
pub mod files;
pub mod gateway;
pub mod http;
pub mod hub;
mod jobs;
pub mod mesh;
pub mod metrics;
mod ops;
pub mod outbound;
pub mod relay;
mod room;
pub mod security;
pub mod send_order;
pub mod server;
pub mod store;

pub use broker::Broker;
