//! HTTP requests that are signed by a member, device or invite key instead of carrying a bearer secret.

use std::fmt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{PublicKey, SecretKey, Signature, encode_base64_url, random_bytes};

/// Largest difference between the client's and the broker's clock, in milliseconds; exactly this much is accepted.
pub const REQUEST_SKEW_MS: i64 = 60_000;

/// The scheme in the `Authorization` header.
pub const REQUEST_SCHEME: &str = "ClaudemeshSig";

const REQUEST_DOMAIN: &str = "claudemesh-http-v1";
/// Longest header value that is looked at; a real one has some 290 characters.
const HEADER_LIMIT: usize = 512;

/// Why a signed request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The header is not one of ours, or lacks a part.
    #[error(
        "Authorization: {field} is missing or malformed; expected ClaudemeshSig key=\"…\",ts=\"…\",nonce=\"…\",sig=\"…\""
    )]
    Malformed {
        /// The part: `scheme`, `key`, `ts`, `nonce`, `sig`, `method` or `path`.
        field: &'static str,
    },
    /// The timestamp is further than [`REQUEST_SKEW_MS`] from the verifier's clock.
    #[error("ts is {difference_ms} ms away from the broker's clock (60000 allowed); set the clock and sign again")]
    TimestampSkew {
        /// Distance between the two clocks, in milliseconds.
        difference_ms: u64,
    },
    /// The signature does not belong to this request and key.
    #[error("sig does not verify; sign exactly the method, path, query and body that are sent")]
    BadSignature,
}

/// The proof that the holder of `key` made one HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRequest {
    /// Who signed.
    pub key: PublicKey,
    /// Time of signing, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// 16 to 64 characters of `A-Za-z0-9_-`. The verifier refuses one that it has seen from this key within the skew.
    pub nonce: String,
    /// Signature over the request's text.
    pub signature: Signature,
}

/// Signs a request. `path` is the path and query as sent, `body` its bytes (empty for none).
#[must_use]
pub fn sign_request(secret: &SecretKey, method: &str, path: &str, body: &[u8], now_ms: i64) -> SignedRequest {
    sign_request_digest(secret, method, path, &request_digest(body), now_ms)
}

/// Signs a request whose body has this [`request_digest`].
#[must_use]
pub fn sign_request_digest(
    secret: &SecretKey,
    method: &str,
    path: &str,
    digest: &[u8; 32],
    now_ms: i64,
) -> SignedRequest {
    let nonce = encode_base64_url(&random_bytes::<16>());
    let signature = secret.sign(request_text(method, path, now_ms, &nonce, digest).as_bytes());
    SignedRequest {
        key: secret.public(),
        timestamp_ms: now_ms,
        nonce,
        signature,
    }
}

/// SHA-256 of a request's body: what a signature covers of it.
#[must_use]
pub fn request_digest(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

impl SignedRequest {
    /// Checks that this signature belongs to the request, and gives the key that made it. What the key may do, and
    /// whether its nonce is new, is for the caller to know.
    ///
    /// # Errors
    /// [`RequestError::TimestampSkew`], then [`RequestError::Malformed`], then [`RequestError::BadSignature`].
    pub fn verify(&self, method: &str, path: &str, body: &[u8], now_ms: i64) -> Result<PublicKey, RequestError> {
        self.verify_digest(method, path, &request_digest(body), now_ms)
    }

    /// [`SignedRequest::verify`] before the body has come: the verifier compares the digest when it has.
    ///
    /// # Errors
    /// Those of [`SignedRequest::verify`].
    pub fn verify_digest(
        &self,
        method: &str,
        path: &str,
        digest: &[u8; 32],
        now_ms: i64,
    ) -> Result<PublicKey, RequestError> {
        let difference_ms = now_ms.abs_diff(self.timestamp_ms);
        if difference_ms > REQUEST_SKEW_MS.unsigned_abs() {
            return Err(RequestError::TimestampSkew { difference_ms });
        }
        // A line break would shift the lines of the signed text.
        for (field, value) in [("method", method), ("path", path)] {
            if value.is_empty() || value.contains(['\n', '\r']) {
                return Err(RequestError::Malformed { field });
            }
        }
        if !is_nonce(&self.nonce) {
            return Err(RequestError::Malformed { field: "nonce" });
        }
        let text = request_text(method, path, self.timestamp_ms, &self.nonce, digest);
        self.key
            .verify(text.as_bytes(), &self.signature)
            .map_err(|_| RequestError::BadSignature)?;
        Ok(self.key)
    }

    /// The value of the `Authorization` header.
    #[must_use]
    pub fn to_header(&self) -> String {
        self.to_string()
    }

    /// Reads [`SignedRequest::to_header`]. Parts may come in any order, each exactly once.
    ///
    /// # Errors
    /// [`RequestError::Malformed`] with the part that is missing, unreadable or given twice.
    pub fn from_header(value: &str) -> Result<Self, RequestError> {
        let malformed = |field| RequestError::Malformed { field };
        if value.len() > HEADER_LIMIT {
            return Err(malformed("scheme"));
        }
        let (scheme, parts) = value.trim().split_once(' ').ok_or(malformed("scheme"))?;
        if !scheme.eq_ignore_ascii_case(REQUEST_SCHEME) {
            return Err(malformed("scheme"));
        }
        let names = ["key", "ts", "nonce", "sig"];
        let mut found: [Option<&str>; 4] = [None; 4];
        for part in parts.split(',') {
            let (name, quoted) = part.trim().split_once('=').ok_or(malformed("scheme"))?;
            let index = names
                .iter()
                .position(|known| *known == name)
                .ok_or(malformed("scheme"))?;
            let text = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            if found[index].is_some() || text.is_none() {
                return Err(malformed(names[index]));
            }
            found[index] = text;
        }
        let [key, timestamp, nonce, signature] = found;
        let key = key.and_then(|text| text.parse().ok()).ok_or(malformed("key"))?;
        let timestamp_ms = timestamp.and_then(|text| text.parse().ok()).ok_or(malformed("ts"))?;
        let nonce = nonce
            .filter(|text| is_nonce(text))
            .ok_or(malformed("nonce"))?
            .to_owned();
        let signature = signature.and_then(|text| text.parse().ok()).ok_or(malformed("sig"))?;
        Ok(Self {
            key,
            timestamp_ms,
            nonce,
            signature,
        })
    }
}

impl fmt::Display for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            timestamp_ms,
            nonce,
            signature,
        } = self;
        write!(
            f,
            "{REQUEST_SCHEME} key=\"{key}\",ts=\"{timestamp_ms}\",nonce=\"{nonce}\",sig=\"{signature}\""
        )
    }
}

