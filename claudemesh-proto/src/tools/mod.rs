//! Parameters and results of tools that are more than one wire request.

mod contexts;
mod files;
mod memory;
mod messaging;
mod ping;
mod skills;
mod tasks;

pub use contexts::ShareContextTool;
pub use files::{
    DeleteFileTool, DeletedFile, FetchFile, FetchedFile, FileStatusTool, GrantFile, GrantedFile, ListPeerFiles,
    PeerFile, PeerFiles, ReadPeerFile, ShareFile, SharedFile,
};
pub use memory::{ForgetTool, Forgotten};
pub use messaging::{
    CheckMessages, ListPeersTool, MeshPeers, MessageKind, MessageSent, MessageStatusTool, PeersByMesh, ReceivedMessage,
    ReceivedMessages, SendMessage, SendOutcome, SendTargets,
};
pub use ping::{PingLeg, PingMesh, PingResult};
pub use skills::{DeploySkillTool, GetSkillTool, GotSkill, ShareSkillTool};
pub use tasks::{CancelTaskTool, ClaimTaskTool, CompleteTaskTool, ReleaseTaskTool, TaskNow};
