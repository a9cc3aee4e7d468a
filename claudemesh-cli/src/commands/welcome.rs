//! No command: what to do next.

use super::Context;
use crate::{CliError, cli};

/// Shows the next step: how to start for who is new, the help for who has joined a mesh.
pub(crate) fn run(context: &Context) -> Result<(), CliError> {
    let meshes: Vec<&str> = context.config.meshes().iter().map(|mesh| mesh.slug.as_str()).collect();
    context
        .out
        .json(&serde_json::json!({ "meshes": meshes, "version": env!("CARGO_PKG_VERSION") }))?;
    if meshes.is_empty() {
        context.out.line(concat!(
            "claudemesh ",
            env!("CARGO_PKG_VERSION"),
            ": messages and shared state between agent sessions and people.\n\n",
            "You have not joined a mesh yet.\n",
            "  claudemesh up --demo      start one here, with two peers to talk to\n",
            "  claudemesh join <link>    join one with an invite link\n",
            "  claudemesh --help         everything else",
        ));
    } else {
        context.out.line(cli::help().trim_end());
        context.out.line(format!("\nYou are in: {}", meshes.join(", ")));
    }
    Ok(())
}
