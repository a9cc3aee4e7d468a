//! Errors that cross the wire: one closed set of codes, each with what to do about it.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

macro_rules! error_codes {
    ($( $(#[$doc:meta])* $variant:ident = $text:literal, $retryable:literal, $http:literal, $exit:literal, $next:literal; )+) => {
        /// What went wrong, for programs. Text form: `snake_case`.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $( $(#[$doc])* $variant, )+
            /// A code of a later version. Treat it as not retryable.
            Unknown(String),
        }

        impl ErrorCode {
            /// Every code that this version knows.
            pub const ALL: &'static [ErrorCode] = &[$( ErrorCode::$variant, )+];

            /// The text form.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self { $( Self::$variant => $text, )+ Self::Unknown(text) => text }
            }

            /// Whether the same request may succeed later without being changed.
            #[must_use]
            pub fn is_retryable(&self) -> bool {
                match self { $( Self::$variant => $retryable, )+ Self::Unknown(_) => false }
            }

            /// Status of an HTTP answer with this code.
            #[must_use]
            pub fn http_status(&self) -> u16 {
                match self { $( Self::$variant => $http, )+ Self::Unknown(_) => 500 }
            }

            /// Exit code of a command that ends with this error: 2 authentication, 3 invalid arguments, 4 network, 5 not
            /// found, 6 already exists, 7 permission denied, 8 internal.
            #[must_use]
            pub fn exit_code(&self) -> u8 {
                match self { $( Self::$variant => $exit, )+ Self::Unknown(_) => 8 }
            }

            /// One sentence that says what to do next.
            #[must_use]
            pub fn next_step(&self) -> &'static str {
                match self { $( Self::$variant => $next, )+ Self::Unknown(_) => "Update this program: the broker is newer." }
            }

            fn from_text(text: &str) -> Self {
                match text { $( $text => Self::$variant, )+ other => Self::Unknown(other.to_owned()) }
            }
        }
    };
}

