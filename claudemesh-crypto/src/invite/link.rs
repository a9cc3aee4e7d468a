//! The forms in which people hand invitations to each other.
//!
//! Our own links end in `#<fragment>`: URL-safe base64 of a 32-byte secret and the owner's public key. Browsers and
//! clients never send a fragment to a server, so the broker knows neither; the secret opens the group key that the
//! broker stores sealed under it, and the owner's key is what the newcomer checks everything else against.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use super::v1::TOKEN_LIMIT;
use super::{InviteError, InviteV1, is_invite_code};
use crate::{BoxSecretKey, PublicKey, SecretKey, decode_base64_url, encode_base64_url, random_bytes};

const SIGN_LABEL: &[u8] = b"claudemesh/invite/sign/v1";
const SEAL_LABEL: &[u8] = b"claudemesh/invite/seal/v1";
/// Longest text that is looked at: a token and the address before it.
const LINK_LIMIT: usize = TOKEN_LIMIT + 1024;

/// The secret half of an invitation. Zeroized on drop; `Debug` and comparison reveal nothing.
#[derive(Clone, ZeroizeOnDrop)]
pub struct InviteSecret([u8; 32]);

impl InviteSecret {
    /// A new secret from the operating system's random number generator.
    #[must_use]
    pub fn generate() -> Self {
        Self(random_bytes())
    }

    /// The secret with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key with which the holder proves that they were invited. The issuer registers its public half.
    #[must_use]
    pub fn signing_key(&self) -> SecretKey {
        SecretKey::from_seed(&self.derive(SIGN_LABEL))
    }

    /// The key to which the issuer seals what only the invited person may read.
    #[must_use]
    pub fn box_key(&self) -> BoxSecretKey {
        BoxSecretKey::from(*self.derive(SEAL_LABEL))
    }

    /// HKDF-SHA256 without salt.
    fn derive(&self, label: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(label, key.as_mut_slice())
            .expect("invariant: HKDF-SHA256 gives up to 8160 bytes");
        key
    }
}

impl PartialEq for InviteSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for InviteSecret {}

impl fmt::Debug for InviteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSecret(…)")
    }
}

/// What an invitation says before any server is asked.
#[derive(Clone, PartialEq, Eq)]
pub enum InviteLink {
    /// A short code to claim.
    Code {
        /// The code, letters and digits.
        code: String,
        /// Where to claim it, `scheme://host[:port]`, when the input names a host.
        base_url: Option<String>,
        /// The secret of the fragment, in links of this implementation.
        secret: Option<InviteSecret>,
        /// The owner's key of the fragment, in links of this implementation.
        owner: Option<PublicKey>,
    },
    /// A v1 token.
    Token {
        /// The token as it came: the broker looks it up by this text. Contains the root key.
        token: Zeroizing<String>,
        /// Its content, not verified: see [`InviteV1::verify`].
        payload: Box<InviteV1>,
    },
}

impl fmt::Debug for InviteLink {
    /// Without the token, the secret, or the code, which together or alone let one in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code {
                base_url,
                secret,
                owner,
                ..
            } => f
                .debug_struct("Code")
                .field("base_url", base_url)
                .field("secret", secret)
                .field("owner", owner)
                .finish_non_exhaustive(),
            Self::Token { payload, .. } => f
                .debug_struct("Token")
                .field("payload", payload)
                .finish_non_exhaustive(),
        }
    }
}

/// Reads what a person pasted: a link, a token or a code.
///
/// | Input | Result |
/// |---|---|
/// | `ic://join/<token>`, `claudemesh://join/<token>` | token |
/// | `http(s)://<host>[/<xx>]/join/<token>` | token |
/// | `http(s)://<host>[/<xx>]/i/<code>[#<fragment>]`, also without scheme (then https) | code and host |
/// | `claudemesh://i/<code>[#<fragment>]` | code |
/// | 6 to 16 letters and digits | code |
/// | more than 20 of `A-Za-z0-9_-` | token |
///
/// `<xx>` is a two-letter language. A trailing `/`, a query and spaces around are ignored.
///
/// # Errors
/// [`InviteError::Unrecognised`], [`InviteError::Malformed`] or [`InviteError::Fragment`]. Nothing is verified.
pub fn parse_invite(input: &str) -> Result<InviteLink, InviteError> {
    let input = input.trim();
    if input.len() > LINK_LIMIT {
        return Err(InviteError::Unrecognised);
    }
    let (address, fragment) = match input.split_once('#') {
        Some((address, fragment)) => (address, Some(fragment)),
        None => (input, None),
    };
    let address = address.split_once('?').map_or(address, |(path, _query)| path);
    let Some((scheme, rest)) = address.split_once("://") else {
        return match address.split_once('/') {
            Some((host, path)) => parse_path("https", Some(host), path, fragment),
            None if fragment.is_some() => Err(InviteError::Unrecognised),
            None => parse_bare(address),
        };
    };
    let scheme = scheme.to_ascii_lowercase();
    match scheme.as_str() {
        "ic" if rest.starts_with("join/") => parse_path(&scheme, None, rest, fragment),
        "claudemesh" => parse_path(&scheme, None, rest, fragment),
        "http" | "https" => {
            let (host, path) = rest.split_once('/').ok_or(InviteError::Unrecognised)?;
            parse_path(&scheme, Some(host), path, fragment)
        }
        _ => Err(InviteError::Unrecognised),
    }
}

