//! Invites of the first generation: a signed payload that contains the mesh's root key, as one token.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{InviteError, InviteRole, check_expiry, check_separators};
use crate::{PublicKey, SecretKey, Signature, decode_base64_url, encode_base64_url};

/// Longest token that is read, in characters; a real one has about 700.
pub(super) const TOKEN_LIMIT: usize = 8 * 1024;

/// The payload of a v1 token. Texts are kept as they came, because they are what is signed. The order of the fields is
/// the order of the JSON keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct InviteV1 {
    /// Version: 1.
    pub v: u8,
    /// Mesh to join.
    pub mesh_id: String,
    /// Its short name.
    pub mesh_slug: String,
    /// WebSocket address of its broker.
    pub broker_url: String,
    /// End of validity, in seconds since the Unix epoch; this second is still valid.
    pub expires_at: i64,
    /// Root key of the mesh (32 bytes, URL-safe base64): a secret.
    pub mesh_root_key: String,
    /// What the joiner becomes.
    #[zeroize(skip)]
    pub role: InviteRole,
    /// The owner's public key, 64 hexadecimal characters.
    pub owner_pubkey: String,
    /// The owner's signature over [`InviteV1::canonical`], 128 hexadecimal characters.
    pub signature: String,
}

/// What the owner decides about a new v1 invite.
#[derive(Clone, Copy)]
pub struct NewInviteV1<'a> {
    /// Mesh to join.
    pub mesh_id: &'a str,
    /// Its short name.
    pub mesh_slug: &'a str,
    /// WebSocket address of its broker.
    pub broker_url: &'a str,
    /// End of validity, in seconds since the Unix epoch.
    pub expires_at: i64,
    /// Root key of the mesh.
    pub mesh_root_key: &'a [u8; 32],
    /// What the joiner becomes.
    pub role: InviteRole,
}

impl NewInviteV1<'_> {
    /// Signs with the owner's key.
    ///
    /// # Errors
    /// [`InviteError::Separator`]: fields are not escaped in the signed text.
    pub fn sign(&self, owner: &SecretKey) -> Result<InviteV1, InviteError> {
        check_separators(&[
            ("mesh_id", self.mesh_id),
            ("mesh_slug", self.mesh_slug),
            ("broker_url", self.broker_url),
        ])?;
        let mut invite = InviteV1 {
            v: 1,
            mesh_id: self.mesh_id.to_owned(),
            mesh_slug: self.mesh_slug.to_owned(),
            broker_url: self.broker_url.to_owned(),
            expires_at: self.expires_at,
            mesh_root_key: encode_base64_url(self.mesh_root_key),
            role: self.role,
            owner_pubkey: owner.public().to_string(),
            signature: String::new(),
        };
        invite.signature = owner.sign(invite.canonical().as_bytes()).to_string();
        Ok(invite)
    }
}

