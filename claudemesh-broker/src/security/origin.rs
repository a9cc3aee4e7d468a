//! For which broker a proof was made.
//!
//! A `hello` of protocol 2 signs the broker's address as the client dialled it. Without this, a broker (or whoever
//! pretends to be one) could pass on a challenge of another broker and log in there with the answer. The check is only
//! worth something if the broker accepts addresses that are *its own* and nobody else's:
//!
//! * with `BROKER_PUBLIC_URL`, exactly the configured ones;
//! * without, those that no other machine can have towards this client: loopback, and the address at which this socket
//!   arrived. Ports are not compared then: a tunnel or a container maps them, and whoever runs another program at the
//!   same address is on the same machine already.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// A text that is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected scheme://host[:port] with the scheme ws, wss, http or https")]
pub struct OriginError;

/// Scheme, host and port. `http` is the same as `ws`, `https` as `wss`; a default port is the same as none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    secure: bool,
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl Origin {
    /// `ws://host[:port]` or `wss://host[:port]`.
    #[must_use]
    pub fn websocket(&self) -> String {
        format!("{}://{}", if self.secure { "wss" } else { "ws" }, self.authority())
    }

    /// `http://host[:port]` or `https://host[:port]`.
    #[must_use]
    pub fn http(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }

    /// Whether only programs on this machine can be meant.
    fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Address(address) => address.is_loopback(),
        }
    }

    fn authority(&self) -> String {
        let host = match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(IpAddr::V4(address)) => address.to_string(),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        };
        if self.port == default_port(self.secure) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.websocket())
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let (scheme, rest) = text.split_once("://").ok_or(OriginError)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(OriginError),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (address, port) = bracketed.split_once(']').ok_or(OriginError)?;
                let address: std::net::Ipv6Addr = address.parse().map_err(|_| OriginError)?;
                (Host::Address(plain(IpAddr::V6(address))), port)
            }
            None => {
                let end = rest.find(':').unwrap_or(rest.len());
                (named_host(&rest[..end])?, &rest[end..])
            }
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| OriginError)?
            }
            Some(_) => return Err(OriginError),
            None if port.is_empty() => default_port(secure),
            None => return Err(OriginError),
        };
        Ok(Self { secure, host, port })
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

fn named_host(text: &str) -> Result<Host, OriginError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Host::Address(address));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if (1..=253).contains(&name.len()) && name.bytes().all(legal) {
        Ok(Host::Name(name.to_ascii_lowercase()))
    } else {
        Err(OriginError)
    }
}

/// An IPv4 address in IPv6 clothes is the IPv4 address.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Whether a proof for `origin` is a proof for this broker, on a socket that arrived at `local`.
#[must_use]
pub fn is_ours(origin: &str, configured: &[Origin], local: SocketAddr) -> bool {
    let Ok(origin) = origin.parse::<Origin>() else {
        return false;
    };
    if !configured.is_empty() {
        return configured.contains(&origin);
    }
    origin.is_loopback() || origin.host == Host::Address(plain(local.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(origin: &str, configured: &[&str]) -> bool {
        let configured: Vec<Origin> = configured.iter().map(|text| text.parse().unwrap()).collect();
        is_ours(origin, &configured, "10.1.2.3:7900".parse().unwrap())
    }

    #[test]
    fn equal_addresses_in_other_words_are_equal() {
        for text in [
            "wss://mesh.example.org",
            "https://MESH.example.org:443/",
            "wss://mesh.example.org.:443",
        ] {
            assert!(ours(text, &["https://mesh.example.org"]), "{text}");
        }
    }

    #[test]
    fn with_a_public_address_nothing_else_is_ours() {
        for text in [
            "wss://evil.example",
            "ws://mesh.example.org",
            "wss://mesh.example.org:444",
            "wss://mesh.example.org.evil.example",
            "wss://mesh.example.org@evil.example",
            "wss://mesh.example.org/path",
            "ws://127.0.0.1:7900",
            "ws://10.1.2.3:7900",
            "",
            "mesh.example.org",
        ] {
            assert!(!ours(text, &["https://mesh.example.org"]), "{text}");
        }
    }

    #[test]
    fn without_one_only_loopback_and_the_sockets_own_address_are_ours() {
        for text in [
            "ws://localhost:7900",
            "ws://127.0.0.1",
            "ws://[::1]:7900",
            "ws://10.1.2.3:1",
            "ws://[::ffff:10.1.2.3]",
        ] {
            assert!(ours(text, &[]), "{text}");
        }
        for text in [
            "ws://10.1.2.4:7900",
            "wss://mesh.example.org",
            "ws://localhost.evil.example",
            "ws://0.0.0.0:7900",
        ] {
            assert!(!ours(text, &[]), "{text}");
        }
    }
}
