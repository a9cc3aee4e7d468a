//! The claudemesh client: one connection to a mesh, with encryption, receipts and a typed method for every operation.
//!
//! ```no_run
//! # async fn run(identity: claudemesh_client::Identity) -> Result<(), claudemesh_client::ClientError> {
//! use claudemesh_client::MeshClient;
//!
//! let client = MeshClient::connect(identity).await?;
//! client.send_text("ana", "the build is green", Default::default()).await?;
//! while let Some(message) = client.recv().await {
//!     println!("{}: {}", message.from, message.text.as_deref().unwrap_or("(cannot be read)"));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`MeshClient`], [`MeshClientBuilder`] | one connection to one mesh |
//! | [`Meshes`] | several meshes behind one set of tools |
//! | [`flows`] | create a mesh, invite, join |
//! | [`http`] | the broker's HTTP endpoints |
//! | [`secure`] | sealing, opening, group keys |
//! | [`skills`] | SKILL.md, bundles of files, where they come from |
//!
//! A client keeps no global state: any number of them live in one process. It needs a tokio runtime.

mod acks;
mod builder;
mod claims;
mod client;
mod clock;
mod connection;
mod error;
mod event;
mod files;
pub mod flows;
pub mod http;
mod identity;
mod inbox;
mod inner;
mod journal;
mod meshes;
mod message;
mod operations;
mod outbox;
mod pending;
mod receipts;
mod resolve;
pub mod secure;
mod session;
pub mod skills;
mod state;
mod stats;
mod streams;
mod tls;
mod tools;
mod transport;
mod v1;

pub use builder::MeshClientBuilder;
pub use client::MeshClient;
pub use error::ClientError;
pub use event::{ClientEvent, EventStream, PeerEvent};
pub use files::{Progress, ProgressSink, with_progress};
pub use identity::Identity;
pub use meshes::Meshes;
pub use message::Message;
pub use outbox::PendingSend;
pub use receipts::ReceiptStream;
pub use resolve::Resolved;
pub use secure::{KeyStore, MemoryKeyStore};
pub use state::ConnectionState;
pub use streams::{StreamItem, Subscription};
pub use tools::{Pulled, Sent};
pub use transport::Transport;

/// The crate whose types the methods take and return.
pub use claudemesh_proto as proto;
