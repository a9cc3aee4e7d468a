//! What the operation table says about an operation.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One request that the broker answers with one reply.
pub trait Operation: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The body of the reply.
    type Response: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static;
    /// The operation's row in the table.
    const META: &'static OperationMeta;
}

/// A row of the operation table.
#[derive(Clone, Copy, Debug)]
pub struct OperationMeta {
    /// Name of the client's method: `set_state`.
    pub name: &'static str,
    /// `type` of the request frame.
    pub wire_type: &'static str,
    /// `type` of the reply frame.
    pub reply_type: &'static str,
    /// When the reply is sent.
    pub reply_when: ReplyWhen,
    /// What it belongs to.
    pub family: Family,
    /// Who may call it.
    pub permission: Permission,
    /// Which bucket it is counted in.
    pub rate: RateClass,
    /// How it is ordered against other requests of its socket.
    pub ordering: Ordering,
    /// Type of the audit entry that it leaves, if any. Entries hold metadata, never content.
    pub audit: Option<&'static str>,
    /// What the broker can see of its content.
    pub visibility: Visibility,
    /// Protocol version that has it; brokers of earlier ones drop the request without an answer.
    pub since: u32,
}

/// When the reply to a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyWhen {
    /// To every request.
    Always,
    /// Only if the request has a `_reqId`: original clients would take the frame for the answer to something else.
    Asked,
}

/// Families of operations and tools; each has a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Messages and receipts.
    Messaging,
    /// Status, summary, visibility, profile.
    Profile,
    /// Groups.
    Groups,
    /// Shared key-value state.
    State,
    /// Shared files, and files of peers.
    Files,
    /// Members and what they let each other do.
    Members,
    /// The mesh as a whole.
    Mesh,
    /// The audit log.
    Audit,
    /// Keys of group encryption.
    GroupKeys,
    /// Texts that every session of the mesh can find again.
    Memory,
    /// What members know at the moment.
    Contexts,
    /// Work that exactly one session takes on.
    Tasks,
    /// Live events.
    Streams,
    /// The mesh's shared SQL database.
    Sql,
    /// Texts that are found by meaning.
    Vectors,
    /// Instructions for agents, with files.
    Skills,
    /// The mesh's graph.
    Graph,
}

/// Who may call an operation. Every caller is a member that completed `hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Any member.
    Member,
    /// Members with `canSend`.
    Send,
    /// Members with `canWriteState`.
    WriteState,
    /// Members with `canManagePermissions`: the owner and admins.
    Manage,
}

/// Buckets of the rate limiter. Limits are per member and class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateClass {
    /// Reads.
    Read,
    /// Small writes.
    Write,
    /// Messages and acknowledgements.
    Message,
    /// Costly operations.
    Heavy,
}

impl RateClass {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Message, Self::Heavy];

    /// The name in settings and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Message => "message",
            Self::Heavy => "heavy",
        }
    }
}

/// How a request is ordered against others of its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Starts when all earlier requests are answered.
    Serial,
    /// Takes effect in the order of arrival, but the next request starts before this one is on disk.
    Pipelined,
    /// May run beside any other request.
    Concurrent,
}

/// What the broker can see of an operation's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Ciphertext only.
    Sealed,
    /// Everything.
    Clear,
}

macro_rules! implement_operations {
    ($( { $name:ident, $request:ty => $response:ty, $wire:literal => $reply:literal, $when:ident, $family:ident,
          $permission:ident, $rate:ident, $ordering:ident, $audit:expr, $visibility:ident, $since:literal } )+) => {
        $(
            impl Operation for $request {
                type Response = $response;
                const META: &'static OperationMeta = &OperationMeta {
                    name: stringify!($name),
                    wire_type: $wire,
                    reply_type: $reply,
                    reply_when: ReplyWhen::$when,
                    family: Family::$family,
                    permission: Permission::$permission,
                    rate: RateClass::$rate,
                    ordering: Ordering::$ordering,
                    audit: $audit,
                    visibility: Visibility::$visibility,
                    since: $since,
                };
            }
        )+

        static OPERATIONS: &[&OperationMeta] = &[$( <$request as Operation>::META, )+];
    };
}

use crate::ops::*;
crate::for_each_operation!(implement_operations);

/// Every row of the operation table.
#[must_use]
pub fn operations() -> &'static [&'static OperationMeta] {
    OPERATIONS
}

/// The operation whose request has this `type`.
#[must_use]
pub fn operation_by_type(wire_type: &str) -> Option<&'static OperationMeta> {
    OPERATIONS.iter().find(|meta| meta.wire_type == wire_type).copied()
}
