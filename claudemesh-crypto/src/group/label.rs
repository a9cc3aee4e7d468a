//! What a key is for.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::device::hkdf32;
use super::error::{GroupError, Refusal};
use super::roster::EpochId;
use super::wire::{Encoder, Secret32};

const DOMAIN: &str = "claudemesh/group/content-key/1";
const MAX_LABEL: usize = 160;

/// Names one key of an epoch: a group, a topic, the shared state. Text form `kind` or `kind:name`, at most 160 bytes,
/// without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// Everybody in the mesh.
    #[must_use]
    pub fn all() -> Self {
        Self("all".to_owned())
    }

    /// The shared state.
    #[must_use]
    pub fn state() -> Self {
        Self("state".to_owned())
    }

    /// The shared memory.
    #[must_use]
    pub fn memory() -> Self {
        Self("memory".to_owned())
    }

    /// Keys of files for the whole mesh.
    #[must_use]
    pub fn files() -> Self {
        Self("files".to_owned())
    }

    /// An open group, named without `@`.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for an empty or too long name, or one with control characters.
    pub fn group(name: &str) -> Result<Self, Refusal> {
        Self::custom("group", name)
    }

    /// A topic, named without `#`.
    ///
    /// # Errors
    /// As [`Label::group`].
    pub fn topic(name: &str) -> Result<Self, Refusal> {
        Self::custom("topic", name)
    }

    /// Any other use.
    ///
    /// # Errors
    /// As [`Label::group`].
    pub fn custom(kind: &str, name: &str) -> Result<Self, Refusal> {
        if kind.is_empty() || kind.contains(':') || name.is_empty() {
            return Err(Refusal::Malformed("label"));
        }
        Self::try_from(format!("{kind}:{name}"))
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        if text.is_empty() || text.len() > MAX_LABEL || text.chars().any(char::is_control) {
            return Err(Refusal::Malformed("label"));
        }
        Ok(Self(text))
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Key for one label in one epoch: HKDF-SHA256 (no salt) of the epoch key, with info = domain
/// `claudemesh/group/content-key/1`, mesh id (text), generation, epoch (u64), label (text). Zeroized on drop.
#[derive(Clone)]
pub struct GroupKey(Zeroizing<[u8; 32]>);

impl GroupKey {
    pub(super) fn derive(mesh_id: &str, id: EpochId, epoch_key: &Secret32, label: &Label) -> Self {
        let mut info = Encoder::new(DOMAIN);
        info.bytes(mesh_id.as_bytes())
            .u64(id.generation)
            .u64(id.epoch)
            .bytes(label.0.as_bytes());
        Self(hkdf32(epoch_key.bytes(), &info.finish()))
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupKey(redacted)")
    }
}

impl GroupError {
    pub(super) const fn unknown(id: EpochId) -> Self {
        Self::UnknownEpoch {
            generation: id.generation,
            epoch: id.epoch,
        }
    }
}