/// A link of this implementation: `{base_url}/i/{code}#{fragment}`. Whoever has it can join: show it only to the person
/// who is invited.
#[must_use]
pub fn format_link(base_url: &str, code: &str, secret: &InviteSecret, owner: &PublicKey) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 64]);
    bytes[..32].copy_from_slice(secret.as_bytes());
    bytes[32..].copy_from_slice(owner.as_bytes());
    let fragment = Zeroizing::new(encode_base64_url(bytes.as_slice()));
    let separator = if base_url.ends_with('/') { "" } else { "/" };
    Zeroizing::new(format!("{base_url}{separator}i/{code}#{}", fragment.as_str()))
}

fn parse_bare(text: &str) -> Result<InviteLink, InviteError> {
    if (6..=16).contains(&text.len()) && is_invite_code(text) {
        return Ok(InviteLink::Code {
            code: text.to_owned(),
            base_url: None,
            secret: None,
            owner: None,
        });
    }
    if text.len() > 20 {
        parse_token(text)
    } else {
        Err(InviteError::Unrecognised)
    }
}

/// `path` has no leading slash.
fn parse_path(scheme: &str, host: Option<&str>, path: &str, fragment: Option<&str>) -> Result<InviteLink, InviteError> {
    let base_url = match host {
        Some(host) if is_host(host) => Some(format!("{scheme}://{}", host.to_ascii_lowercase())),
        Some(_) => return Err(InviteError::Malformed { field: "host" }),
        None => None,
    };
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments: Vec<&str> = path.split('/').collect();
    let language = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    if host.is_some() && segments.len() == 3 && language(segments[0]) {
        segments.remove(0);
    }
    match segments[..] {
        ["join", token] => parse_token(token),
        ["i", code] if is_invite_code(code) => {
            let (secret, owner) = fragment
                .filter(|text| !text.is_empty())
                .map(parse_fragment)
                .transpose()?
                .unzip();
            Ok(InviteLink::Code {
                code: code.to_owned(),
                base_url,
                secret,
                owner,
            })
        }
        ["i", _] => Err(InviteError::Malformed { field: "code" }),
        _ => Err(InviteError::Unrecognised),
    }
}

fn parse_token(token: &str) -> Result<InviteLink, InviteError> {
    let payload = Box::new(InviteV1::from_token(token)?);
    Ok(InviteLink::Token {
        token: Zeroizing::new(token.to_owned()),
        payload,
    })
}

fn parse_fragment(fragment: &str) -> Result<(InviteSecret, PublicKey), InviteError> {
    let bytes = Zeroizing::new(decode_base64_url(fragment).ok_or(InviteError::Fragment)?);
    let (secret, owner) = bytes.split_at_checked(32).ok_or(InviteError::Fragment)?;
    let owner = PublicKey::from_bytes(owner.try_into().map_err(|_| InviteError::Fragment)?);
    // Half a link can still have the right length after a bad copy: the owner must at least be a key.
    owner.to_box_key().map_err(|_| InviteError::Fragment)?;
    let mut copy: [u8; 32] = secret.try_into().map_err(|_| InviteError::Fragment)?;
    let secret = InviteSecret::from_bytes(copy);
    copy.zeroize();
    Ok((secret, owner))
}

