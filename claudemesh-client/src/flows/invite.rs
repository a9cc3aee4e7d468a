//! Inviting to a mesh.

use crate::clock::now_secs;
use crate::http::BrokerHttp;
use crate::identity::key_hex;
use crate::{ClientError, MeshClient};
use claudemesh_crypto::group::{InviteKeys, Role as GroupRole};
use claudemesh_crypto::{
    InviteRole, InviteSecret, InviteV2, NewInviteV1, PublicKey, format_link, new_invite_code, random_bytes, random_id,
};
use claudemesh_proto::http::{CreateInvite, InvitePreset};
use claudemesh_proto::model::{HexSignature, Role, Timestamp};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long to wait for the group keys before the invite is made without them.
const KEYS_LIMIT: Duration = Duration::from_secs(10);

/// What an invite allows.
#[derive(Clone, Debug)]
pub struct InviteOptions {
    /// Standing of who joins with it. Only the owner may invite admins.
    pub role: Role,
    /// How many may join with it (1 to 1000).
    pub max_uses: u32,
    /// How long it may be used; at most a year.
    pub expires_in: Duration,
    /// What new members start with.
    pub preset: Option<InvitePreset>,
}

impl Default for InviteOptions {
    /// One member, within a week.
    fn default() -> Self {
        Self {
            role: Role::Member,
            max_uses: 1,
            expires_in: Duration::from_secs(7 * 24 * 3600),
            preset: None,
        }
    }
}

/// A new invite. Whoever has the link or the token can join: show them only to the person who is invited.
#[derive(Clone)]
pub struct CreatedInvite {
    /// The link, with the secret that gives the group keys and the owner's key behind `#`.
    pub link: Zeroizing<String>,
    /// The short code: joins without the group keys, which a member online then hands out.
    pub code: String,
    /// A token of version 1 for original clients, if we hold the owner's key.
    pub token: Option<Zeroizing<String>>,
    /// Row of the invite, to revoke it.
    pub invite_id: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// What the inviter should know: the link does not carry the group keys, and why.
    pub warning: Option<String>,
}

impl std::fmt::Debug for CreatedInvite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedInvite")
            .field("invite_id", &self.invite_id)
            .field("expires_at", &self.expires_at)
            .field("warning", &self.warning)
            .finish_non_exhaustive()
    }
}

/// Makes an invite: registers it with the broker, and puts it into the group log, so that the link's secret gives the group
/// keys without anybody online.
///
/// # Errors
/// [`ClientError::InvalidArgument`] for options out of range, or when the owner's key is not known; the broker's refusal;
/// [`ClientError::Http`]. That the group log could not take the invite is a warning, not an error: who joins gets the keys
/// from a member online.
pub async fn create_invite(client: &MeshClient, options: InviteOptions) -> Result<CreatedInvite, ClientError> {
    let identity = client.identity();
    let owner = identity.owner_pubkey.ok_or_else(|| {
        ClientError::invalid(
            "owner_pubkey",
            "the key of this mesh's owner is not known; join again with a link",
        )
    })?;
    let expires_at = expiry(options.expires_in)?;
    if !(1..=1000).contains(&options.max_uses) {
        return Err(ClientError::invalid("max_uses", "must be 1 to 1000"));
    }
    let secret = InviteSecret::generate();
    let invite_id = random_id();
    let code = new_invite_code();
    let role = match options.role {
        Role::Admin => InviteRole::Admin,
        Role::Member => InviteRole::Member,
    };
    let mesh_id = identity.mesh_id.as_str();
    let canonical_v2 = InviteV2 {
        mesh_id: mesh_id.to_owned(),
        invite_id: invite_id.clone(),
        expires_at,
        role,
        owner_pubkey: owner,
    }
    .canonical();
    // The owner's key where we hold it; else this admin's, which the broker and the group log know.
    let issuer = identity.owner.as_ref().unwrap_or(&identity.member);
    let token = owner_token(client, expires_at, role)?;
    let request = CreateInvite {
        invite_id: invite_id.clone(),
        code: code.clone(),
        role: options.role,
        expires_at,
        max_uses: options.max_uses,
        signature: HexSignature(issuer.sign(canonical_v2.as_bytes()).to_string()),
        canonical_v2,
        issuer_pubkey: key_hex(&issuer.public()),
        token_hash: token
            .as_ref()
            .map(|token| hex::encode(Sha256::digest(token.as_bytes()))),
        invite_key: Some(key_hex(
            &InviteKeys::from_link_secret(mesh_id, secret.as_bytes()).invite_key(),
        )),
        preset: options.preset,
    };
    let http = BrokerHttp::new(&identity.broker_url)?;
    let created = http
        .create_invite(&identity.member, &identity.mesh_id, &request)
        .await?;
    // After the broker has taken it: an entry of the log for an invite that does not exist would help nobody.
    let warning = commit(client, &secret, &options.role, expires_at, options.max_uses)
        .await
        .err()
        .map(|error| {
            format!("the link does not carry the group keys ({error}); who joins gets them from a member online")
        });
    Ok(CreatedInvite {
        link: link(&created.url, http.base_url(), &created.code, &secret, &owner),
        code: created.code,
        token,
        invite_id,
        expires_at: created.expires_at,
        warning,
    })
}

