//! `leave`: forget a mesh.

use super::session::Session;
use super::{Context, confirm, members};
use crate::CliError;

/// Forgets a mesh on this machine and deletes its keys. The broker keeps the membership, so that another machine with the
/// same key goes on; --remove-me gives it up.
#[derive(clap::Args, Debug)]
#[command(
    visible_alias = "rm",
    after_help = "Examples:\n  claudemesh leave team\n  claudemesh leave team --yes --remove-me --json\n\n\
    JSON: {\"left\",\"removedFromBroker\",\"remaining\":[slugs]}"
)]
pub(crate) struct LeaveArgs {
    /// Slug of the mesh; `claudemesh list` shows them
    slug: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Also give up the membership at the broker
    #[arg(long)]
    remove_me: bool,
}

/// Forgets a mesh.
pub(crate) async fn run(mut context: Context, arguments: LeaveArgs) -> Result<(), CliError> {
    let mesh = context.config.mesh(Some(&arguments.slug))?.clone();
    let owner = if context.config.holds_owner_key(&mesh) {
        " You are its owner, and the owner key is here only."
    } else {
        ""
    };
    confirm::ask(
        arguments.yes,
        &format!("Forget {} and delete its keys from this machine?{owner}", mesh.slug),
    )?;
    if arguments.remove_me {
        let session = Session::observe_mesh(&context, &mesh).await?;
        let work = async {
            session
                .remove_member(&members::find(&session, &mesh.pubkey).await?)
                .await
        };
        let result = work.await;
        session.close().await;
        result?;
    }
    context.config.remove(&mesh.slug)?;
    let remaining: Vec<&str> = context.config.meshes().iter().map(|mesh| mesh.slug.as_str()).collect();
    context.out.json(&serde_json::json!({
        "left": mesh.slug, "removedFromBroker": arguments.remove_me, "remaining": remaining,
    }))?;
    let left = if remaining.is_empty() {
        "none".to_owned()
    } else {
        remaining.join(", ")
    };
    context
        .out
        .note(format!("{} is forgotten. Joined meshes: {left}.", mesh.slug));
    Ok(())
}
