//! What this build has besides the embedded backends.

use std::sync::LazyLock;

/// The cargo features of this build.
pub const FEATURES: &[&str] = &[
    #[cfg(feature = "neo4j")]
    "neo4j",
    #[cfg(feature = "qdrant")]
    "qdrant",
    #[cfg(feature = "s3")]
    "s3",
];

/// The features, for people: separated by commas, or `none`.
#[must_use]
pub fn listed() -> String {
    match FEATURES {
        [] => "none".to_owned(),
        features => features.join(","),
    }
}

/// The version, with the features.
#[must_use]
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("{} (features: {})", env!("CARGO_PKG_VERSION"), listed()));
    &VERSION
}
