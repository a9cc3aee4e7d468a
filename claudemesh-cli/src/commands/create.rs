//! `create`: a new mesh.

use super::Context;
use super::enrol::{self, Enrolled};
use crate::CliError;
use crate::output::{Style, printable};
use claudemesh_crypto::group::HistoryPolicy;

/// Creates a mesh on a broker. Its owner key is made here and stays on this machine: back up the `keys` directory.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  claudemesh create \"Team One\"\n  \
    claudemesh create team --broker wss://mesh.example.org/ws --json\n  \
    claudemesh create board --history since-join\n\n\
    JSON: {\"slug\",\"name\",\"meshId\",\"memberId\",\"pubkey\",\"brokerUrl\"}")]
pub(crate) struct CreateArgs {
    /// Name of the mesh
    name: String,
    /// WebSocket address of the broker (CLAUDEMESH_BROKER_URL, else the one on this machine)
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Your name in the mesh
    #[arg(long = "name", value_name = "NAME")]
    display_name: Option<String>,
    /// Whether later joiners may read earlier messages of the mesh's groups; cannot be changed afterwards
    #[arg(long, default_value = "all", value_parser = ["all", "since-join"])]
    history: String,
}

/// Creates a mesh.
pub(crate) async fn run(mut context: Context, arguments: CreateArgs) -> Result<(), CliError> {
    let broker = arguments.broker.unwrap_or_else(crate::config::default_broker);
    let name = enrol::person(&context.config, arguments.display_name);
    let history = if arguments.history == "since-join" {
        HistoryPolicy::SinceJoin
    } else {
        HistoryPolicy::All
    };
    let enrolled = enrol::create(&mut context.config, &broker, &arguments.name, &name, history).await?;
    show(&context, &enrolled)
}

fn show(context: &Context, enrolled: &Enrolled) -> Result<(), CliError> {
    let out = context.out;
    out.json(enrolled)?;
    let slug = out.paint(Style::Bold, &enrolled.slug);
    out.line(format!(
        "Created {} ({slug}) on {}.",
        printable(&enrolled.name),
        enrolled.broker_url
    ));
    if let Some(remark) = &enrolled.remark {
        out.note(out.paint(Style::Warn, remark));
    }
    out.note(format!(
        "  → `claudemesh invite --mesh {}` makes a link for the next member.",
        enrolled.slug
    ));
    Ok(())
}
