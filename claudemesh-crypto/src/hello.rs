//! The signed first message of a connection: the original's format (v1), and ours (v2) that cannot be replayed.

use thiserror::Error;

use crate::{KeyError, PublicKey, SecretKey, Signature};

/// Largest difference between the client's and the broker's clock, in milliseconds; exactly this much is accepted.
pub const HELLO_SKEW_MS: i64 = 60_000;

/// First line of the text that a v2 hello signs. No v1 text can contain it as its first line.
const HELLO_V2_DOMAIN: &str = "claudemesh-hello-v2";

/// Why a hello is refused. [`HelloError::code`] is what goes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HelloError {
    /// The timestamp is further than [`HELLO_SKEW_MS`] from the verifier's clock.
    #[error(
        "timestamp is {difference_ms} ms away from the broker's clock (60000 allowed); set the clock and reconnect"
    )]
    TimestampSkew {
        /// Distance between the two clocks, in milliseconds.
        difference_ms: u64,
    },
    /// A field has the wrong shape.
    #[error("{field} is malformed; keys are 64 and signatures 128 hexadecimal characters, texts are a single line")]
    Malformed {
        /// Name of the field on the wire.
        field: &'static str,
    },
    /// A signature was not made by the key that it is shown with.
    #[error("{field} does not verify; sign the hello with the secret half of the key that it names")]
    BadSignature {
        /// Name of the field on the wire.
        field: &'static str,
    },
}

impl HelloError {
    /// The code of the `error` message, which is also the reason of the close frame (1008).
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TimestampSkew { .. } => "timestamp_skew",
            Self::Malformed { .. } => "malformed",
            Self::BadSignature { .. } => "bad_signature",
        }
    }
}

/// The text that a v1 hello signs: `{mesh_id}|{member_id}|{pubkey}|{timestamp_ms}`.
///
/// `pubkey` is taken as sent: the case of its letters is part of the text.
#[must_use]
pub fn hello_v1_text(mesh_id: &str, member_id: &str, pubkey: &str, timestamp_ms: i64) -> String {
    format!("{mesh_id}|{member_id}|{pubkey}|{timestamp_ms}")
}

/// Signs a v1 hello for the public half of `member`. `timestamp_ms` is the time now, since the Unix epoch.
#[must_use]
pub fn sign_hello_v1(member: &SecretKey, mesh_id: &str, member_id: &str, timestamp_ms: i64) -> Signature {
    let pubkey = member.public().to_string();
    member.sign(hello_v1_text(mesh_id, member_id, &pubkey, timestamp_ms).as_bytes())
}

/// Checks a v1 hello the way the original broker does: clock, then shapes, then the signature.
///
/// The signature covers neither the session key nor the broker; accept each signature once, and prefer [`HelloV2`].
///
/// # Errors
/// [`HelloError::TimestampSkew`], then [`HelloError::Malformed`], then [`HelloError::BadSignature`].
pub fn verify_hello_v1(
    mesh_id: &str,
    member_id: &str,
    pubkey: &str,
    timestamp_ms: i64,
    signature: &str,
    now_ms: i64,
) -> Result<PublicKey, HelloError> {
    check_clock(timestamp_ms, now_ms)?;
    let key: PublicKey = pubkey.parse().map_err(|_| HelloError::Malformed { field: "pubkey" })?;
    let signature: Signature = signature
        .parse()
        .map_err(|_| HelloError::Malformed { field: "signature" })?;
    let text = hello_v1_text(mesh_id, member_id, pubkey, timestamp_ms);
    check_signature(&key, &text, &signature, "signature")?;
    Ok(key)
}

/// A hello of protocol 2: bound to one broker and one connection, and proves the session key as well.
///
/// The verifier fills in what it knows itself (`origin`, and the `nonce` that it sent on this connection) and takes the
/// rest from the message, so a hello for another broker or another connection does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloV2<'a> {
    /// The broker's own address as the client dialled it, for example `wss://mesh.example.com`.
    pub origin: &'a str,
    /// The broker's challenge for this connection.
    pub nonce: &'a str,
    /// Mesh to enter.
    pub mesh_id: &'a str,
    /// Row of the member.
    pub member_id: &'a str,
    /// The member's key.
    pub pubkey: PublicKey,
    /// The key of this session.
    pub session_pubkey: PublicKey,
    /// Time of signing, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

/// The two signatures over the text of a [`HelloV2`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloV2Proof {
    /// By the member key.
    pub signature: Signature,
    /// By the session key.
    pub session_signature: Signature,
}

