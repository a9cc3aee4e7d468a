//! One request, signed where a key acts, and its answer.

use crate::ClientError;
use crate::clock::now_ms;
use crate::tls;
use claudemesh_crypto::{SecretKey, sign_request};
use claudemesh_proto::http::HttpError;
use claudemesh_proto::{ErrorCode, ErrorFrame};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use url::Url;

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(15);
/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The HTTP side of one broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BrokerHttp {
    client: reqwest::Client,
    base: String,
}

impl BrokerHttp {
    /// The HTTP side of the broker with this WebSocket or HTTP address: `wss://mesh.example.org/ws` is asked at
    /// `https://mesh.example.org`. TLS settings are this client's own; nothing is installed for the process.
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] when the address is none.
    pub fn new(broker_url: &str) -> Result<Self, ClientError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config()?)
            .timeout(LIMIT)
            // A signed request must not be answered by another host.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| failure(&error))?;
        Ok(Self {
            client,
            base: base_of(broker_url)?,
        })
    }

    pub(super) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Where requests go, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// Sends a request. `path` starts with `/` and is what is signed.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        signer: Option<&SecretKey>,
    ) -> Result<T, ClientError> {
        let body = body.map(serde_json::to_vec).transpose();
        let body = body
            .map_err(|error| ClientError::invalid("body", error.to_string()))?
            .unwrap_or_default();
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
        if let Some(signer) = signer {
            // The broker signs and checks the path behind its base, which a proxy may have put elsewhere.
            let proof = sign_request(signer, method.as_str(), path, &body, now_ms());
            request = request.header(AUTHORIZATION, proof.to_header());
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| failure(&error))?;
        read(response).await
    }
}

/// `ws` becomes `http`; a path `/ws` at the end is dropped.
fn base_of(broker_url: &str) -> Result<String, ClientError> {
    let invalid = |message: String| ClientError::invalid("broker_url", message);
    let mut url = Url::parse(broker_url).map_err(|error| invalid(format!("is no address: {error}")))?;
    let scheme = match url.scheme() {
        "ws" | "http" => "http",
        "wss" | "https" => "https",
        other => return Err(invalid(format!("starts with {other}:// instead of wss:// or https://"))),
    };
    url.set_query(None);
    url.set_fragment(None);
    // `Url::set_scheme` refuses this change for some schemes; the text is plain.
    let rest = url
        .as_str()
        .split_once("://")
        .map(|(_, rest)| rest.to_owned())
        .unwrap_or_default();
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix("/ws").unwrap_or(rest).trim_end_matches('/');
    Ok(format!("{scheme}://{rest}"))
}

pub(super) async fn read<T: DeserializeOwned>(mut response: Response) -> Result<T, ClientError> {
    let status = response.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(ClientError::Protocol {
                message: format!("an answer of more than {MAX_ANSWER} bytes"),
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return serde_json::from_slice(&bytes).map_err(|error| ClientError::Protocol {
            message: error.to_string(),
        });
    }
    match serde_json::from_slice::<HttpError>(&bytes) {
        Ok(error) => Err(refusal(status.as_u16(), error)),
        Err(_) => Err(ClientError::Http {
            status: Some(status.as_u16()),
            message: format!("the broker answers HTTP {status}"),
        }),
    }
}

fn refusal(status: u16, error: HttpError) -> ClientError {
    // Original brokers have codes in `error` that are ours, or a sentence.
    let code = error.code.unwrap_or_else(|| ErrorCode::from(error.error.as_str()));
    let message = error.message.unwrap_or_else(|| error.error.clone());
    if matches!(code, ErrorCode::Unknown(_)) {
        return ClientError::Http {
            status: Some(status),
            message,
        };
    }
    let mut frame = ErrorFrame::new(code, message);
    frame.retry_after_ms = error.retry_after_ms;
    frame.into()
}

pub(super) fn failure(error: &reqwest::Error) -> ClientError {
    let mut message = if error.is_timeout() {
        format!("the broker did not answer within {} s", LIMIT.as_secs())
    } else {
        "the broker cannot be reached".to_owned()
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    ClientError::Http {
        status: error.status().map(|status| status.as_u16()),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_http_base_follows_from_the_broker_url() {
        let base = |url| base_of(url).unwrap();
        assert_eq!(base("wss://mesh.example.org/ws"), "https://mesh.example.org");
        assert_eq!(base("ws://127.0.0.1:7900/ws"), "http://127.0.0.1:7900");
        assert_eq!(base("https://example.org/mesh/"), "https://example.org/mesh");
        assert_eq!(base("wss://example.org/mesh/ws/"), "https://example.org/mesh");
        assert!(base_of("ftp://example.org").is_err());
    }

    #[test]
    fn refusals_keep_their_code() {
        let body = |error: &str, code| HttpError {
            ok: false,
            error: error.to_owned(),
            code,
            message: None,
            retry_after_ms: Some(5),
        };
        let error = refusal(410, body("invite_expired", None));
        assert_eq!(
            (error.code(), error.retry_after()),
            (ErrorCode::InviteExpired, Some(Duration::from_millis(5)))
        );
        assert_eq!(
            refusal(403, body("x", Some(ErrorCode::Forbidden))).code(),
            ErrorCode::Forbidden
        );
        assert_eq!(refusal(404, body("no such mesh", None)).code(), ErrorCode::NotFound);
    }
}
