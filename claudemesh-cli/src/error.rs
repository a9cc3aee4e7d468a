//! What a command ends with when it does not succeed: what happened, and what to do next.

use claudemesh_proto::ErrorCode;
use std::fmt;

/// A command's failure: one line that says what, one line that says what to do next, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    code: String,
    message: String,
    next: String,
    exit: u8,
}

impl CliError {
    /// A failure with this code; the next step and the exit code are the code's.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            next: code.next_step().to_owned(),
            exit: code.exit_code(),
            code: code.as_str().to_owned(),
        }
    }

    /// The person said no, or pressed Ctrl-C. Exit code 1.
    #[must_use]
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self {
            code: "cancelled".to_owned(),
            message: message.into(),
            next: "Nothing was changed.".to_owned(),
            exit: 1,
        }
    }

    /// Arguments that do not make sense. Exit code 3.
    #[must_use]
    pub fn usage(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message).next(next)
    }

    /// Something on this machine failed: a file, a port, a process. Exit code 8.
    #[must_use]
    pub fn local(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message).next(next)
    }

    /// Replaces the next step.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// Replaces what happened.
    #[must_use]
    pub fn about(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The code: one of the protocol's, or `cancelled`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What happened.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next.
    #[must_use]
    pub fn next_step(&self) -> &str {
        &self.next
    }

    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.exit
    }

    /// The documented JSON form.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "error": { "code": self.code, "message": self.message, "next": self.next } })
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}
