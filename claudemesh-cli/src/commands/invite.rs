//! `invite`: a link for the next member.

use super::Context;
use super::enrol::{self, Invitation, Terms};
use crate::output::Style;
use crate::{CliError, text};
use claudemesh_proto::model::Role;
use std::time::Duration;

/// Makes an invite link. Whoever has the link can join until it is used up or ends: send it over a private channel. The
/// part after # is a secret that the broker never sees.
#[derive(clap::Args, Debug)]
#[command(
    visible_alias = "share",
    after_help = "Examples:\n  claudemesh invite\n  claudemesh invite --uses 10 --expires 2h\n  \
    claudemesh invite --role admin --json\n\n\
    JSON: {\"mesh\",\"url\",\"code\",\"token\" (for the original's clients),\"role\",\"uses\",\"expiresAt\",\"remark\"}"
)]
pub(crate) struct InviteArgs {
    /// Standing of who joins with it; only the owner may invite admins
    #[arg(long, default_value = "member", value_parser = ["member", "admin"])]
    role: String,
    /// How many may join with it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    uses: u32,
    /// When it ends, from now: 2h, 7d, …; at most a year
    #[arg(long, default_value = "7d", value_parser = text::duration)]
    expires: Duration,
}

/// Makes a link.
pub(crate) async fn run(context: Context, arguments: InviteArgs) -> Result<(), CliError> {
    let mesh = context.config.mesh(context.mesh.as_deref())?;
    let role = if arguments.role == "admin" {
        Role::Admin
    } else {
        Role::Member
    };
    let terms = Terms {
        role,
        uses: arguments.uses,
        expires: arguments.expires,
    };
    let invitation = enrol::invite(&context.config, mesh, &terms).await?;
    show(&context, &invitation)
}

fn show(context: &Context, invitation: &Invitation) -> Result<(), CliError> {
    let out = context.out;
    out.json(invitation)?;
    out.line(&invitation.url);
    let uses = if invitation.uses == 1 {
        "once".to_owned()
    } else {
        format!("{} times", invitation.uses)
    };
    let until = text::local_time(invitation.expires_at);
    out.note(out.paint(
        Style::Dim,
        format!(
            "for {}, as {}; works {uses}, until {until}",
            invitation.mesh,
            invitation.role.as_str()
        ),
    ));
    if let Some(remark) = &invitation.remark {
        out.note(out.paint(Style::Warn, remark));
    }
    out.note(out.paint(
        Style::Dim,
        "Whoever has this link can join: send it over a private channel.",
    ));
    Ok(())
}
