//! Failed calls as text that a model can act on: what failed, what to do next, what may have been meant.

use super::session::Broken;
use claudemesh_client::ClientError;
use claudemesh_proto::tool;

/// What a call says when no mesh is joined.
pub(super) const NO_MESH: &str = "No mesh is joined on this machine. Ask your user for an invite link and to run `claudemesh join <link>`, then call again.";

/// A refusal of the broker or the client.
pub(super) fn of(tool: &str, error: &ClientError) -> String {
    let code = error.code();
    let message = error.message();
    let mut text = format!("{tool} failed ({code}): {message}\nNext: {}", code.next_step());
    let meant: Vec<&str> = error
        .suggestions()
        .iter()
        .map(String::as_str)
        .filter(|name| !message.contains(name))
        .take(10)
        .collect();
    if !meant.is_empty() {
        text.push_str(&format!("\nDid you mean: {}?", meant.join(", ")));
    }
    if let Some(pause) = error.retry_after() {
        text.push_str(&format!("\nWait {} ms before the next try.", pause.as_millis()));
    }
    text
}

/// A tool that does not exist.
pub(super) fn unknown_tool(name: &str) -> String {
    let names = tool::tools().iter().map(|meta| meta.name);
    match nearest(name, names.clone()) {
        Some(meant) => format!("There is no tool {name:?}. Did you mean {meant}?"),
        None => format!(
            "There is no tool {name:?}. There are: {}.",
            names.collect::<Vec<_>>().join(", ")
        ),
    }
}

/// What an argument of another name may have meant.
pub(super) fn meant_argument(given: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let known: Vec<String> = known.collect();
    nearest(given, known.iter().map(String::as_str)).map(str::to_owned)
}

/// Meshes that cannot be used.
pub(super) fn broken(meshes: &[Broken]) -> String {
    let lines: Vec<String> = meshes
        .iter()
        .map(|mesh| format!("Mesh {} cannot be used: {}", mesh.slug, mesh.reason))
        .collect();
    format!(
        "{}\nThis needs your user; `claudemesh status` shows more.",
        lines.join("\n")
    )
}

fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    known
        .map(|name| (strsim::jaro_winkler(&given, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_matches_are_named() {
        assert_eq!(
            unknown_tool("sendmessage"),
            "There is no tool \"sendmessage\". Did you mean send_message?"
        );
        assert!(unknown_tool("zzz").contains("list_peers"));
        let known = || ["to", "message", "priority"].into_iter().map(str::to_owned);
        assert_eq!(meant_argument("prioritty", known()).as_deref(), Some("priority"));
        assert_eq!(meant_argument("x", known()), None);
    }
}
