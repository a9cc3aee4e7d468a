//! Settings of vectors, and of what makes them from texts.

use std::fmt;
use std::time::Duration;

use claudemesh_proto::limits::MAX_VECTOR_DIMENSIONS;
use url::Url;

use super::{ConfigError, Secret, Variables, value};
use crate::backends::vector::VectorLimits;

/// The gRPC port of Qdrant, which the broker speaks to.
const QDRANT_PORT: u16 = 6334;
/// Its HTTP port, which the original's setting names.
const QDRANT_HTTP_PORT: u16 = 6333;

/// A Qdrant server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QdrantSettings {
    /// Where its gRPC port is (`QDRANT_URL`).
    pub url: Url,
    /// Its key (`QDRANT_API_KEY`).
    pub api_key: Option<Secret>,
}

impl QdrantSettings {
    /// A server at this address. Port 6333, which is for HTTP, stands for 6334, which is for gRPC, and so does no port.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn new(url: &str, api_key: Option<Secret>) -> Result<Self, String> {
        let problem = || "is no address; write it as http://qdrant:6334".to_owned();
        let mut url = Url::parse(url).map_err(|_| problem())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(problem());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a name or password; the key belongs in QDRANT_API_KEY".to_owned());
        }
        if url.port().is_none_or(|port| port == QDRANT_HTTP_PORT) {
            url.set_port(Some(QDRANT_PORT)).map_err(|()| problem())?;
        }
        Ok(Self { url, api_key })
    }
}

/// A service with the embeddings API of OpenAI.
#[derive(Clone, PartialEq, Eq)]
pub struct EmbedderSettings {
    /// Where texts are sent (`EMBEDDINGS_URL`, with `/embeddings` at its end).
    pub url: Url,
    /// Its model (`EMBEDDINGS_MODEL`).
    pub model: String,
    /// Its key (`EMBEDDINGS_API_KEY`).
    pub api_key: Option<Secret>,
    /// Length of the model's vectors (`EMBEDDINGS_DIMENSIONS`).
    pub dimensions: usize,
    /// How long an answer may take (`EMBEDDINGS_TIMEOUT_MS`).
    pub timeout: Duration,
}

impl fmt::Debug for EmbedderSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An address may hold a key in its query.
        f.debug_struct("EmbedderSettings")
            .field("host", &self.url.host_str())
            .field("model", &self.model)
            .field("dimensions", &self.dimensions)
            .finish_non_exhaustive()
    }
}

impl EmbedderSettings {
    /// A service at this address, which ends with `/v1` or with the whole path to `/embeddings`, with the defaults of OpenAI's
    /// models: 1,536 dimensions.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn new(url: &str, model: impl Into<String>) -> Result<Self, String> {
        let mut url = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or("is no address; write it as https://api.openai.com/v1")?;
        let path = url.path().trim_end_matches('/');
        if !path.ends_with("/embeddings") {
            let whole = format!("{path}/embeddings");
            url.set_path(&whole);
        }
        Ok(Self {
            url,
            model: model.into(),
            api_key: None,
            dimensions: 1536,
            // Original clients wait five seconds.
            timeout: Duration::from_secs(4),
        })
    }

    fn read(vars: &Variables<'_>) -> Result<Option<Self>, ConfigError> {
        let Some(url) = vars.text("EMBEDDINGS_URL") else {
            return Ok(None);
        };
        let model = vars
            .text("EMBEDDINGS_MODEL")
            .ok_or_else(|| value("EMBEDDINGS_MODEL", "is needed when EMBEDDINGS_URL is set"))?;
        let mut settings = Self::new(url, model).map_err(|problem| value("EMBEDDINGS_URL", problem))?;
        settings.api_key = vars.text("EMBEDDINGS_API_KEY").map(|key| Secret::from(key.to_owned()));
        let most = u64::try_from(MAX_VECTOR_DIMENSIONS).unwrap_or(u64::MAX);
        vars.set("EMBEDDINGS_DIMENSIONS", 1, most, &mut settings.dimensions)?;
        vars.millis("EMBEDDINGS_TIMEOUT_MS", &mut settings.timeout)?;
        Ok(Some(settings))
    }
}

/// Where vectors are, how many there may be, and what makes them from texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VectorSettings {
    /// Limits (`MAX_VECTORS_PER_MESH`, `MAX_VECTOR_COLLECTIONS_PER_MESH`, `VECTOR_QUOTA_MB`, `VECTOR_MEMORY_MB`,
    /// `VECTOR_MAX_OPEN`, `VECTOR_TIMEOUT_MS`).
    pub limits: VectorLimits,
    /// The server that keeps vectors; in the data directory if absent.
    pub qdrant: Option<QdrantSettings>,
    /// What makes vectors from texts; callers bring theirs if absent.
    pub embedder: Option<EmbedderSettings>,
}

