//! `join`: become a member.

use super::Context;
use super::enrol;
use crate::CliError;
use crate::output::{Style, printable, short};

/// Joins a mesh with an invite: a link, a short code for the broker on this machine (or CLAUDEMESH_BROKER_URL), or a token
/// of the original. The key is made here and never leaves this machine.
#[derive(clap::Args, Debug)]
#[command(
    visible_alias = "add",
    after_help = "Examples:\n  claudemesh join 'https://mesh.example.org/i/7Kp2xQ#…'\n  \
    claudemesh join 7Kp2xQ --name ana\n  claudemesh join ic://join/eyJ2Ijox… --json\n\n\
    JSON: {\"slug\",\"name\",\"meshId\",\"memberId\",\"pubkey\",\"brokerUrl\"}"
)]
pub(crate) struct JoinArgs {
    /// Link, code or token
    invite: String,
    /// Your name in the mesh (CLAUDEMESH_DISPLAY_NAME, else your login name)
    #[arg(long)]
    name: Option<String>,
}

/// Joins a mesh.
pub(crate) async fn run(mut context: Context, arguments: JoinArgs) -> Result<(), CliError> {
    let name = enrol::person(&context.config, arguments.name);
    let joined = enrol::join(&mut context.config, &arguments.invite, &name).await?;
    let out = context.out;
    out.json(&joined)?;
    let slug = out.paint(Style::Bold, &joined.slug);
    out.line(format!(
        "Joined {} ({slug}) as {}, key {}.",
        printable(&joined.name),
        printable(&name),
        short(&joined.pubkey)
    ));
    if let Some(remark) = &joined.remark {
        out.note(out.paint(Style::Warn, remark));
    }
    out.note("  → `claudemesh peers` shows who is there; `claudemesh send <name> <words>` writes to them.");
    Ok(())
}
