//! The broker's HTTP endpoints, typed. Requests that act for a member or an owner are signed with its key.

mod files;
mod invites;
mod members;
mod meshes;
mod request;
mod status;

pub use request::BrokerHttp;
