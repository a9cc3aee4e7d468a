//! What owner and admins change: invites, removals.

use super::channel::SecureChannel;
use super::group_error::keys_missing;
use super::warning;
use crate::{ClientError, Transport};
use claudemesh_crypto::group::{Change, GroupKeys as _, InviteKeys, InviteTerms, Role};
use claudemesh_crypto::{InviteSecret, PublicKey, safety_number};

impl SecureChannel {
    /// Whether the signed list of members has this member, or had it; `None` before the log is known.
    pub(crate) fn is_listed(&self, member: &PublicKey) -> Option<bool> {
        self.with_keys(|keys| {
            let roster = keys.roster();
            roster.contains_member(member) || roster.former().iter().any(|row| row.member == *member)
        })
    }

    /// Whether the signed list of members has never had this member, as far as the broker shows it.
    pub(crate) async fn is_unlisted(&self, member: &PublicKey, transport: &dyn Transport) -> bool {
        if self.is_listed(member) != Some(false) {
            return false;
        }
        // They may have come in since. A failure has its own warning.
        let _ = self.catch_up(transport).await;
        self.is_listed(member) == Some(false)
    }

    /// Tells once if the broker gives a key for a name that the signed list of members does not have.
    pub(crate) async fn check_recipient(&self, key: &PublicKey, name: &str, transport: &dyn Transport) {
        if self.cache().told_unlisted.contains(key) || !self.is_unlisted(key, transport).await {
            return;
        }
        if self.cache().told_unlisted.insert(*key) {
            let number = safety_number(&self.identity.public(), key);
            self.events.warn(warning::unlisted(name, key, &number));
        }
    }

    /// Removes a member from the encrypted group and replaces the key, in one step: it reads nothing that is sent from then
    /// on. Gives whether it was in the group.
    ///
    /// # Errors
    /// When this device may not remove it, and those of the requests.
    pub async fn remove_member(&self, member: &PublicKey, transport: &dyn Transport) -> Result<bool, ClientError> {
        if self.head().is_none() {
            self.catch_up(transport).await?;
            if self.head().is_none() {
                return Ok(false);
            }
        }
        self.commit(transport, &|keys, now| {
            if !keys.roster().contains_member(member) {
                return Ok(None);
            }
            keys.propose_remove(member, &self.signer(), now).map(Some)
        })
        .await
    }

    /// Makes an invite whose link secret lets `max_uses` devices into the encrypted group until `expires_at_ms`, with nobody
    /// online. Put the secret into the link's fragment, where the broker never sees it.
    ///
    /// # Errors
    /// When this device may not invite (admins invite ordinary members only), and those of the requests.
    pub async fn commit_invite(
        &self,
        secret: &InviteSecret,
        role: Role,
        expires_at_ms: u64,
        max_uses: u32,
        transport: &dyn Transport,
    ) -> Result<(), ClientError> {
        if !self.is_ready() {
            self.settle(transport).await?;
            if !self.is_ready() {
                return Err(keys_missing("this device has no group key to hand on with the invite"));
            }
        }
        let invite = InviteKeys::from_link_secret(self.mesh_id(), secret.as_bytes());
        let terms = InviteTerms {
            role,
            expires_at_ms,
            max_uses,
            code_hint: None,
        };
        self.commit(transport, &|keys, now| {
            if keys.roster().invite(&invite.invite_key()).is_some() {
                return Ok(None);
            }
            keys.propose_invite(&invite, &terms, &self.signer(), now).map(Some)
        })
        .await
        .map(drop)
    }

    /// Withdraws an invite and replaces the key, which its link could open.
    ///
    /// # Errors
    /// As [`SecureChannel::commit_invite`].
    pub async fn revoke_invite(&self, secret: &InviteSecret, transport: &dyn Transport) -> Result<bool, ClientError> {
        let key = InviteKeys::from_link_secret(self.mesh_id(), secret.as_bytes()).invite_key();
        self.commit(transport, &|keys, now| {
            if keys.roster().invite(&key).is_none() {
                return Ok(None);
            }
            keys.propose(&Change::RevokeInvite(key), &self.signer(), now).map(Some)
        })
        .await
    }
}
