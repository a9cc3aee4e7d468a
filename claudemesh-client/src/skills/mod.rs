//! Skills: SKILL.md, the files beside it, and where they come from.
//!
//! * `document`: SKILL.md; `yaml`: writing its frontmatter; `bundle`: a skill with its files and their limits
//! * `archive`, `directory`, `git`: where bundles come from; `address`: which hosts repositories may be on
//! * `deploy`: uploading; `manage`: the other tools

mod address;
mod archive;
mod bundle;
mod deploy;
mod directory;
mod document;
mod git;
mod manage;
mod yaml;

pub use bundle::{BundleFile, SkillBundle};
pub use document::SkillDocument;
pub use manage::{content_of, mime_of};

use claudemesh_proto::model::SkillManifest;

/// From where a client fetches git repositories beside public hosts over HTTPS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GitAccess {
    /// Hosts of this machine and of private networks.
    pub private: bool,
    /// HTTP without encryption.
    pub insecure: bool,
}

impl GitAccess {
    /// Reads words separated by commas: `private`, `http`. Others mean nothing.
    #[must_use]
    pub fn of_words(words: &str) -> Self {
        let has = |word: &str| words.split(',').any(|given| given.trim().eq_ignore_ascii_case(word));
        Self {
            private: has("private"),
            insecure: has("http"),
        }
    }
}

/// The frontmatter of a skill as lines of YAML, without the marks around it; empty if the manifest says nothing.
#[must_use]
pub fn frontmatter_of(manifest: &SkillManifest) -> String {
    let lines = document::manifest_lines(manifest).into_iter();
    lines.map(|(key, value)| yaml::yaml_line(&key, &value)).collect()
}
