//! `profile`: a member's name, label, groups and message mode.

use super::session::Session;
use super::{Context, members};
use crate::CliError;
use crate::output::{Output, Style, cell, styled};
use claudemesh_proto::http::PatchMember;
use claudemesh_proto::model::{Group, GroupName, Member, MessageMode, Role};

/// Shows a member's profile, or changes what is given. Admins may edit others with --member.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh profile\n  claudemesh profile --name Ana --groups backend:lead,docs\n  \
    claudemesh profile --member ben --permission admin --json\n\n\
    JSON: {\"mesh\",\"member\":{\"id\",\"pubkey\",\"displayName\",\"roleTag\",\"groups\",\"messageMode\",\"permission\",\"online\",…}}"
)]
pub(crate) struct ProfileArgs {
    /// Whose profile: name, key or beginning of the key (yours if not given)
    #[arg(long)]
    member: Option<String>,
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// New label, for example backend; empty removes it
    #[arg(long)]
    role_tag: Option<String>,
    /// New default groups: name or name:role, separated by commas; empty removes all
    #[arg(long, value_parser = groups)]
    groups: Option<GroupList>,
    /// How to be told of messages: push shows them, inbox only says that there are some, off is silent
    #[arg(long, value_parser = ["push", "inbox", "off"])]
    message_mode: Option<String>,
    /// Standing in the mesh (admins only)
    #[arg(long, value_parser = ["member", "admin"])]
    permission: Option<String>,
}

#[derive(Clone, Debug)]
struct GroupList(Vec<Group>);

fn groups(text: &str) -> Result<GroupList, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let group = |word: &str| {
        let (name, role) = word
            .split_once(':')
            .map_or((word, None), |(name, role)| (name, Some(role.to_owned())));
        let name = GroupName::new(name);
        if name.as_str().is_empty() {
            Err(format!("{word:?} has no group name"))
        } else {
            Ok(Group { name, role })
        }
    };
    words.map(group).collect::<Result<_, _>>().map(GroupList)
}

impl ProfileArgs {
    fn changes(&self) -> PatchMember {
        PatchMember {
            display_name: self.name.clone(),
            role_tag: self.role_tag.clone(),
            groups: self.groups.as_ref().map(|list| list.0.clone()),
            message_mode: self.message_mode.as_deref().map(|text| match text {
                "inbox" => MessageMode::Inbox,
                "off" => MessageMode::Off,
                _ => MessageMode::Push,
            }),
            permission: self
                .permission
                .as_deref()
                .map(|text| if text == "admin" { Role::Admin } else { Role::Member }),
            permissions: None,
        }
    }
}

/// Shows or edits the profile.
pub(crate) async fn run(context: Context, arguments: ProfileArgs) -> Result<(), CliError> {
    let session = Session::observe(&context).await?;
    let work = async {
        let wanted = arguments.member.as_deref().unwrap_or(&session.mesh.pubkey);
        let member = members::find(&session, wanted).await?;
        let changes = arguments.changes();
        if changes == PatchMember::default() {
            return Ok(member);
        }
        session.patch_member(&member.id, &changes).await
    };
    let result: Result<Member, CliError> = work.await;
    session.close().await;
    show(context.out, &session.mesh.slug, &result?)
}

fn show(out: Output, mesh: &str, member: &Member) -> Result<(), CliError> {
    out.json(&serde_json::json!({ "mesh": mesh, "member": member }))?;
    let mode = match member.message_mode {
        MessageMode::Push => "push",
        MessageMode::Inbox => "inbox",
        MessageMode::Off => "off",
    };
    let groups: Vec<String> = member
        .groups
        .iter()
        .map(|group| {
            group
                .role
                .as_ref()
                .map_or_else(|| format!("@{}", group.name), |role| format!("@{}:{role}", group.name))
        })
        .collect();
    let line = |label: &str, value: &str| {
        vec![
            styled(Style::Dim, label),
            cell(if value.is_empty() { "–" } else { value }),
        ]
    };
    out.table(&[
        line("name", &member.display_name),
        line("role", member.role_tag.as_deref().unwrap_or_default()),
        line("groups", &groups.join(" ")),
        line("messages", mode),
        line(
            "access",
            if member.is_owner {
                "owner"
            } else {
                member.permission.as_str()
            },
        ),
        line("key", member.pubkey.as_str()),
        line("member", member.id.as_str()),
        line("mesh", mesh),
    ]);
    Ok(())
}
