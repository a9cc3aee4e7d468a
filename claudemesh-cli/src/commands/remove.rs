//! `remove`: take a member out of the mesh.

use super::session::Session;
use super::{Context, confirm, members};
use crate::CliError;
use crate::output::printable;

/// Removes a member from the mesh, ends its sessions and changes the mesh's keys, so that it cannot read what is sent
/// later. For admins; only the owner may remove an admin.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh remove ben\n  claudemesh remove 3f9c1b20 --yes --json\n\n\
    JSON: {\"mesh\",\"memberId\",\"name\"}"
)]
pub(crate) struct RemoveArgs {
    /// Name, key or beginning of the key of the member
    member: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Removes a member.
pub(crate) async fn run(context: Context, arguments: RemoveArgs) -> Result<(), CliError> {
    let session = Session::observe(&context).await?;
    let work = async {
        let member = members::find(&session, &arguments.member).await?;
        let name = printable(&member.display_name);
        confirm::ask(
            arguments.yes,
            &format!("Remove {name} from {} for good?", session.mesh.slug),
        )?;
        session.remove_member(&member).await?;
        Ok(member)
    };
    let result: Result<_, CliError> = work.await;
    session.close().await;
    let member = result?;
    let out = context.out;
    out.json(&serde_json::json!({
        "mesh": session.mesh.slug, "memberId": member.id, "name": member.display_name,
    }))?;
    out.note(format!(
        "{} is no longer a member of {}.",
        printable(&member.display_name),
        session.mesh.slug
    ));
    Ok(())
}
