//! Sealing, opening, and keeping the group keys.
//!
//! A [`SecureChannel`] belongs to one session of one member in one mesh. It seals what the session sends, opens what it
//! receives, and follows the mesh's signed group log. It has no connection of its own: calls that may have to ask the broker
//! take a [`Transport`](crate::Transport). Call them from another task than the one that reads replies from the socket.
//!
//! | when | call |
//! |---|---|
//! | `hello_ack` came | [`SecureChannel::on_connected`] |
//! | `group_epoch`, `key_request_forward`, `key_grant_forward` came | [`SecureChannel::on_group_epoch`], [`SecureChannel::on_key_request`], [`SecureChannel::on_key_grant`] |
//! | `push` came | [`SecureChannel::open`] |
//! | a message is sent | [`SecureChannel::seal_direct`], [`SecureChannel::seal_multicast`] |
//! | the broker answered `stale_epoch` | [`SecureChannel::reseal`] |
//! | joined with a link that has a secret | [`SecureChannel::join_with_invite_secret`], before connecting |
//! | hourly | [`SecureChannel::maintain`] |
//!
//! All processes of a member share one keyring through a [`KeyStore`]. Whatever changes it is done on the stored copy
//! under the store's lock, so that no process loses what another has learned.

mod admission;
mod catch_up;
mod channel;
mod commit;
mod connect;
mod event;
mod grants;
mod group_error;
mod heads;
mod lanes;
mod membership;
mod open;
mod open_direct;
mod open_group;
mod opened;
mod resume;
mod ring;
mod rotation;
mod seal_direct;
mod seal_group;
mod store;
mod target;
mod warning;

pub use channel::{AdmitPolicy, SecureChannel, SecureOptions};
pub use event::SecureEvent;
pub use opened::OpenedPush;
pub use store::{FileKeyStore, KeyStore, MemoryKeyStore, StoreChange};
