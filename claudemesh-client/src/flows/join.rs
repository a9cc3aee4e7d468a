//! Joining a mesh with any kind of invite.

use crate::clock::now_secs;
use crate::http::BrokerHttp;
use crate::identity::key_hex;
use crate::{ClientError, Identity, MeshClient, MeshClientBuilder};
use claudemesh_crypto::{
    BoxSecretKey, InviteError, InviteLink, InviteRole, InviteSecret, InviteV1, InviteV2, PublicKey, SecretKey,
    Signature, encode_box_key, open_root_key, parse_invite, random_bytes,
};
use claudemesh_proto::http::{Claim, Claimed, Join};
use claudemesh_proto::model::Role;

/// A membership.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The new member. Store it: its key is the membership.
    pub identity: Identity,
    /// The secret of the link: give it to [`MeshClientBuilder::invite_secret`] of
    /// the first connection, which gets the group keys with it.
    pub secret: Option<InviteSecret>,
    /// The member's standing.
    pub role: Role,
    /// Whether the key was a member already; the invite was not used then.
    pub already_member: bool,
    /// What the person should know, for example that nothing vouches for the mesh's owner.
    pub warnings: Vec<String>,
}

impl Joined {
    /// Settings of the first connection, which gets the group keys with the link's secret. Store the identity before.
    pub fn builder(&self) -> MeshClientBuilder {
        let builder = MeshClient::builder(self.identity.clone());
        match &self.secret {
            Some(secret) => builder.invite_secret(secret.clone()),
            None => builder,
        }
    }
}

/// Joins with a link, a code or a token, under a new key. `default_broker` is asked when a bare code names none.
///
/// Signatures are checked: the broker must name the owner that the link names, and the invite must be signed by the owner or
/// by the admin that the broker names.
///
/// # Errors
/// [`ClientError::InvalidArgument`] for an invite that cannot be read; [`ClientError::Crypto`] for one that does not verify;
/// the broker's refusal (`invite_expired`, `invite_exhausted`, `invite_revoked`); [`ClientError::Http`].
pub async fn join(invite: &str, display_name: &str, default_broker: Option<&str>) -> Result<Joined, ClientError> {
    join_as(invite, display_name, default_broker, SecretKey::generate()).await
}

/// [`join`] with a given member key, for example one that was a member before.
///
/// # Errors
/// Those of [`join`].
pub async fn join_as(
    invite: &str,
    display_name: &str,
    default_broker: Option<&str>,
    member: SecretKey,
) -> Result<Joined, ClientError> {
    let name = display_name.trim();
    if name.is_empty() || name.chars().count() > 128 {
        return Err(ClientError::invalid("display_name", "must have 1 to 128 characters"));
    }
    match parse_invite(invite).map_err(|error| ClientError::invalid("invite", error.to_string()))? {
        InviteLink::Code {
            code,
            base_url,
            secret,
            owner,
        } => {
            let broker = base_url.as_deref().or(default_broker).ok_or_else(|| {
                ClientError::invalid(
                    "invite",
                    "the code does not say where to use it; paste the whole link, or name the broker",
                )
            })?;
            claim(broker, &code, secret, owner, name, member).await
        }
        InviteLink::Token { token, payload } => join_v1(&token, &payload, name, member).await,
    }
}

