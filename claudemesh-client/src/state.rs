//! What the connection is doing.

use crate::ClientError;

/// What the connection is doing. `Closed` is the only end.
#[derive(Clone, Debug)]
pub enum ConnectionState {
    /// The first connection is being made.
    Connecting,
    /// The broker accepted the connection.
    Open,
    /// The connection was lost or could not be made; the client tries again.
    Reconnecting {
        /// Tries since the last stable connection, from 1.
        attempt: u32,
        /// Why the last try or connection ended.
        error: String,
    },
    /// The client was closed, or the broker refused it for good. It does not connect again.
    Closed {
        /// Why the broker refused; absent when the program closed the client.
        error: Option<ClientError>,
    },
}

impl ConnectionState {
    /// Whether requests are answered now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Whether the client is at its end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// Name for logs and status lines: `connecting`, `open`, `reconnecting`, `closed`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Open => "open",
            Self::Reconnecting { .. } => "reconnecting",
            Self::Closed { .. } => "closed",
        }
    }
}
