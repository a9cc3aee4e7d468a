//! Invites of the second generation: a short code whose capability the owner signs, and a root key that is sealed to
//! the claimant.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{InviteError, InviteRole, check_expiry, check_separators};
use crate::sealed_box::seal_to_box_with_ephemeral;
use crate::{
    BoxPublicKey, BoxSecretKey, PublicKey, SealError, SecretKey, Signature, decode_base64_url, encode_base64_url,
    open_sealed, random_bytes, seal_to_box,
};

const CODE_LENGTH: usize = 8;
/// Longest code that is read, in characters.
const CODE_LIMIT: usize = 64;

/// What the owner allows with one v2 invite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteV2 {
    /// Mesh to join.
    pub mesh_id: String,
    /// Row of the invite.
    pub invite_id: String,
    /// End of validity, in seconds since the Unix epoch (of a row in milliseconds: rounded down); this second is still
    /// valid.
    pub expires_at: i64,
    /// What the joiner becomes.
    pub role: InviteRole,
    /// The owner's public key.
    pub owner_pubkey: PublicKey,
}

/// An [`InviteV2`] with the owner's signature, as the invite row and claim responses carry it (JSON).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteCapability {
    /// [`InviteV2::canonical`].
    pub canonical: String,
    /// The owner's signature over it, 128 hexadecimal characters.
    pub signature: String,
}

impl InviteV2 {
    /// The signed text: `v=2|{mesh_id}|{invite_id}|{expires_at}|{role}|{owner_pubkey}`.
    #[must_use]
    pub fn canonical(&self) -> String {
        let Self {
            mesh_id,
            invite_id,
            expires_at,
            role,
            owner_pubkey,
        } = self;
        format!(
            "v=2|{mesh_id}|{invite_id}|{expires_at}|{}|{owner_pubkey}",
            role.as_str()
        )
    }

    /// Reads [`InviteV2::canonical`]. Only the exact text that it writes is accepted.
    ///
    /// # Errors
    /// [`InviteError::Malformed`].
    pub fn parse(canonical: &str) -> Result<Self, InviteError> {
        let malformed = InviteError::Malformed { field: "canonical" };
        let fields: Vec<&str> = canonical.split('|').collect();
        let ["v=2", mesh_id, invite_id, expires_at, role, owner_pubkey] = fields[..] else {
            return Err(malformed);
        };
        let invite = Self {
            mesh_id: mesh_id.to_owned(),
            invite_id: invite_id.to_owned(),
            expires_at: expires_at.parse().map_err(|_| malformed)?,
            role: InviteRole::parse(role).ok_or(malformed)?,
            owner_pubkey: owner_pubkey.parse().map_err(|_| malformed)?,
        };
        check_separators(&[("mesh_id", mesh_id), ("invite_id", invite_id)]).map_err(|_| malformed)?;
        if invite.canonical() == canonical {
            Ok(invite)
        } else {
            Err(malformed)
        }
    }

    /// Signs with the owner's key.
    ///
    /// # Errors
    /// [`InviteError::Separator`], or [`InviteError::OwnerMismatch`] when `owner` is not the key that the invite names.
    pub fn sign(&self, owner: &SecretKey) -> Result<InviteCapability, InviteError> {
        check_separators(&[("mesh_id", &self.mesh_id), ("invite_id", &self.invite_id)])?;
        if owner.public() != self.owner_pubkey {
            return Err(InviteError::OwnerMismatch);
        }
        let canonical = self.canonical();
        let signature = owner.sign(canonical.as_bytes()).to_string();
        Ok(InviteCapability { canonical, signature })
    }
}

impl InviteCapability {
    /// The JSON text of the invite row, without spaces.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("invariant: a struct of texts is always JSON")
    }

    /// Reads [`InviteCapability::to_json`]. Nothing is verified: see [`InviteCapability::verify`].
    ///
    /// # Errors
    /// [`InviteError::Malformed`].
    pub fn from_json(text: &str) -> Result<Self, InviteError> {
        serde_json::from_str(text).map_err(|_| InviteError::Malformed { field: "capability" })
    }

    /// Checks that `owner` (known from the mesh, or from the link) signed this, and that `now_secs` (seconds since the
    /// Unix epoch) is not after its end.
    ///
    /// # Errors
    /// [`InviteError::Malformed`], [`InviteError::OwnerMismatch`], [`InviteError::BadSignature`] or
    /// [`InviteError::Expired`].
    pub fn verify(&self, owner: &PublicKey, now_secs: i64) -> Result<InviteV2, InviteError> {
        let invite = InviteV2::parse(&self.canonical)?;
        let signature: Signature = self
            .signature
            .parse()
            .map_err(|_| InviteError::Malformed { field: "signature" })?;
        if invite.owner_pubkey != *owner {
            return Err(InviteError::OwnerMismatch);
        }
        owner
            .verify(self.canonical.as_bytes(), &signature)
            .map_err(|_| InviteError::BadSignature)?;
        check_expiry(invite.expires_at, now_secs)?;
        Ok(invite)
    }
}