impl InviteV1 {
    /// The signed text: the fields but the signature, joined by `|`. Contains the root key.
    #[must_use]
    pub fn canonical(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "{}|{}|{}|{}|{}|{}|{}|{}",
            self.v,
            self.mesh_id,
            self.mesh_slug,
            self.broker_url,
            self.expires_at,
            self.mesh_root_key,
            self.role.as_str(),
            self.owner_pubkey
        ))
    }

    /// Checks the signature, then that `now_secs` (seconds since the Unix epoch) is not after the end, and gives the
    /// owner's key. Whether that key owns the mesh is for the caller to know.
    ///
    /// # Errors
    /// [`InviteError::Malformed`], [`InviteError::Separator`], [`InviteError::BadSignature`] or
    /// [`InviteError::Expired`].
    pub fn verify(&self, now_secs: i64) -> Result<PublicKey, InviteError> {
        let owner: PublicKey = self
            .owner_pubkey
            .parse()
            .map_err(|_| InviteError::Malformed { field: "owner_pubkey" })?;
        let signature: Signature = self
            .signature
            .parse()
            .map_err(|_| InviteError::Malformed { field: "signature" })?;
        // With a separator inside, one signature would fit several payloads.
        check_separators(&[
            ("mesh_id", &self.mesh_id),
            ("mesh_slug", &self.mesh_slug),
            ("broker_url", &self.broker_url),
            ("mesh_root_key", &self.mesh_root_key),
        ])?;
        owner
            .verify(self.canonical().as_bytes(), &signature)
            .map_err(|_| InviteError::BadSignature)?;
        if self.v != 1 {
            return Err(InviteError::Malformed { field: "v" });
        }
        check_expiry(self.expires_at, now_secs)?;
        Ok(owner)
    }

    /// The root key's bytes.
    ///
    /// # Errors
    /// [`InviteError::Malformed`] when they are not 32.
    pub fn root_key(&self) -> Result<Zeroizing<[u8; 32]>, InviteError> {
        let malformed = InviteError::Malformed { field: "mesh_root_key" };
        let bytes = Zeroizing::new(decode_base64_url(&self.mesh_root_key).ok_or(malformed)?);
        <[u8; 32]>::try_from(bytes.as_slice())
            .map(Zeroizing::new)
            .map_err(|_| malformed)
    }

    /// The token: compact JSON in URL-safe base64. Send a token that you were given back as it came: the broker looks it
    /// up by its text.
    #[must_use]
    pub fn to_token(&self) -> Zeroizing<String> {
        let json = serde_json::to_string(self).expect("invariant: a struct of texts and integers is always JSON");
        Zeroizing::new(encode_base64_url(Zeroizing::new(json).as_bytes()))
    }

    /// Decodes a token. Nothing is verified: see [`InviteV1::verify`].
    ///
    /// # Errors
    /// [`InviteError::Malformed`].
    pub fn from_token(token: &str) -> Result<Self, InviteError> {
        let malformed = InviteError::Malformed { field: "token" };
        if token.len() > TOKEN_LIMIT {
            return Err(malformed);
        }
        let json = Zeroizing::new(decode_base64_url(token).ok_or(malformed)?);
        let invite: Self = serde_json::from_slice(&json).map_err(|_| malformed)?;
        if invite.v == 1 {
            Ok(invite)
        } else {
            Err(InviteError::Malformed { field: "v" })
        }
    }
}

impl fmt::Debug for InviteV1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteV1")
            .field("mesh_id", &self.mesh_id)
            .field("mesh_slug", &self.mesh_slug)
            .field("broker_url", &self.broker_url)
            .field("expires_at", &self.expires_at)
            .field("role", &self.role)
            .field("owner_pubkey", &self.owner_pubkey)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NewInviteV1<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewInviteV1")
            .field("mesh_id", &self.mesh_id)
            .field("mesh_slug", &self.mesh_slug)
            .field("broker_url", &self.broker_url)
            .field("expires_at", &self.expires_at)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(expires_at: i64) -> NewInviteV1<'static> {
        NewInviteV1 {
            mesh_id: "mesh",
            mesh_slug: "dev",
            broker_url: "wss://mesh.example.com/ws",
            expires_at,
            mesh_root_key: &[9; 32],
            role: InviteRole::Member,
        }
    }

    #[test]
    fn separators_are_refused_when_issuing_and_when_verifying() -> Result<(), InviteError> {
        let owner = SecretKey::from_seed(&[1; 32]);
        let refused = NewInviteV1 {
            mesh_slug: "dev|wss://evil",
            ..sample(10)
        }
        .sign(&owner);
        assert_eq!(refused, Err(InviteError::Separator { field: "mesh_slug" }));
        // The same signed text, split in another place.
        let mut moved = sample(10).sign(&owner)?;
        moved.mesh_id = "mesh|dev".to_owned();
        moved.mesh_slug = "wss://mesh.example.com/ws".to_owned();
        assert_eq!(moved.verify(0), Err(InviteError::Separator { field: "mesh_id" }));
        Ok(())
    }

    #[test]
    fn the_last_second_is_valid() -> Result<(), InviteError> {
        let owner = SecretKey::from_seed(&[1; 32]);
        let invite = sample(10).sign(&owner)?;
        assert_eq!(invite.verify(10)?, owner.public());
        assert_eq!(invite.verify(11), Err(InviteError::Expired { expires_at: 10 }));
        assert_eq!(*invite.root_key()?, [9; 32]);
        Ok(())
    }

    #[test]
    fn debug_hides_the_root_key() -> Result<(), InviteError> {
        let invite = sample(10).sign(&SecretKey::from_seed(&[1; 32]))?;
        assert!(!format!("{invite:?} {:?}", sample(10)).contains(&invite.mesh_root_key));
        Ok(())
    }
}
