//! What makes vectors from texts: a service that speaks the embeddings API of OpenAI, as many do (Ollama, vLLM, llama.cpp,
//! Text Embeddings Inference). Without one, callers bring their own vectors.

use std::fmt;
use std::time::Duration;

use claudemesh_proto::{ErrorCode, ErrorFrame};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::http_client::http_client;
use crate::config::EmbedderSettings;

/// Longest answer that is read, in bytes: 4,096 numbers take about 100 KiB.
const MAX_ANSWER: usize = 1024 * 1024;
/// Texts that are at the service at once.
const UNDER_WAY: usize = 16;
/// Characters of a refusal that are logged.
const LOGGED: usize = 200;

/// Why a text has no vector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EmbedError {
    /// The service does not take this text.
    #[error(
        "the embedder does not take this text (status {0}); it may be too long for the model: send less, or send `vector`"
    )]
    Refused(u16),
    /// The service has too much to do.
    #[error("the embedder has too much to do; try again")]
    Busy {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The service did not answer in time.
    #[error("the embedder did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The service cannot be used. The text is for the operator's log; no secret is in it.
    #[error("the embedder cannot be used: {0}")]
    Unavailable(String),
}

impl EmbedError {
    /// The error as a member gets it.
    #[must_use]
    pub fn to_frame(&self) -> ErrorFrame {
        let text = self.to_string();
        match self {
            Self::Refused(_) => ErrorFrame::new(ErrorCode::VectorError, text),
            Self::Busy { retry_after_ms } => ErrorFrame::new(ErrorCode::Unavailable, text).retry_after(*retry_after_ms),
            Self::Timeout(_) => ErrorFrame::new(ErrorCode::Timeout, text),
            Self::Unavailable(problem) => {
                tracing::warn!(problem, "the embedder cannot be used");
                let text =
                    "the broker's embedder cannot be used right now; its log says why. Requests with `vector` work";
                ErrorFrame::new(ErrorCode::Unavailable, text).retry_after(1_000)
            }
        }
    }
}

/// Makes vectors from texts.
pub trait Embedder: fmt::Debug + Send + Sync {
    /// Name of the model.
    fn model(&self) -> &str;

    /// Length of its vectors.
    fn dimensions(&self) -> usize;

    /// The vector of a text, of the length above.
    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Vec<f32>, EmbedError>>;
}

/// An embedder that is reached over HTTP.
pub struct HttpEmbedder {
    client: Client,
    settings: EmbedderSettings,
    places: Semaphore,
}

impl fmt::Debug for HttpEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpEmbedder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    embedding: Vec<f32>,
}

impl HttpEmbedder {
    /// The embedder of these settings. Nothing is asked before the first text.
    ///
    /// # Errors
    /// [`EmbedError::Unavailable`] if TLS cannot be set up.
    pub fn new(settings: EmbedderSettings) -> Result<Self, EmbedError> {
        Ok(Self {
            client: http_client().map_err(EmbedError::Unavailable)?,
            settings,
            places: Semaphore::new(UNDER_WAY),
        })
    }

    async fn ask(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        let place = self.places.acquire().await;
        let _place = place.map_err(|error| EmbedError::Unavailable(error.to_string()))?;
        let body = json!({ "model": self.settings.model, "input": text, "encoding_format": "float" });
        let mut request = self.client.post(self.settings.url.clone()).json(&body);
        if let Some(key) = &self.settings.api_key {
            request = request.bearer_auth(key.expose());
        }
        let response = request.send().await.map_err(broken)?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let bytes = bounded(response).await?;
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|error| EmbedError::Unavailable(format!("its answer is no list of embeddings: {error}")))?;
        let [embedding] = <[Embedding; 1]>::try_from(answer.data).map_err(|data| {
            EmbedError::Unavailable(format!("it answered with {} embeddings instead of one", data.len()))
        })?;
        let (found, expected) = (embedding.embedding.len(), self.settings.dimensions);
        if found != expected {
            return Err(EmbedError::Unavailable(format!(
                "it gives vectors of {found} dimensions, and EMBEDDINGS_DIMENSIONS is {expected}"
            )));
        }
        Ok(embedding.embedding)
    }

    async fn refusal(&self, response: Response) -> EmbedError {
        let status = response.status();
        match status {
            // What it says may show a part of the key.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => EmbedError::Unavailable(format!(
                "it refuses the broker's key (status {status}); check EMBEDDINGS_API_KEY"
            )),
            StatusCode::TOO_MANY_REQUESTS => {
                let seconds = response
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
                EmbedError::Busy {
                    retry_after_ms: seconds.unwrap_or(1).clamp(1, 60) * 1_000,
                }
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                let said = self.loggable(response).await;
                tracing::debug!(%status, said, "the embedder refuses a text");
                EmbedError::Refused(status.as_u16())
            }
            _ => EmbedError::Unavailable(format!("status {status} {}", self.loggable(response).await)),
        }
    }

    /// The beginning of what the service says, without the key.
    async fn loggable(&self, response: Response) -> String {
        let bytes = bounded(response).await.unwrap_or_default();
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(key) = &self.settings.api_key {
            text = text.replace(key.expose(), "…");
        }
        text.chars().filter(|c| !c.is_control()).take(LOGGED).collect()
    }
}

/// Without the address, which may hold a secret.
fn broken(error: reqwest::Error) -> EmbedError {
    use std::error::Error as _;
    let error = error.without_url();
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    EmbedError::Unavailable(format!("{error}{cause}"))
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, EmbedError> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if bytes.len() + piece.len() > MAX_ANSWER {
            return Err(EmbedError::Unavailable(format!(
                "its answer is longer than {MAX_ANSWER} bytes"
            )));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

impl Embedder for HttpEmbedder {
    fn model(&self) -> &str {
        &self.settings.model
    }

    fn dimensions(&self) -> usize {
        self.settings.dimensions
    }

    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Vec<f32>, EmbedError>> {
        let time = self.settings.timeout;
        async move {
            let asking = timeout(time, self.ask(text));
            asking.await.map_err(|_| EmbedError::Timeout(time))?
        }
        .boxed()
    }
}