/// A new short code: 8 characters of the broker's alphabet, which has no `0`, `1`, `I` or `O` (40 random bits).
///
/// Too short to be the only secret of an invite without a limit on attempts.
#[must_use]
pub fn new_invite_code() -> String {
    // 32 symbols: a byte modulo 32 is unbiased.
    const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    random_bytes::<CODE_LENGTH>()
        .into_iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

/// Whether `text` can be a short code of any issuer: 1 to 64 letters and digits.
#[must_use]
pub fn is_invite_code(text: &str) -> bool {
    (1..=CODE_LIMIT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The `recipient_x25519_pubkey` of a claim: URL-safe base64 of 32 bytes.
#[must_use]
pub fn encode_box_key(key: &BoxPublicKey) -> String {
    encode_base64_url(key.as_bytes())
}

/// Decodes [`encode_box_key`].
///
/// # Errors
/// [`InviteError::Malformed`].
pub fn decode_box_key(text: &str) -> Result<BoxPublicKey, InviteError> {
    decode_base64_url(text)
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .map(BoxPublicKey::from)
        .ok_or(InviteError::Malformed {
            field: "recipient_x25519_pubkey",
        })
}

/// The `sealed_root_key` of a claim's response: 107 characters.
///
/// # Errors
/// [`SealError::LowOrderKey`] for a key with which anybody could open it.
pub fn seal_root_key(root_key: &[u8; 32], recipient: &BoxPublicKey) -> Result<String, SealError> {
    seal_to_box(recipient, root_key).map(|sealed| encode_base64_url(&sealed))
}

/// [`seal_root_key`] with a given ephemeral secret, to compare with test vectors.
///
/// # Errors
/// As [`seal_root_key`].
#[doc(hidden)]
pub fn seal_root_key_with_ephemeral(
    root_key: &[u8; 32],
    recipient: &BoxPublicKey,
    ephemeral: &BoxSecretKey,
) -> Result<String, SealError> {
    seal_to_box_with_ephemeral(recipient, ephemeral, root_key).map(|sealed| encode_base64_url(&sealed))
}

/// Opens the `sealed_root_key` of a claim's response with the key of that claim.
///
/// # Errors
/// [`InviteError::Malformed`] or [`InviteError::SealedRootKey`].
pub fn open_root_key(recipient: &BoxSecretKey, sealed_root_key: &str) -> Result<Zeroizing<[u8; 32]>, InviteError> {
    let malformed = InviteError::Malformed {
        field: "sealed_root_key",
    };
    let sealed = decode_base64_url(sealed_root_key).ok_or(malformed)?;
    let bytes = open_sealed(recipient, &sealed).map_err(|_| InviteError::SealedRootKey)?;
    <[u8; 32]>::try_from(bytes.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_is_bound_to_the_expected_owner() -> Result<(), InviteError> {
        let (owner, other) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let invite = InviteV2 {
            mesh_id: "mesh".to_owned(),
            invite_id: "invite".to_owned(),
            expires_at: 10,
            role: InviteRole::Admin,
            owner_pubkey: owner.public(),
        };
        let capability = invite.sign(&owner)?;
        assert_eq!(capability.verify(&owner.public(), 10)?, invite);
        assert_eq!(
            capability.verify(&owner.public(), 11),
            Err(InviteError::Expired { expires_at: 10 })
        );
        assert_eq!(capability.verify(&other.public(), 10), Err(InviteError::OwnerMismatch));
        assert_eq!(invite.sign(&other), Err(InviteError::OwnerMismatch));
        let forged = InviteV2 {
            owner_pubkey: other.public(),
            ..invite.clone()
        }
        .sign(&other)?;
        assert_eq!(forged.verify(&owner.public(), 10), Err(InviteError::OwnerMismatch));
        let split = InviteV2 {
            mesh_id: "a|b".to_owned(),
            ..invite
        };
        assert_eq!(split.sign(&owner), Err(InviteError::Separator { field: "mesh_id" }));
        Ok(())
    }

    #[test]
    fn canonical_has_one_spelling() {
        let owner = SecretKey::from_seed(&[1; 32]).public();
        for text in [
            format!("v=2|m|i|+10|member|{owner}"),
            format!("v=2|m|i|010|member|{owner}"),
            format!("v=2|m|i|10|Member|{owner}"),
            format!("v=2|m|i|10|member|{}", owner.to_string().to_uppercase()),
            format!("v=2||i|10|member|{owner}"),
            format!("v=2|m|i|10|member|{owner}|"),
            format!("v=1|m|i|10|member|{owner}"),
        ] {
            assert_eq!(
                InviteV2::parse(&text),
                Err(InviteError::Malformed { field: "canonical" }),
                "{text}"
            );
        }
    }

    #[test]
    fn codes_use_the_broker_alphabet() {
        let code = new_invite_code();
        assert_eq!(code.len(), CODE_LENGTH);
        assert!(is_invite_code(&code) && !code.contains(['0', '1', 'I', 'O']));
        assert!(!is_invite_code("") && !is_invite_code("a-b") && !is_invite_code(&"a".repeat(65)));
    }
}
