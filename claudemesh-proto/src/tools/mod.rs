//! Parameters and results of tools that are more than one wire request.

mod messaging;
mod ping;

pub use messaging::{
    CheckMessages, ListPeersTool, MeshPeers, MessageKind, MessageSent, MessageStatusTool, PeersByMesh, ReceivedMessage,
    ReceivedMessages, SendMessage, SendOutcome, SendTargets,
};
pub use ping::{PingLeg, PingMesh, PingResult};