async fn commit(
    client: &MeshClient,
    secret: &InviteSecret,
    role: &Role,
    expires_at: i64,
    max_uses: u32,
) -> Result<(), ClientError> {
    let inner = client.inner();
    inner.wait_keyed(KEYS_LIMIT).await;
    let role = match role {
        Role::Admin => GroupRole::Admin,
        Role::Member => GroupRole::Member,
    };
    let expires_at_ms = u64::try_from(expires_at).unwrap_or(0).saturating_mul(1000);
    inner
        .secure
        .commit_invite(secret, role, expires_at_ms, max_uses, inner.as_ref())
        .await
}

/// The link on the address that the broker gave for it, which may differ from where it is dialled.
fn link(url: &str, base: &str, code: &str, secret: &InviteSecret, owner: &PublicKey) -> Zeroizing<String> {
    let base = url
        .strip_suffix(&format!("/i/{code}"))
        .filter(|base| base.contains("://"))
        .unwrap_or(base);
    format_link(base, code, secret, owner)
}

fn expiry(expires_in: Duration) -> Result<i64, ClientError> {
    const YEAR: u64 = 365 * 24 * 3600;
    let seconds = expires_in.as_secs();
    if !(1..=YEAR).contains(&seconds) {
        return Err(ClientError::invalid("expires_in", "must be one second to one year"));
    }
    Ok(now_secs() + i64::try_from(seconds).unwrap_or(0))
}

/// The same invite as a token of version 1. Only the owner can sign one.
fn owner_token(
    client: &MeshClient,
    expires_at: i64,
    role: InviteRole,
) -> Result<Option<Zeroizing<String>>, ClientError> {
    let identity = client.identity();
    let Some(owner) = &identity.owner else { return Ok(None) };
    // Original clients store this key and encrypt nothing with it. A random one gives nothing away.
    let root_key = Zeroizing::new(random_bytes::<32>());
    let invite = NewInviteV1 {
        mesh_id: identity.mesh_id.as_str(),
        mesh_slug: &identity.slug,
        broker_url: &identity.broker_url,
        expires_at,
        mesh_root_key: &root_key,
        role,
    };
    Ok(Some(invite.sign(owner).map_err(ClientError::crypto)?.to_token()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use claudemesh_crypto::SecretKey;

    #[test]
    fn links_use_the_public_address_of_the_broker() {
        let (secret, owner) = (InviteSecret::generate(), SecretKey::generate().public());
        let with = |url: &str| link(url, "http://10.0.0.1:7900", "ABCDEFGH", &secret, &owner).to_string();
        assert!(with("https://mesh.example.org/i/ABCDEFGH").starts_with("https://mesh.example.org/i/ABCDEFGH#"));
        assert!(with("/i/ABCDEFGH").starts_with("http://10.0.0.1:7900/i/ABCDEFGH#"));
        assert!(with("").starts_with("http://10.0.0.1:7900/i/ABCDEFGH#"));
    }

    #[test]
    fn times_are_checked() {
        assert!(expiry(Duration::ZERO).is_err());
        assert!(expiry(Duration::from_secs(366 * 24 * 3600)).is_err());
        assert!(expiry(Duration::from_secs(60)).is_ok());
    }
}