impl HelloV2<'_> {
    /// The text that both keys sign: one field per line, after a first line that no other format has.
    ///
    /// # Errors
    /// [`HelloError::Malformed`] for an empty field, or one with a line break (it would shift the fields).
    pub fn text(&self) -> Result<String, HelloError> {
        let fields = [
            ("origin", self.origin),
            ("nonce", self.nonce),
            ("meshId", self.mesh_id),
            ("memberId", self.member_id),
        ];
        for (field, value) in fields {
            if value.is_empty() || value.contains(['\n', '\r']) {
                return Err(HelloError::Malformed { field });
            }
        }
        let Self {
            origin,
            nonce,
            mesh_id,
            member_id,
            pubkey,
            session_pubkey,
            timestamp_ms,
        } = self;
        Ok(format!(
            "{HELLO_V2_DOMAIN}\n{origin}\n{nonce}\n{mesh_id}\n{member_id}\n{pubkey}\n{session_pubkey}\n{timestamp_ms}"
        ))
    }

    /// Signs with the secret halves of `pubkey` and `session_pubkey`.
    ///
    /// # Errors
    /// [`HelloError::Malformed`] when a field has a line break, or a secret key is not the one that the hello names.
    pub fn sign(&self, member: &SecretKey, session: &SecretKey) -> Result<HelloV2Proof, HelloError> {
        let text = self.text()?;
        if member.public() != self.pubkey {
            return Err(HelloError::Malformed { field: "pubkey" });
        }
        if session.public() != self.session_pubkey {
            return Err(HelloError::Malformed { field: "sessionPubkey" });
        }
        Ok(HelloV2Proof {
            signature: member.sign(text.as_bytes()),
            session_signature: session.sign(text.as_bytes()),
        })
    }

    /// Checks the clock, the shapes and both signatures, in this order. Whether the nonce was used before is for the
    /// caller to know.
    ///
    /// # Errors
    /// [`HelloError::TimestampSkew`], then [`HelloError::Malformed`], then [`HelloError::BadSignature`].
    pub fn verify(&self, proof: &HelloV2Proof, now_ms: i64) -> Result<(), HelloError> {
        check_clock(self.timestamp_ms, now_ms)?;
        let text = self.text()?;
        check_signature(&self.pubkey, &text, &proof.signature, "signature")?;
        check_signature(
            &self.session_pubkey,
            &text,
            &proof.session_signature,
            "sessionSignature",
        )
    }
}

fn check_clock(timestamp_ms: i64, now_ms: i64) -> Result<(), HelloError> {
    let difference_ms = now_ms.abs_diff(timestamp_ms);
    if difference_ms > HELLO_SKEW_MS.unsigned_abs() {
        return Err(HelloError::TimestampSkew { difference_ms });
    }
    Ok(())
}

fn check_signature(key: &PublicKey, text: &str, signature: &Signature, field: &'static str) -> Result<(), HelloError> {
    key.verify(text.as_bytes(), signature)
        .map_err(|_: KeyError| HelloError::BadSignature { field })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello<'a>(member: &SecretKey, session: &SecretKey) -> HelloV2<'a> {
        HelloV2 {
            origin: "wss://mesh.example.com",
            nonce: "n0",
            mesh_id: "mesh",
            member_id: "member",
            pubkey: member.public(),
            session_pubkey: session.public(),
            timestamp_ms: 1_000_000,
        }
    }

    #[test]
    fn v2_verifies_only_what_was_signed() -> Result<(), HelloError> {
        let (member, session) = (SecretKey::from_seed(&[2; 32]), SecretKey::from_seed(&[4; 32]));
        let hello = hello(&member, &session);
        let proof = hello.sign(&member, &session)?;
        hello.verify(&proof, 1_060_000)?;
        let keys = format!("{}\n{}", member.public(), session.public());
        let text = format!("claudemesh-hello-v2\nwss://mesh.example.com\nn0\nmesh\nmember\n{keys}\n1000000");
        assert_eq!(hello.text()?, text);
        for changed in [
            HelloV2 {
                origin: "wss://evil.example.com",
                ..hello
            },
            HelloV2 { nonce: "n1", ..hello },
            HelloV2 {
                mesh_id: "mesh2",
                ..hello
            },
            HelloV2 {
                member_id: "member2",
                ..hello
            },
            HelloV2 {
                timestamp_ms: 1_000_001,
                ..hello
            },
            HelloV2 {
                session_pubkey: member.public(),
                ..hello
            },
        ] {
            assert_eq!(
                changed.verify(&proof, 1_000_000),
                Err(HelloError::BadSignature { field: "signature" })
            );
        }
        // Somebody else's session key cannot be claimed: the member signs the text, but the session must as well.
        let swapped = HelloV2Proof {
            session_signature: proof.signature,
            ..proof
        };
        assert_eq!(
            hello.verify(&swapped, 1_000_000),
            Err(HelloError::BadSignature {
                field: "sessionSignature"
            })
        );
        Ok(())
    }

    #[test]
    fn v2_refuses_shifted_fields_old_clocks_and_foreign_keys() {
        let (member, session) = (SecretKey::from_seed(&[2; 32]), SecretKey::from_seed(&[4; 32]));
        let good = hello(&member, &session);
        let shifted = HelloV2 {
            nonce: "n0\nmesh",
            mesh_id: "",
            ..good
        };
        assert_eq!(shifted.text(), Err(HelloError::Malformed { field: "nonce" }));
        assert_eq!(
            good.sign(&session, &session),
            Err(HelloError::Malformed { field: "pubkey" })
        );
        assert_eq!(
            good.sign(&member, &member),
            Err(HelloError::Malformed { field: "sessionPubkey" })
        );
        let proof = good.sign(&member, &session).expect("well-formed hello");
        assert_eq!(
            good.verify(&proof, 1_060_001),
            Err(HelloError::TimestampSkew { difference_ms: 60_001 })
        );
        assert_eq!(
            good.verify(&proof, i64::MIN).map_err(|error| error.code()),
            Err("timestamp_skew")
        );
    }
}
