//! `tool`: any tool that agents have, from a shell.

use super::Context;
use super::session::{self, builder};
use crate::output::{Output, Style, cell, styled};
use crate::{CliError, text};
use claudemesh_client::Meshes;
use claudemesh_proto::schema::{self, ToolSchemas};
use claudemesh_proto::{ErrorCode, tool_by_name};
use serde_json::Value;

/// Calls one of the tools that agents have and prints its result, which is JSON. Arguments are one JSON object, or
/// key=value words whose values are JSON or text.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh tool --list\n  claudemesh tool send_message to=ana message='the build is green'\n  \
    claudemesh tool send_message --json '{\"to\": [\"ana\", \"ben\"], \"message\": \"hello\"}'\n  \
    claudemesh tool send_message --help-arguments\n\n\
    JSON: the tool's result; --list {\"tools\":[{\"name\",\"description\",\"family\",\"command\",\"inputSchema\",\"outputSchema\"}]}"
)]
pub(crate) struct ToolArgs {
    /// List the tools
    #[arg(long, conflicts_with_all = ["name", "arguments"])]
    list: bool,
    /// Print the schemas of the tool's arguments and result
    #[arg(long, requires = "name", conflicts_with = "arguments")]
    help_arguments: bool,
    /// Name of the tool
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// A JSON object, or key=value words
    arguments: Vec<String>,
}

/// Lists tools or calls one.
pub(crate) async fn run(context: Context, arguments: ToolArgs) -> Result<(), CliError> {
    let Some(name) = &arguments.name else {
        return list(context.out);
    };
    let Some(meta) = tool_by_name(name) else {
        return Err(unknown(name));
    };
    if arguments.help_arguments {
        let schemas = schema::tools().into_iter().find(|tool| tool.meta.name == meta.name);
        print(&schemas.map(|tool| describe(&tool)).unwrap_or_default());
        return Ok(());
    }
    let arguments = text::tool_arguments(&arguments.arguments)?;
    let meshes = connect(&context).await?;
    let result = meshes.call_tool(meta.name, arguments).await;
    meshes.close().await;
    print(&result?);
    Ok(())
}

async fn connect(context: &Context) -> Result<Meshes, CliError> {
    let mut meshes = Meshes::new();
    for mesh in context.selected()? {
        let identity = context.config.identity(mesh)?;
        meshes.add(session::connect(builder(&context.config, identity).observer(true)).await?);
    }
    Ok(meshes)
}

/// Results of tools are JSON whether or not `--json` is given.
fn print(value: &Value) {
    Output::new(false, false).line(serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string()));
}

fn unknown(name: &str) -> CliError {
    let names: Vec<&str> = claudemesh_proto::tool::tools().iter().map(|meta| meta.name).collect();
    CliError::new(ErrorCode::NotFound, format!("There is no tool {name}."))
        .next(format!("Tools: {}.", names.join(", ")))
}

fn list(out: Output) -> Result<(), CliError> {
    let tools = schema::tools();
    out.json(&serde_json::json!({ "tools": tools.iter().map(describe).collect::<Vec<_>>() }))?;
    let rows: Vec<_> = tools
        .iter()
        .map(|tool| {
            let text = description(tool);
            let first = text
                .split_once(". ")
                .map_or(text.as_str(), |(first, _)| first)
                .trim_end_matches('.')
                .to_owned();
            vec![styled(Style::Bold, tool.meta.name), cell(first)]
        })
        .collect();
    out.table(&rows);
    Ok(())
}

fn describe(tool: &ToolSchemas) -> Value {
    serde_json::json!({
        "name": tool.meta.name,
        "description": description(tool),
        "family": format!("{:?}", tool.meta.family).to_lowercase(),
        "command": format!("claudemesh {}", tool.meta.command),
        "inputSchema": tool.params,
        "outputSchema": tool.output,
    })
}

fn description(tool: &ToolSchemas) -> String {
    tool.params
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