error_codes! {
    /// The mesh or the broker holds as many connections as it may.
    Capacity = "capacity", true, 503, 4, "Wait and connect again, or ask the operator to raise the limit.";
    /// The client's clock is more than a minute off the broker's.
    TimestampSkew = "timestamp_skew", false, 401, 2, "Set this machine's clock, then connect again.";
    /// A frame, a key or a signature does not have the right shape.
    Malformed = "malformed", false, 400, 3, "Compare the request with its schema.";
    /// A signature does not verify.
    BadSignature = "bad_signature", false, 401, 2, "Check that the key file belongs to this mesh; join again if it was lost.";
    /// The key is not a member of this mesh.
    Unauthorized = "unauthorized", false, 401, 2, "Join the mesh with an invite link first.";
    /// This proof was used before.
    Replayed = "replayed", false, 401, 2, "Connect again: every connection needs a fresh proof.";
    /// The proof was made for another broker.
    WrongOrigin = "wrong_origin", false, 401, 2, "Connect to the broker's public address, or set BROKER_PUBLIC_URL on the broker.";
    /// This member was removed from the mesh.
    Revoked = "revoked", false, 403, 7, "Ask an admin of the mesh for a new invite.";
    /// The mesh was archived by its owner.
    Archived = "archived", false, 410, 5, "Leave the mesh locally; its owner has closed it.";
    /// A request came before `hello`.
    NoHello = "no_hello", false, 401, 2, "Send hello first.";
    /// A second `hello` on one socket.
    AlreadyConnected = "already_connected", false, 409, 3, "Open a new socket for a new session.";
    /// No `hello` within the deadline.
    HelloTimeout = "hello_timeout", true, 408, 4, "Connect again and send hello at once.";
    /// The request's `type` is not one that this broker serves.
    UnknownType = "unknown_type", false, 400, 3, "Check the spelling, or update the broker.";
    /// The request does not match its schema.
    InvalidRequest = "invalid_request", false, 400, 3, "Correct the named field.";
    /// The request or a value in it is too large.
    TooLarge = "too_large", false, 413, 3, "Send less at once; large content belongs in a file.";
    /// More requests than this member may send.
    RateLimited = "rate_limited", true, 429, 4, "Wait for the stated time, then try again.";
    /// A bounded queue of the client or the broker is full.
    QueueFull = "queue_full", true, 503, 4, "Wait until earlier messages are acknowledged.";
    /// The caller may not do this.
    Forbidden = "forbidden", false, 403, 7, "Ask the owner or an admin of the mesh.";
    /// The thing does not exist in this mesh.
    NotFound = "not_found", false, 404, 5, "List what exists and check the id.";
    /// No member or group matches the target.
    NoSuchPeer = "no_such_peer", false, 404, 5, "Use one of the names that list_peers shows.";
    /// More than one member matches the target.
    AmbiguousTarget = "ambiguous_target", false, 409, 3, "Use a longer key prefix or the whole key.";
    /// Every recipient refuses messages of this kind from the sender.
    Refused = "refused", false, 403, 7, "The recipient has to grant it first.";
    /// It exists already, or changed in the meantime.
    Conflict = "conflict", false, 409, 6, "Read the current value and decide again.";
    /// The task is claimed by somebody else, done, or cancelled.
    TaskNotClaimable = "task_not_claimable", false, 409, 6, "List the open tasks and claim another one.";
    /// The task does not exist in this mesh.
    TaskNotFound = "task_not_found", false, 404, 5, "List the tasks and check the id.";
    /// The message was sealed under keys that are no longer current.
    StaleEpoch = "stale_epoch", true, 409, 4, "Fetch the newest group keys, seal again and resend.";
    /// The author is not on the mesh's signed roster.
    NotOnRoster = "not_on_roster", false, 403, 7, "Wait until an owner or admin device has admitted this device.";
    /// The group log refuses this entry.
    InvalidCommit = "invalid_commit", false, 400, 3, "Rebuild the entry on the current head.";
    /// The invite was used up.
    InviteExhausted = "invite_exhausted", false, 410, 5, "Ask for a new invite.";
    /// The invite is past its time.
    InviteExpired = "invite_expired", false, 410, 5, "Ask for a new invite.";
    /// The invite was withdrawn.
    InviteRevoked = "invite_revoked", false, 410, 5, "Ask for a new invite.";
    /// The shared database refuses a query.
    QueryError = "query_error", false, 400, 3, "Correct the statement; mesh_schema shows the tables and the dialect.";
    /// The shared database refuses a statement.
    ExecuteError = "execute_error", false, 400, 3, "Correct the statement; mesh_schema shows the tables and the dialect.";
    /// The collection does not take the vector, or there is none.
    VectorError = "vector_error", false, 400, 3, "Give a vector of the collection's length; list_collections shows it, and whether texts get vectors.";
    /// The graph refuses a query.
    GraphError = "graph_error", false, 400, 3, "Correct the query; the message says where it is wrong.";
    /// The audit log could not be read.
    AuditError = "audit_error", true, 500, 8, "Try again; if it stays, read the broker's log.";
    /// No answer within the time limit.
    Timeout = "timeout", true, 504, 4, "Try again; sends are safe to repeat.";
    /// There is no connection to the broker right now.
    NotConnected = "not_connected", true, 503, 4, "Wait for the connection, or check `claudemesh status`.";
    /// The broker cannot reach its store, or is shutting down.
    Unavailable = "unavailable", true, 503, 4, "Try again in a moment; nothing that was acknowledged is lost.";
    /// A defect in the broker or the client.
    Internal = "internal", false, 500, 8, "Report it with the broker's log.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&str> for ErrorCode {
    fn from(text: &str) -> Self {
        Self::from_text(text)
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_text(&Cow::<str>::deserialize(deserializer)?))
    }
}

impl JsonSchema for ErrorCode {
    fn schema_name() -> Cow<'static, str> {
        "ErrorCode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let known: Vec<_> = Self::ALL.iter().map(Self::as_str).collect();
        json_schema!({
            "type": "string",
            "description": "What went wrong, for programs. Later versions may add codes.",
            "examples": known,
        })
    }
}

/// The broker's answer to a request that it could not serve. Wire type: `error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorFrame {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong, for people: names the field, the limit and the next step.
    pub message: String,
    /// The field that was refused, as a JSON pointer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// How long to wait before the next try, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Names that the caller may have meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suggestions: Vec<String>,
    /// The `id` of the `send` that failed, if the request had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl ErrorFrame {
    /// An error with this code and text; retryable if the code is.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let retryable = code.is_retryable();
        Self {
            code,
            message: message.into(),
            field: None,
            retryable,
            retry_after_ms: None,
            suggestions: Vec::new(),
            id: None,
        }
    }

    /// Names the field that was refused, as a JSON pointer (`/limit`).
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says how long to wait, in milliseconds.
    #[must_use]
    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// Adds names that the caller may have meant.
    #[must_use]
    pub fn suggest(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.suggestions.extend(names);
        self
    }
}

impl fmt::Display for ErrorFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for ErrorFrame {}
