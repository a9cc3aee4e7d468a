//! Bytes of files: parts on their way up, and downloads.

use super::BrokerHttp;
use super::request::{failure, read};
use crate::ClientError;
use crate::clock::now_ms;
use claudemesh_crypto::{SecretKey, sign_request_digest};
use claudemesh_proto::http::{CONTENT_SHA256, PartTaken};
use claudemesh_proto::model::MeshId;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, RANGE};
use reqwest::{Body, Response, StatusCode};
use std::time::Duration;
use url::Url;

/// How long one part may take.
const PART_LIMIT: Duration = Duration::from_secs(600);
/// How long a download may take in all. Its reader has limits for silence.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

impl BrokerHttp {
    /// `POST /upload`: one part of a file, signed by the member that began its upload. `digest` is the SHA-256 of `body`.
    ///
    /// # Errors
    /// The broker's refusal (`conflict` when the upload stands elsewhere), [`ClientError::Http`].
    pub async fn send_part(
        &self,
        signer: &SecretKey,
        mesh: &MeshId,
        file: &str,
        offset: u64,
        body: impl Into<Body>,
        digest: [u8; 32],
    ) -> Result<PartTaken, ClientError> {
        let path = format!("/upload?mesh={mesh}&file={file}&offset={offset}");
        let proof = sign_request_digest(signer, "POST", &path, &digest, now_ms());
        let request = self
            .client()
            .post(format!("{}{path}", self.base_url()))
            .timeout(PART_LIMIT)
            .header(AUTHORIZATION, proof.to_header())
            .header(CONTENT_SHA256, hex::encode(digest))
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(body);
        read(request.send().await.map_err(|error| failure(&error))?).await
    }

    /// Opens an address of `get_file` at byte `start`, for `length` bytes or the rest. One at the broker is asked for where
    /// this client reaches the broker, whatever name the broker has for itself.
    ///
    /// # Errors
    /// The broker's refusal, [`ClientError::Http`].
    pub async fn download(
        &self,
        url: &str,
        via_broker: bool,
        start: u64,
        length: Option<u64>,
    ) -> Result<Response, ClientError> {
        let url = self.address(url, via_broker)?;
        let mut request = self.client().get(url).timeout(DOWNLOAD_LIMIT);
        if start > 0 || length.is_some() {
            let end = length
                .map(|length| (start + length).saturating_sub(1).to_string())
                .unwrap_or_default();
            request = request.header(RANGE, format!("bytes={start}-{end}"));
        }
        let response = request.send().await.map_err(|error| failure(&error))?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::OK if start == 0 => Ok(response),
            status if status.is_success() => Err(ClientError::Protocol {
                message: "a range was asked for and the whole file was sent".to_owned(),
            }),
            _ => Err(match read::<serde_json::Value>(response).await {
                Err(error) => error,
                Ok(_) => ClientError::Protocol {
                    message: "an answer without content".to_owned(),
                },
            }),
        }
    }

    fn address(&self, url: &str, via_broker: bool) -> Result<Url, ClientError> {
        let odd = || ClientError::Protocol {
            message: "the address of the file is none".to_owned(),
        };
        let address = match via_broker {
            true => {
                let at = url.find("/download/").ok_or_else(odd)?;
                format!("{}{}", self.base_url(), &url[at..])
            }
            false => url.to_owned(),
        };
        let address = Url::parse(&address).map_err(|_| odd())?;
        match address.scheme() {
            "http" | "https" => Ok(address),
            _ => Err(odd()),
        }
    }
}