async fn claim(
    broker: &str,
    code: &str,
    secret: Option<InviteSecret>,
    owner: Option<PublicKey>,
    name: &str,
    member: SecretKey,
) -> Result<Joined, ClientError> {
    let box_key = BoxSecretKey::from(random_bytes());
    let request = Claim {
        recipient_x25519_pubkey: encode_box_key(&box_key.public_key()),
        peer_pubkey: Some(key_hex(&member.public())),
        display_name: Some(name.to_owned()),
    };
    let claimed = BrokerHttp::new(broker)?.claim_invite(&member, code, &request).await?;
    let (invite, mut warnings) = verify_claim(&claimed, owner.as_ref(), now_secs())?;
    // Nothing is encrypted with this key here; that it opens shows that the answer is for this claim.
    open_root_key(&box_key, &claimed.sealed_root_key).map_err(ClientError::crypto)?;
    if secret.is_none() {
        warnings.push("the invite carried no secret: a member online has to hand out the group keys".to_owned());
    }
    let slug = claimed.mesh_slug.clone().unwrap_or_else(|| claimed.mesh_id.to_string());
    let role = claimed.role.unwrap_or(match invite.role {
        InviteRole::Admin => Role::Admin,
        InviteRole::Member => Role::Member,
    });
    Ok(Joined {
        identity: Identity {
            broker_url: socket_url(broker, claimed.broker_url.as_deref())?,
            name: claimed.mesh_name.unwrap_or_else(|| slug.clone()),
            mesh_id: claimed.mesh_id,
            member_id: claimed.member_id,
            slug,
            member,
            owner_pubkey: Some(invite.owner_pubkey),
            owner: None,
            display_name: Some(name.to_owned()),
        },
        secret,
        role,
        already_member: claimed.already_member,
        warnings,
    })
}

/// Checks what the broker answered against the link's owner key and the invite's signature.
fn verify_claim(
    claimed: &Claimed,
    pinned: Option<&PublicKey>,
    now_secs: i64,
) -> Result<(InviteV2, Vec<String>), ClientError> {
    let mut warnings = Vec::new();
    let invite = InviteV2::parse(&claimed.canonical_v2).map_err(ClientError::crypto)?;
    let named: PublicKey = claimed
        .owner_pubkey
        .as_str()
        .parse()
        .map_err(|_| ClientError::crypto(InviteError::Malformed { field: "owner_pubkey" }))?;
    if pinned.is_some_and(|owner| *owner != named) || invite.owner_pubkey != named {
        return Err(ClientError::crypto(InviteError::OwnerMismatch));
    }
    if invite.mesh_id != claimed.mesh_id.as_str() {
        return Err(ClientError::crypto(InviteError::Malformed { field: "mesh_id" }));
    }
    if pinned.is_none() {
        warnings.push(format!(
            "the invite does not name the mesh's owner; the broker says it is {}: compare it with the person who invited you",
            named.short()
        ));
    }
    let issuer: PublicKey = match &claimed.issuer_pubkey {
        Some(key) => key
            .as_str()
            .parse()
            .map_err(|_| ClientError::crypto(InviteError::Malformed { field: "issuer_pubkey" }))?,
        None => named,
    };
    match &claimed.signature {
        Some(signature) => {
            let signature: Signature = signature
                .as_str()
                .parse()
                .map_err(|_| ClientError::crypto(InviteError::Malformed { field: "signature" }))?;
            issuer
                .verify(claimed.canonical_v2.as_bytes(), &signature)
                .map_err(|_| ClientError::crypto(InviteError::BadSignature))?;
        }
        None => warnings
            .push("the invite is not signed: that it comes from the mesh's owner is the broker's word".to_owned()),
    }
    if !claimed.already_member && invite.expires_at < now_secs {
        return Err(ClientError::crypto(InviteError::Expired {
            expires_at: invite.expires_at,
        }));
    }
    Ok((invite, warnings))
}

async fn join_v1(token: &str, payload: &InviteV1, name: &str, member: SecretKey) -> Result<Joined, ClientError> {
    let owner = payload.verify(now_secs()).map_err(ClientError::crypto)?;
    let invite_payload =
        serde_json::to_value(payload).map_err(|error| ClientError::invalid("invite", error.to_string()))?;
    let request = Join {
        invite_token: token.to_owned(),
        invite_payload,
        peer_pubkey: key_hex(&member.public()),
        display_name: name.to_owned(),
    };
    let joined = BrokerHttp::new(&payload.broker_url)?.join(&member, &request).await?;
    Ok(Joined {
        identity: Identity {
            mesh_id: payload.mesh_id.as_str().into(),
            member_id: joined.member_id,
            slug: payload.mesh_slug.clone(),
            name: payload.mesh_slug.clone(),
            member,
            broker_url: socket_url(&payload.broker_url, None)?,
            owner_pubkey: Some(owner),
            owner: None,
            display_name: Some(name.to_owned()),
        },
        secret: None,
        role: match payload.role {
            InviteRole::Admin => Role::Admin,
            InviteRole::Member => Role::Member,
        },
        already_member: joined.already_member,
        warnings: vec!["the token carries no secret: a member online has to hand out the group keys".to_owned()],
    })
}