/// A host name, IPv4 or bracketed IPv6 address with an optional port; no user name, which only serves to deceive.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let inner = !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
            match (inner, rest.strip_prefix(':')) {
                (true, None) => return rest.is_empty(),
                (true, Some(port)) => ("ip", Some(port)),
                (false, _) => return false,
            }
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let port_is_valid =
        port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    let name_is_valid = (1..=253).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    port_is_valid && name_is_valid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(input: &str) -> (String, Option<String>, bool) {
        match parse_invite(input) {
            Ok(InviteLink::Code {
                code,
                base_url,
                secret,
                owner,
            }) => {
                assert_eq!(secret.is_some(), owner.is_some());
                (code, base_url, secret.is_some())
            }
            other => panic!("{input}: {other:?}"),
        }
    }

    #[test]
    fn codes_with_and_without_host() {
        let host = |text: &str| Some(text.to_owned());
        assert_eq!(code("ABCD2345"), ("ABCD2345".to_owned(), None, false));
        assert_eq!(code(" abcdef \n"), ("abcdef".to_owned(), None, false));
        assert_eq!(code("claudemesh://i/ABCD2345/"), ("ABCD2345".to_owned(), None, false));
        assert_eq!(
            code("https://claudemesh.com/i/Ab"),
            ("Ab".to_owned(), host("https://claudemesh.com"), false)
        );
        assert_eq!(
            code("claudemesh.com/es/i/Ab/"),
            ("Ab".to_owned(), host("https://claudemesh.com"), false)
        );
        assert_eq!(
            code("HTTP://LocalHost:8787/i/Ab?utm=1#"),
            ("Ab".to_owned(), host("http://localhost:8787"), false)
        );
        assert_eq!(
            code("http://[::1]:8787/i/Ab"),
            ("Ab".to_owned(), host("http://[::1]:8787"), false)
        );
    }

    #[test]
    fn other_inputs_are_refused() {
        for input in [
            "",
            "abc",
            "abcdefghijklmnopq",
            "ftp://host/i/ABCD2345",
            "ic://i/ABCD2345",
            "ABCD2345#AAAA",
            "https://host/x/i/ABCD2345",
            "https://host/a/b/i/ABCD2345",
            "https://host",
            "https://host/",
            "https:///i/ABCD2345",
            "https://host/i/",
            "https://host/i/a-b",
            "https://claudemesh.com@evil.example/i/ABCD2345",
            "https://host:99999/i/ABCD2345",
            "https://ho st/i/ABCD2345",
            "https://[::1/i/ABCD2345",
            "https://host/join/eyJ2IjoyfQ",
            "claudemesh://es/i/ABCD2345",
        ] {
            assert!(parse_invite(input).is_err(), "{input}");
        }
        assert_eq!(
            parse_invite(&"a".repeat(LINK_LIMIT + 1)),
            Err(InviteError::Unrecognised)
        );
    }

    #[test]
    fn own_links_round_trip() {
        let secret = InviteSecret::from_bytes([7; 32]);
        let owner = SecretKey::from_seed(&[1; 32]).public();
        for (base, host) in [
            ("https://mesh.example.com", Some("https://mesh.example.com")),
            ("http://127.0.0.1:8787/", Some("http://127.0.0.1:8787")),
            ("claudemesh://", None),
        ] {
            let link = format_link(base, "ABCD2345", &secret, &owner);
            let expected = InviteLink::Code {
                code: "ABCD2345".to_owned(),
                base_url: host.map(str::to_owned),
                secret: Some(secret.clone()),
                owner: Some(owner),
            };
            assert_eq!(parse_invite(&link), Ok(expected));
            for cut in 1..86 {
                assert_eq!(
                    parse_invite(&link[..link.len() - cut]),
                    Err(InviteError::Fragment),
                    "cut {cut}"
                );
            }
        }
    }

    #[test]
    fn derived_keys_differ_and_are_stable() {
        let secret = InviteSecret::from_bytes([7; 32]);
        // From an independent implementation (HMAC-SHA256 in Python).
        let sign = "599e13ced46009393841fac305e70083e7661312c34afb397799db75a7f85e80";
        let seal = "868ab28c0a047fa274e96ffe82a110dcf0522445d8a85ec4df156e443c15393b";
        assert_eq!(hex::encode(secret.signing_key().seed()), sign);
        assert_eq!(hex::encode(secret.box_key().to_bytes()), seal);
        assert_ne!(secret.signing_key().seed().as_slice(), secret.box_key().to_bytes());
        assert_ne!(secret.signing_key().seed().as_slice(), secret.as_bytes());
        assert_ne!(secret, InviteSecret::generate());
    }

    #[test]
    fn debug_shows_no_secret() {
        let owner = SecretKey::from_seed(&[1; 32]).public();
        let link = format_link("https://h", "ABCD2345", &InviteSecret::from_bytes([7; 32]), &owner);
        let shown = format!("{:?}", parse_invite(&link));
        assert!(!shown.contains("7, 7") && !shown.contains("ABCD2345"), "{shown}");
    }
}
