//! `mcp`: the mesh for an agent.

use super::Context;
use crate::{CliError, mcp};
use std::path::PathBuf;

/// Serves the joined meshes to an agent over the Model Context Protocol, on standard input and output. Programs start it;
/// for Claude Code: `claude mcp add claudemesh -- claudemesh mcp`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claude mcp add claudemesh -- claudemesh mcp\n  claudemesh mcp --mesh team\n  \
    claudemesh mcp --share ~/project/docs"
)]
pub(crate) struct McpArgs {
    /// Let members that you have given `file-read` (see `claudemesh grant`) read this directory; may be repeated. Hidden
    /// files, links and files that may hold secrets stay private
    #[arg(long, value_name = "DIR")]
    share: Vec<PathBuf>,
}

/// Serves until the agent closes standard input.
pub(crate) async fn run(context: Context, arguments: McpArgs) -> Result<(), CliError> {
    let options = mcp::Options {
        mesh: context.mesh,
        share: arguments.share,
    };
    mcp::run(&context.config, options).await
}