fn request_text(method: &str, path: &str, timestamp_ms: i64, nonce: &str, digest: &[u8; 32]) -> String {
    let method = method.to_ascii_uppercase();
    let body = hex::encode(digest);
    format!("{REQUEST_DOMAIN}\n{method}\n{path}\n{timestamp_ms}\n{nonce}\n{body}")
}

fn is_nonce(text: &str) -> bool {
    (16..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifies_only_the_request_that_was_signed() -> Result<(), RequestError> {
        let alice = SecretKey::from_seed(&[2; 32]);
        let signed = sign_request(&alice, "post", "/v1/mesh?x=1", b"{}", 1_000_000);
        let read = SignedRequest::from_header(&signed.to_header())?;
        assert_eq!(read, signed);
        assert_eq!(read.verify("POST", "/v1/mesh?x=1", b"{}", 1_060_000)?, alice.public());
        for (method, path, body) in [
            ("GET", "/v1/mesh?x=1", "{}"),
            ("POST", "/v1/mesh", "{}"),
            ("POST", "/v1/mesh?x=1", "{ }"),
        ] {
            assert_eq!(
                read.verify(method, path, body.as_bytes(), 1_000_000),
                Err(RequestError::BadSignature)
            );
        }
        let late = read.verify("POST", "/v1/mesh?x=1", b"{}", 1_060_001);
        assert_eq!(late, Err(RequestError::TimestampSkew { difference_ms: 60_001 }));
        let other = SignedRequest {
            key: SecretKey::from_seed(&[3; 32]).public(),
            ..read
        };
        assert_eq!(
            other.verify("POST", "/v1/mesh?x=1", b"{}", 1_000_000),
            Err(RequestError::BadSignature)
        );
        Ok(())
    }

    #[test]
    fn the_signed_text_is_pinned() {
        let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let expected = format!("claudemesh-http-v1\nPOST\n/v1/mesh?x=1\n5\nnonce\n{hash}");
        assert_eq!(
            request_text("post", "/v1/mesh?x=1", 5, "nonce", &request_digest(b"{}")),
            expected
        );
    }

    #[test]
    fn headers_are_refused_by_part() {
        let header = sign_request(&SecretKey::from_seed(&[2; 32]), "GET", "/", b"", 5).to_header();
        let refused = |text: String, field| {
            assert_eq!(
                SignedRequest::from_header(&text),
                Err(RequestError::Malformed { field }),
                "{text}"
            );
        };
        refused(header.replace(REQUEST_SCHEME, "Bearer"), "scheme");
        refused(header.replace("ts=\"5\"", "ts=\"5\",ts=\"6\""), "ts");
        refused(header.replace("ts=\"5\"", "ts=\"x\""), "ts");
        refused(header.replace(",ts=\"5\"", ""), "ts");
        refused(header.replace("nonce=\"", "nonce=\"\\"), "nonce");
        refused(header.replace("key=\"", "key=\"zz"), "key");
        refused(header.replace("key=", "realm="), "scheme");
        refused("x".repeat(HEADER_LIMIT + 1), "scheme");
    }
}