/// The WebSocket address of a broker: what it names itself, unless that would give up TLS; else derived from where it was
/// asked.
pub(super) fn socket_url(asked: &str, named: Option<&str>) -> Result<String, ClientError> {
    let derived = match asked.split_once("://") {
        Some(("wss" | "ws", _)) => asked.to_owned(),
        Some(("https", rest)) => format!("wss://{}/ws", rest.trim_end_matches('/')),
        Some(("http", rest)) => format!("ws://{}/ws", rest.trim_end_matches('/')),
        _ => return Err(ClientError::invalid("broker_url", "must start with wss:// or https://")),
    };
    let keeps_tls =
        |named: &&str| named.starts_with("wss://") || (named.starts_with("ws://") && derived.starts_with("ws://"));
    Ok(named.filter(keeps_tls).map_or(derived.clone(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use claudemesh_proto::model::HexSignature;

    fn claimed(owner: &SecretKey, issuer: &SecretKey) -> Claimed {
        let canonical_v2 = InviteV2 {
            mesh_id: "mesh".to_owned(),
            invite_id: "invite".to_owned(),
            expires_at: 100,
            role: InviteRole::Member,
            owner_pubkey: owner.public(),
        }
        .canonical();
        Claimed {
            sealed_root_key: String::new(),
            mesh_id: "mesh".into(),
            member_id: "member".into(),
            owner_pubkey: key_hex(&owner.public()),
            signature: Some(HexSignature(issuer.sign(canonical_v2.as_bytes()).to_string())),
            canonical_v2,
            issuer_pubkey: Some(key_hex(&issuer.public())),
            mesh_slug: None,
            mesh_name: None,
            broker_url: None,
            role: None,
            already_member: false,
        }
    }

    #[test]
    fn a_broker_cannot_swap_the_owner_or_the_signature() {
        let (owner, admin, other) = (SecretKey::generate(), SecretKey::generate(), SecretKey::generate());
        let good = claimed(&owner, &owner);
        let (_, warnings) = verify_claim(&good, Some(&owner.public()), 100).unwrap();
        assert!(warnings.is_empty());
        assert!(verify_claim(&claimed(&owner, &admin), Some(&owner.public()), 100).is_ok());
        assert!(verify_claim(&good, Some(&other.public()), 100).is_err());
        assert!(verify_claim(&claimed(&other, &other), Some(&owner.public()), 100).is_err());
        let mut forged = good.clone();
        forged.signature = claimed(&owner, &other).signature;
        assert!(verify_claim(&forged, Some(&owner.public()), 100).is_err());
        let mut moved = good.clone();
        moved.mesh_id = "another".into();
        assert!(verify_claim(&moved, None, 100).is_err());
        assert!(verify_claim(&good, None, 101).is_err(), "expired");
        assert_eq!(
            verify_claim(&good, None, 100).unwrap().1.len(),
            1,
            "an owner that nobody vouches for is told"
        );
    }

    #[test]
    fn the_socket_address_never_loses_tls() {
        let url = |asked, named| socket_url(asked, named).unwrap();
        assert_eq!(url("https://a.example", None), "wss://a.example/ws");
        assert_eq!(
            url("https://a.example", Some("ws://a.example/ws")),
            "wss://a.example/ws"
        );
        assert_eq!(
            url("https://a.example", Some("wss://b.example/ws")),
            "wss://b.example/ws"
        );
        assert_eq!(
            url("http://127.0.0.1:1", Some("ws://127.0.0.1:1/ws")),
            "ws://127.0.0.1:1/ws"
        );
        assert!(socket_url("a.example", None).is_err());
    }
}
