//! Skills of the first mesh as prompts and as `skill://` resources, and notices when their list changes.

mod arguments;
mod notices;
mod prompts;
mod resources;

pub(super) use notices::ListNotices;

use super::session::Joined;
use claudemesh_client::{ClientError, ConnectionState, MeshClient};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::ops::{Skill, SkillSummary};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rmcp::ErrorData;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// How long a list may take to come: hosts wait for it at their start.
const LIST_LIMIT: Duration = Duration::from_secs(5);
/// How long a list waits for the first connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// The tools after which this session's own list is another one.
const CHANGING: [&str; 3] = ["share_skill", "remove_skill", "mesh_skill_deploy"];
/// What stands in addresses as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What every address begins with.
const ROOT: &str = "skill://claudemesh/";
/// The file that stands for the skill itself.
const MAIN_FILE: &str = "SKILL.md";

/// Whether a call of this tool changes the list of skills.
pub(super) fn changes_the_list(tool: &str) -> bool {
    CHANGING.contains(&tool)
}

/// The skills that hosts are shown.
#[derive(Debug, Default)]
pub(super) struct Skills {
    /// As the broker had them last: what is listed while it is away.
    known: Mutex<Vec<SkillSummary>>,
}

impl Skills {
    /// The skills by name; those of the last time if the broker cannot be asked, and none if there was no time yet. When it
    /// can be asked again, a notice goes out.
    async fn list(&self, joined: &Joined) -> Vec<SkillSummary> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(client) = first(joined) else { return Vec::new() };
        let is_open = match client.state() {
            ConnectionState::Open => true,
            ConnectionState::Connecting => client.wait_open(CONNECT_LIMIT).await.is_ok(),
            ConnectionState::Reconnecting { .. } | ConnectionState::Closed { .. } => false,
        };
        if !is_open {
            return known().clone();
        }
        match timeout(LIST_LIMIT, client.all_skills()).await {
            Ok(Ok(skills)) => {
                known().clone_from(&skills);
                skills
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the skills could not be listed");
                known().clone()
            }
            Err(_) => known().clone(),
        }
    }
}

/// The mesh whose skills are shown: the first, as for the tools.
fn first(joined: &Joined) -> Option<&MeshClient> {
    joined.meshes.iter().next()
}

async fn skill(joined: &Joined, name: &str) -> Result<Skill, ErrorData> {
    let client = first(joined).ok_or_else(|| ErrorData::invalid_params(super::problem::NO_MESH, None))?;
    client.skill(name, Vec::new()).await.map_err(|error| refusal(&error))
}

/// A failure as the protocol has it.
fn refusal(error: &ClientError) -> ErrorData {
    let text = format!("{}\nNext: {}", error.message(), error.code().next_step());
    match error.code() {
        ErrorCode::NotFound | ErrorCode::InvalidRequest => ErrorData::invalid_params(text, None),
        _ => ErrorData::internal_error(text, None),
    }
}

/// The address of a skill, or of one of its files.
fn address(name: &str, path: Option<&str>) -> String {
    let mut address = format!("{ROOT}{}", utf8_percent_encode(name, PLAIN));
    for part in path.into_iter().flat_map(|path| path.split('/')) {
        address.push('/');
        address.extend(utf8_percent_encode(part, PLAIN));
    }
    address
}

/// The skill and the file that an address means. `skill://<name>` is understood too.
fn place(address: &str) -> Option<(String, Option<String>)> {
    let rest = match address.strip_prefix(ROOT) {
        Some(rest) => rest,
        None => address.strip_prefix("skill://")?,
    };
    let decode = |part: &str| Some(percent_decode_str(part).decode_utf8().ok()?.into_owned());
    let (name, path) = match rest.split_once('/') {
        Some((name, path)) => (name, Some(decode(path)?)),
        None => (rest, None),
    };
    let path = path.filter(|path| !path.is_empty() && path != MAIN_FILE);
    let name = decode(name)?;
    (!name.is_empty()).then_some((name, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_back() {
        for (name, path) in [
            ("review", None),
            ("Code review: 50% off?", None),
            ("a#b", Some("scripts/run it.sh")),
            ("日本", Some("résumé/#1.md")),
            ("a", Some("b%2Fc")),
        ] {
            let address = address(name, path);
            assert!(address.is_ascii() && !address.contains(' '), "{address}");
            assert_eq!(
                place(&address),
                Some((name.to_owned(), path.map(str::to_owned))),
                "{address}"
            );
        }
        assert_eq!(place("skill://review"), Some(("review".to_owned(), None)));
        assert_eq!(
            place("skill://review/a/b"),
            Some(("review".to_owned(), Some("a/b".to_owned())))
        );
        assert_eq!(
            place("skill://claudemesh/review/SKILL.md"),
            Some(("review".to_owned(), None))
        );
        for bad in [
            "",
            "file:///etc/passwd",
            "skill://",
            "skill://claudemesh/",
            "skill://%ff",
        ] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
