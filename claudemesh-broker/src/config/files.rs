//! Settings of shared files.

use std::time::Duration;

use super::{ConfigError, Variables};

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
        }
    }
}

impl FileSettings {
    pub(super) fn read(&mut self, vars: &Variables<'_>) -> Result<(), ConfigError> {
        const MOST: u64 = 1 << 50;
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
