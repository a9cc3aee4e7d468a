//! Where the broker is.

use crate::ClientError;
use url::Url;

/// A broker's WebSocket address, checked.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// What is dialled.
    pub(crate) url: Url,
    /// Scheme, host and port: what the hello is bound to.
    pub(crate) origin: String,
}

impl Address {
    /// Reads `ws://…` or `wss://…`; the path `/ws` is added where there is none.
    pub(crate) fn parse(text: &str) -> Result<Self, ClientError> {
        let invalid = |message: &str| ClientError::invalid("broker_url", message);
        let mut url = Url::parse(text).map_err(|error| invalid(&format!("is no address: {error}")))?;
        if !matches!(url.scheme(), "ws" | "wss") {
            return Err(invalid("must start with ws:// or wss://"));
        }
        let host = url.host_str().ok_or_else(|| invalid("names no host"))?.to_owned();
        let port = url.port_or_known_default().ok_or_else(|| invalid("names no port"))?;
        if matches!(url.path(), "" | "/") {
            url.set_path("/ws");
        }
        url.set_fragment(None);
        let origin = format!("{}://{host}:{port}", url.scheme());
        Ok(Self { url, origin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_a_port_and_urls_a_path() {
        let origin = |text| Address::parse(text).unwrap().origin;
        assert_eq!(origin("wss://Mesh.Example.org/ws"), "wss://mesh.example.org:443");
        assert_eq!(origin("ws://127.0.0.1:7900/ws"), "ws://127.0.0.1:7900");
        assert_eq!(origin("ws://[::1]/ws"), "ws://[::1]:80");
        assert_eq!(
            Address::parse("wss://mesh.example.org").unwrap().url.as_str(),
            "wss://mesh.example.org/ws"
        );
        assert!(Address::parse("https://mesh.example.org/ws").is_err());
        assert!(Address::parse("mesh.example.org").is_err());
    }
}
