//! Invitations: the original's two generations, and links that carry a secret the broker never sees.

mod link;
mod v1;
mod v2;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use link::{InviteLink, InviteSecret, format_link, parse_invite};
pub use v1::{InviteV1, NewInviteV1};
pub use v2::{
    InviteCapability, InviteV2, decode_box_key, encode_box_key, is_invite_code, new_invite_code, open_root_key,
    seal_root_key, seal_root_key_with_ephemeral,
};

/// Why an invitation could not be made, read or accepted. Never contains the invitation, which is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InviteError {
    /// None of the accepted forms.
    #[error("not an invite link, token or code; paste the whole link as it was sent")]
    Unrecognised,
    /// A part has the wrong shape.
    #[error("invite {field} is malformed; paste the whole link as it was sent, or ask for a new one")]
    Malformed {
        /// Name of the part.
        field: &'static str,
    },
    /// The part of the link after `#` is cut short or altered.
    #[error("the secret after # in the invite link is incomplete; paste the whole link as it was sent")]
    Fragment,
    /// A field of a new invitation contains what separates fields in the signed text.
    #[error("invite {field} must not be empty nor contain '|' or a line break; choose another value")]
    Separator {
        /// Name of the field.
        field: &'static str,
    },
    /// The owner's signature does not verify.
    #[error("invite signature does not verify; ask the owner of the mesh for a new invite")]
    BadSignature,
    /// The invitation is signed by another key than the owner that was expected.
    #[error("invite owner_pubkey is not the owner of this mesh; ask the owner of the mesh for a new invite")]
    OwnerMismatch,
    /// The invitation is no longer valid.
    #[error("invite expired; ask the owner of the mesh for a new invite")]
    Expired {
        /// When, in seconds since the Unix epoch.
        expires_at: i64,
    },
    /// The sealed root key was not made for this key.
    #[error("sealed_root_key does not open with the key of this claim; claim the invite again")]
    SealedRootKey,
}

impl InviteError {
    /// The code that the original broker answers with.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BadSignature => "invite_bad_signature",
            Self::OwnerMismatch => "invite_owner_mismatch",
            Self::Expired { .. } => "invite_expired",
            _ => "invite_malformed",
        }
    }
}

/// What the invited person becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InviteRole {
    /// May invite, remove and configure.
    Admin,
    /// May take part.
    Member,
}

impl InviteRole {
    /// The text of the role in payloads and signed texts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "admin" => Some(Self::Admin),
            "member" => Some(Self::Member),
            _ => None,
        }
    }
}

fn check_expiry(expires_at: i64, now_secs: i64) -> Result<(), InviteError> {
    if expires_at < now_secs {
        Err(InviteError::Expired { expires_at })
    } else {
        Ok(())
    }
}

fn check_separators(fields: &[(&'static str, &str)]) -> Result<(), InviteError> {
    match fields
        .iter()
        .find(|(_, value)| value.is_empty() || value.contains(['|', '\n', '\r']))
    {
        Some((field, _)) => Err(InviteError::Separator { field }),
        None => Ok(()),
    }
}
