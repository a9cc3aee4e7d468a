//! Requests that a key signed. The broker believes no id in a header or body: who asks is who signed.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use claudemesh_crypto::{RequestError, SignedRequest};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::http::CONTENT_SHA256;
use claudemesh_proto::model::{KeyHex, MeshId};
use serde::de::DeserializeOwned;

use crate::Broker;
use crate::broker::now_ms;
use crate::gateway::Gateway;
use crate::http::body::{read_body, read_json};
use crate::http::error::Failure;
use crate::hub::LiveMesh;
use crate::mesh::MemberState;

/// A request whose signature holds. It counts as used once somebody acts on it: see [`Signed::take`].
#[derive(Debug)]
pub struct Signed {
    /// The key that signed.
    pub key: KeyHex,
    body: Bytes,
    nonce: String,
    timestamp_ms: i64,
}

/// A member that signed a request.
#[derive(Debug)]
pub struct Caller {
    /// The mesh.
    pub mesh: Arc<LiveMesh>,
    /// The member as it was when the request came.
    pub member: MemberState,
}

impl FromRequest<Arc<Gateway>> for Signed {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &Arc<Gateway>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let proof = read_proof(&parts)?;
        let body = read_body(body).await?;
        let key = proof
            .verify(parts.method.as_str(), path_of(&parts), &body, now_ms())
            .map_err(refusal)?;
        Ok(Self {
            key: KeyHex(key.to_string()),
            body,
            nonce: proof.nonce,
            timestamp_ms: proof.timestamp_ms,
        })
    }
}

/// Checks the signature of a request before its body has come. Gives the digest that the body must have: the one that the
/// header `X-Content-SHA256` announces.
///
/// # Errors
/// `unauthorized` without a signature; those of a wrong one; `invalid_request` without a digest.
pub(crate) fn read_head(parts: &Parts) -> Result<(Signed, [u8; 32]), Failure> {
    let proof = read_proof(parts)?;
    let digest = parts
        .headers
        .get(CONTENT_SHA256)
        .and_then(|value| decode_digest(value.as_bytes()));
    let digest = digest.ok_or_else(|| {
        let text = "X-Content-SHA256 must be the body's SHA-256 in 64 hexadecimal characters";
        Failure::of(ErrorCode::InvalidRequest, text)
    })?;
    let key = proof
        .verify_digest(parts.method.as_str(), path_of(parts), &digest, now_ms())
        .map_err(refusal)?;
    let signed = Signed {
        key: KeyHex(key.to_string()),
        body: Bytes::new(),
        nonce: proof.nonce,
        timestamp_ms: proof.timestamp_ms,
    };
    Ok((signed, digest))
}

fn decode_digest(text: &[u8]) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(digest)
}

fn read_proof(parts: &Parts) -> Result<SignedRequest, Failure> {
    let unsigned = || {
        Failure::of(
            ErrorCode::Unauthorized,
            "this request must be signed: Authorization is missing",
        )
    };
    let header = parts.headers.get(AUTHORIZATION).ok_or_else(unsigned)?;
    let header = header.to_str().map_err(|_| unsigned())?;
    SignedRequest::from_header(header).map_err(refusal)
}

fn path_of(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("/", |path| path.as_str())
}

fn refusal(error: RequestError) -> Failure {
    let code = match error {
        RequestError::Malformed { .. } => ErrorCode::Malformed,
        RequestError::TimestampSkew { .. } => ErrorCode::TimestampSkew,
        RequestError::BadSignature => ErrorCode::BadSignature,
    };
    Failure::of(code, error.to_string())
}

impl Signed {
    /// Uses the proof up. Called when it is known that the key may act here, so that strangers cannot fill the memory
    /// of used proofs.
    ///
    /// # Errors
    /// `replayed`.
    pub fn take(&self, broker: &Broker) -> Result<(), Failure> {
        use crate::security::replay::ReplayError;
        broker
            .replay
            .take_request(self.key.as_str(), &self.nonce, self.timestamp_ms, now_ms())
            .map_err(|error| match error {
                ReplayError::Replayed => Failure::of(ErrorCode::Replayed, error.to_string()),
                ReplayError::Full => Failure::of(ErrorCode::Unavailable, error.to_string()).retry_after(60_000),
            })
    }

    /// The body, checked against its schema.
    ///
    /// # Errors
    /// `malformed`, `invalid_request`.
    pub fn json<T: DeserializeOwned + schemars::JsonSchema + 'static>(&self) -> Result<T, Failure> {
        read_json(&self.body)
    }

    /// The body as it came.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The member that signed; the owner's key speaks for the owner's member. Uses the proof up.
    ///
    /// # Errors
    /// `unauthorized` (also if there is no such mesh: strangers are not told), `revoked`, `archived`, `replayed`.
    pub async fn member(&self, broker: &Arc<Broker>, mesh: &str) -> Result<Caller, Failure> {
        let unknown = || Failure::of(ErrorCode::Unauthorized, "the signing key is not a member of this mesh");
        if mesh.len() > 64 {
            return Err(unknown());
        }
        let id = MeshId::from(mesh);
        let live = broker.hub.mesh(broker, &id).await?.ok_or_else(unknown)?;
        let (member, archived) = {
            let state = live.lock();
            let member = state.mesh.member_by_key(self.key.as_str()).cloned().or_else(|| {
                let facts = state.mesh.facts();
                let is_owner = facts.owner_key.as_ref() == Some(&self.key);
                is_owner
                    .then(|| state.mesh.members().find(|member| member.facts.is_owner).cloned())
                    .flatten()
            });
            (member, state.archived)
        };
        let Some(member) = member else {
            let row = broker.store.member_by_key(&id, &self.key).await?;
            return Err(match row.is_some_and(|row| row.revoked_at.is_some()) {
                true => Failure::of(ErrorCode::Revoked, "this member was removed from the mesh"),
                false => unknown(),
            });
        };
        if archived {
            return Err(Failure::of(ErrorCode::Archived, "this mesh was archived by its owner"));
        }
        self.take(broker)?;
        Ok(Caller { mesh: live, member })
    }
}
