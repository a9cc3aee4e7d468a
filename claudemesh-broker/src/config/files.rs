//! Settings of shared files.

use std::time::Duration;

use url::Url;

use super::{ConfigError, Secret, Variables, value};

/// A secret of the object store.
pub type S3Secret = Secret;

/// An object store that speaks S3, for example MinIO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// Where the broker reaches it (`S3_ENDPOINT`, else `MINIO_ENDPOINT`).
    pub endpoint: Url,
    /// Where clients reach it (`S3_PUBLIC_ENDPOINT`). Without it files are fetched through the broker.
    pub public_endpoint: Option<Url>,
    /// Its region (`S3_REGION`).
    pub region: String,
    /// Name of the key (`S3_ACCESS_KEY`, else `MINIO_ACCESS_KEY`).
    pub access_key: String,
    /// The key (`S3_SECRET_KEY`, else `MINIO_SECRET_KEY`).
    pub secret_key: S3Secret,
}

impl S3Settings {
    fn read(vars: &Variables<'_>) -> Result<Option<Self>, ConfigError> {
        let either = |own: &'static str, original: &'static str| match vars.text(own) {
            Some(text) => Some((own, text)),
            None => vars.text(original).map(|text| (original, text)),
        };
        let Some((variable, text)) = either("S3_ENDPOINT", "MINIO_ENDPOINT") else {
            return Ok(None);
        };
        Variables::needs_feature(variable, "s3")?;
        let secure = vars.text("MINIO_USE_SSL") == Some("true");
        let endpoint = address(variable, text, secure)?;
        let public = vars.text("S3_PUBLIC_ENDPOINT");
        let public_endpoint = public
            .map(|text| address("S3_PUBLIC_ENDPOINT", text, true))
            .transpose()?;
        let needed = |own, original| {
            let found = either(own, original).map(|(_, text)| text.to_owned());
            found.ok_or_else(|| value(own, "is needed when S3_ENDPOINT is set"))
        };
        Ok(Some(Self {
            endpoint,
            public_endpoint,
            region: vars.text("S3_REGION").unwrap_or("us-east-1").to_owned(),
            access_key: needed("S3_ACCESS_KEY", "MINIO_ACCESS_KEY")?,
            secret_key: Secret::from(needed("S3_SECRET_KEY", "MINIO_SECRET_KEY")?),
        }))
    }
}

/// An address; one without a scheme is `host[:port]`, as the original has it.
fn address(variable: &'static str, text: &str, secure: bool) -> Result<Url, ConfigError> {
    let scheme = if secure { "https" } else { "http" };
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("{scheme}://{text}")
    };
    Url::parse(&whole)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| value(variable, "is no address; write it as https://s3.example.org"))
}

/// How much may be shared, and for how long what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Largest file, in bytes of its sealed form (`MAX_FILE_BYTES`).
    pub max_bytes: u64,
    /// Most bytes of all files of one mesh (`FILE_QUOTA_BYTES`).
    pub mesh_bytes: u64,
    /// Most files of one mesh (`MAX_FILES_PER_MESH`).
    pub mesh_files: u64,
    /// Most uploads that a member may have under way (`MAX_UPLOADS_PER_MEMBER`).
    pub member_uploads: u64,
    /// How long an address of `get_file` serves (`FILE_URL_SECONDS`).
    pub url_life: Duration,
    /// How long an upload waits for its next part (`UPLOAD_TTL_HOURS`), in milliseconds.
    pub upload_ms: i64,
    /// How long a file is kept that is not persistent and names no time (`EPHEMERAL_FILE_HOURS`), in milliseconds.
    pub ephemeral_ms: i64,
    /// Where blobs are kept; in the data directory if absent.
    pub s3: Option<S3Settings>,
}

impl Default for FileSettings {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            max_bytes: 4 * GIB,
            mesh_bytes: 20 * GIB,
            mesh_files: 100_000,
            member_uploads: 16,
            url_life: Duration::from_secs(300),
            upload_ms: 24 * 3_600_000,
            ephemeral_ms: 24 * 3_600_000,
            s3: None,
        }
    }
}

impl FileSettings {
    pub(super) fn read(&mut self, vars: &Variables<'_>) -> Result<(), ConfigError> {
        const MOST: u64 = 1 << 50;
        self.s3 = S3Settings::read(vars)?;
        vars.set("MAX_FILE_BYTES", 1, MOST, &mut self.max_bytes)?;
        vars.set("FILE_QUOTA_BYTES", 0, MOST, &mut self.mesh_bytes)?;
        vars.set("MAX_FILES_PER_MESH", 0, 10_000_000, &mut self.mesh_files)?;
        vars.set("MAX_UPLOADS_PER_MEMBER", 1, 10_000, &mut self.member_uploads)?;
        if let Some(seconds) = vars.number("FILE_URL_SECONDS", 1, 86_400)? {
            self.url_life = Duration::from_secs(seconds);
        }
        vars.scaled("UPLOAD_TTL_HOURS", 24 * 30, 3_600_000, &mut self.upload_ms)?;
        vars.scaled("EPHEMERAL_FILE_HOURS", 24 * 30, 3_600_000, &mut self.ephemeral_ms)
    }
}
