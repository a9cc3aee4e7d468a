//! Errors of the group keys in the client's terms.

use crate::ClientError;
use claudemesh_crypto::group::{GroupError, Refusal};
use claudemesh_proto::ErrorCode;

/// A sentence and a code for each way in which the group keys can fail.
pub(super) fn group_error(error: GroupError) -> ClientError {
    match error {
        GroupError::Gap { .. } | GroupError::Stale => {
            ClientError::refused(ErrorCode::StaleEpoch, "the group log has moved on; try again")
        }
        GroupError::Fork => fork(),
        GroupError::NotOnRoster(key) => ClientError::refused(
            ErrorCode::NotOnRoster,
            format!(
                "{} is not in the encrypted group of this mesh; it has to be admitted by the owner or an admin",
                key.short()
            ),
        ),
        GroupError::Removed => ClientError::refused(
            ErrorCode::Revoked,
            "this device was removed from the encrypted group of this mesh; ask its owner for a new invite",
        ),
        GroupError::UnknownEpoch { epoch, .. } => keys_missing(&format!("no key for epoch {epoch} yet")),
        GroupError::RekeyNeeded => ClientError::refused(
            ErrorCode::StaleEpoch,
            "a member was removed and the new group key is not made yet; try again",
        ),
        GroupError::Refused(Refusal::InviteNotValid) => ClientError::refused(
            ErrorCode::InviteExhausted,
            "the invite is used up, expired or revoked; ask for a new one",
        ),
        GroupError::Refused(refusal @ Refusal::NotAllowed(_)) => {
            ClientError::refused(ErrorCode::Forbidden, refusal.to_string())
        }
        GroupError::Refused(Refusal::Clock) => ClientError::refused(
            ErrorCode::TimestampSkew,
            "the group log and this machine's clock disagree by more than ten minutes; set the clock",
        ),
        other => ClientError::crypto(format_args!("group keys: {other}")),
    }
}

/// The group keys have not arrived.
pub(super) fn keys_missing(why: &str) -> ClientError {
    ClientError::refused(
        ErrorCode::Unavailable,
        format!(
            "cannot seal for a group: {why}. The other members were asked for it; it comes when one of them is online. \
             Direct messages work meanwhile"
        ),
    )
}

/// The broker shows different logs.
pub(super) fn fork() -> ClientError {
    ClientError::crypto(
        "the broker shows different members different histories of this mesh (the group log is forked); compare safety \
         numbers with the others and do not trust this broker until the cause is known",
    )
}

/// The keyring cannot be used.
pub(super) fn store_error(error: &std::io::Error) -> ClientError {
    ClientError::crypto(format_args!("the group keyring cannot be read or written: {error}"))
}