impl VectorSettings {
    pub(super) fn read(&mut self, vars: &Variables<'_>) -> Result<(), ConfigError> {
        const MIB: u64 = 1024 * 1024;
        let limits = &mut self.limits;
        vars.set("MAX_VECTORS_PER_MESH", 0, 1_000_000_000, &mut limits.mesh_vectors)?;
        vars.set(
            "MAX_VECTOR_COLLECTIONS_PER_MESH",
            0,
            100_000,
            &mut limits.mesh_collections,
        )?;
        vars.set("VECTOR_MAX_OPEN", 4, 10_000, &mut limits.open)?;
        vars.millis("VECTOR_TIMEOUT_MS", &mut limits.time)?;
        for (variable, bytes) in [
            ("VECTOR_QUOTA_MB", &mut limits.quota),
            ("VECTOR_MEMORY_MB", &mut limits.memory),
        ] {
            if let Some(megabytes) = vars.number::<u64>(variable, 1, 10_000_000)? {
                *bytes = megabytes * MIB;
            }
        }
        let key = vars.text("QDRANT_API_KEY").map(|key| Secret::from(key.to_owned()));
        if let Some(url) = vars.text("QDRANT_URL") {
            Variables::needs_feature("QDRANT_URL", "qdrant")?;
            let qdrant = QdrantSettings::new(url, key).map_err(|problem| value("QDRANT_URL", problem))?;
            self.qdrant = Some(qdrant);
        }
        self.embedder = EmbedderSettings::read(vars)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn settings(variables: &[(&str, &str)]) -> Result<VectorSettings, ConfigError> {
        let variables: HashMap<String, String> = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let mut settings = VectorSettings::default();
        settings.read(&Variables(&variables)).map(|()| settings)
    }

    #[test]
    fn addresses_are_completed() {
        for (text, whole) in [
            ("http://qdrant:6333", "http://qdrant:6334/"),
            ("http://qdrant", "http://qdrant:6334/"),
            ("https://x.cloud.qdrant.io:6334", "https://x.cloud.qdrant.io:6334/"),
            ("http://[::1]:7000/", "http://[::1]:7000/"),
        ] {
            assert_eq!(QdrantSettings::new(text, None).unwrap().url.as_str(), whole);
        }
        for (text, whole) in [
            ("https://api.openai.com/v1", "https://api.openai.com/v1/embeddings"),
            ("http://localhost:11434/v1/", "http://localhost:11434/v1/embeddings"),
            ("http://tei/embeddings", "http://tei/embeddings"),
        ] {
            let settings = settings(&[("EMBEDDINGS_URL", text), ("EMBEDDINGS_MODEL", "m")]).unwrap();
            assert_eq!(settings.embedder.unwrap().url.as_str(), whole);
        }
    }

    #[test]
    fn bad_values_name_their_variable_and_keys_stay_hidden() {
        for (variables, named) in [
            (vec![("QDRANT_URL", "qdrant:6334")], "QDRANT_URL"),
            (vec![("QDRANT_URL", "http://a:hunter2@qdrant")], "QDRANT_URL"),
            (vec![("EMBEDDINGS_URL", "http://x")], "EMBEDDINGS_MODEL"),
            (
                vec![("EMBEDDINGS_URL", "x"), ("EMBEDDINGS_MODEL", "m")],
                "EMBEDDINGS_URL",
            ),
            (
                vec![
                    ("EMBEDDINGS_URL", "http://x"),
                    ("EMBEDDINGS_MODEL", "m"),
                    ("EMBEDDINGS_DIMENSIONS", "5000"),
                ],
                "EMBEDDINGS_DIMENSIONS",
            ),
            (vec![("VECTOR_MEMORY_MB", "0")], "VECTOR_MEMORY_MB"),
        ] {
            let error = settings(&variables).unwrap_err().to_string();
            assert!(error.starts_with(named) && !error.contains("hunter2"), "{error}");
        }
        let key = Some(Secret::from("hunter2".to_owned()));
        let qdrant = QdrantSettings::new("http://q", key).unwrap();
        assert!(!format!("{qdrant:?}").contains("hunter2"), "{qdrant:?}");
        let all = settings(&[
            ("EMBEDDINGS_URL", "http://x/v1?key=hunter2"),
            ("EMBEDDINGS_MODEL", "m"),
            ("EMBEDDINGS_API_KEY", "hunter2"),
            ("EMBEDDINGS_DIMENSIONS", "768"),
            ("VECTOR_MEMORY_MB", "2"),
        ])
        .unwrap();
        assert!(!format!("{all:?}").contains("hunter2"), "{all:?}");
        assert_eq!(
            (all.embedder.unwrap().dimensions, all.limits.memory),
            (768, 2 * 1024 * 1024)
        );
    }
}
