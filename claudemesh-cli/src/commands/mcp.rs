//! `mcp`: the mesh for an agent.

use super::Context;
use crate::{CliError, mcp};

/// Serves the joined meshes to an agent over the Model Context Protocol, on standard input and output. Programs start it;
/// for Claude Code: `claude mcp add claudemesh -- claudemesh mcp`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  claude mcp add claudemesh -- claudemesh mcp\n  claudemesh mcp --mesh team")]
pub(crate) struct McpArgs {}

/// Serves until the agent closes standard input.
pub(crate) async fn run(context: Context, _: McpArgs) -> Result<(), CliError> {
    mcp::run(&context.config, mcp::Options { mesh: context.mesh }).await
}
