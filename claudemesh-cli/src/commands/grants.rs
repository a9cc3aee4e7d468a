//! `grant`, `revoke`, `block`, `grants`: what you let other members do.

use super::session::Session;
use super::{Context, members};
use crate::CliError;
use crate::output::{Output, Style, cell, short, styled};
use claudemesh_proto::model::{Capability, KeyHex};
use claudemesh_proto::ops::{GetGrants, Grants, ListMembers, SetGrants};
use std::collections::BTreeMap;

/// Changes what one member may do to you. Works by member key: the member need not be connected, and cannot shed it by
/// connecting again.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Capabilities: read, dm, broadcast, state-read, state-write, file-read, all.\n\
    Who has no entry may read, dm, broadcast and state-read.\n\n\
    Examples:\n  claudemesh grant ana file-read\n  claudemesh revoke ana dm broadcast\n  claudemesh grant 3f9c1b20 all --json\n\n\
    JSON: {\"mesh\",\"grants\":{member key:[capabilities]},\"names\":{member key:name}}"
)]
pub(crate) struct GrantArgs {
    /// Name, key or beginning of the key of the member
    member: String,
    /// Capabilities, or `all`
    #[arg(required = true, value_parser = capabilities)]
    capabilities: Vec<CapabilityList>,
}

/// Refuses everything from a member: messages, and looking at you or your state.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh block ana\n  claudemesh grant ana dm      # take it back in part\n  \
    claudemesh block ana --reset # back to the defaults\n\nJSON: as `grants`"
)]
pub(crate) struct BlockArgs {
    /// Name, key or beginning of the key of the member
    member: String,
    /// Drop the entry: the member may do again what everybody may
    #[arg(long)]
    reset: bool,
}

/// Shows what you let other members do. Who is not listed may read, dm, broadcast and state-read.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  claudemesh grants\n  claudemesh grants --json\n\n\
    JSON: {\"mesh\",\"grants\":{member key:[capabilities]},\"names\":{member key:name}}")]
pub(crate) struct GrantsArgs {}

/// One word of the command line: a capability, or all of them.
#[derive(Clone, Debug)]
struct CapabilityList(Vec<Capability>);

fn capabilities(word: &str) -> Result<CapabilityList, String> {
    if word == "all" {
        return Ok(CapabilityList(Capability::ALL.to_vec()));
    }
    let found = Capability::ALL
        .into_iter()
        .find(|capability| capability.as_str() == word);
    let names = || Capability::ALL.map(Capability::as_str).join(", ");
    found
        .map(|capability| CapabilityList(vec![capability]))
        .ok_or_else(|| format!("use one of {}, all", names()))
}

/// Adds capabilities to a member's entry.
pub(crate) async fn grant(context: Context, arguments: GrantArgs) -> Result<(), CliError> {
    let added = flat(&arguments.capabilities);
    change(&context, &arguments.member, |current| {
        Some(
            Capability::ALL
                .into_iter()
                .filter(|one| current.contains(one) || added.contains(one))
                .collect(),
        )
    })
    .await
}

/// Takes capabilities from a member's entry.
pub(crate) async fn revoke(context: Context, arguments: GrantArgs) -> Result<(), CliError> {
    let taken = flat(&arguments.capabilities);
    change(&context, &arguments.member, |current| {
        Some(current.iter().copied().filter(|one| !taken.contains(one)).collect())
    })
    .await
}

/// Empties a member's entry, or drops it.
pub(crate) async fn block(context: Context, arguments: BlockArgs) -> Result<(), CliError> {
    change(&context, &arguments.member, |_| (!arguments.reset).then(Vec::new)).await
}

/// Shows all entries.
pub(crate) async fn list(context: Context, _: GrantsArgs) -> Result<(), CliError> {
    let session = Session::observe(&context).await?;
    let result = read(&session).await;
    session.close().await;
    let (grants, names) = result?;
    show(context.out, &session.mesh.slug, &grants, &names)
}

async fn read(session: &Session) -> Result<(Grants, BTreeMap<KeyHex, String>), CliError> {
    let grants = session.call(GetGrants {}).await?;
    let members = session.call(ListMembers {}).await?.members;
    Ok((
        grants,
        members
            .into_iter()
            .map(|member| (member.pubkey, member.display_name))
            .collect(),
    ))
}

fn flat(lists: &[CapabilityList]) -> Vec<Capability> {
    lists.iter().flat_map(|list| list.0.iter().copied()).collect()
}

/// Replaces a member's entry with what `edit` makes of the current one (the defaults if there is none).
async fn change(
    context: &Context,
    member: &str,
    edit: impl FnOnce(&[Capability]) -> Option<Vec<Capability>>,
) -> Result<(), CliError> {
    let session = Session::observe(context).await?;
    let work = async {
        let member = members::find(&session, member).await?;
        if member.pubkey.as_str() == session.mesh.pubkey {
            return Err(CliError::usage(
                "This is you.",
                "Name another member; `claudemesh peers --all` lists them.",
            ));
        }
        let current = session.call(GetGrants {}).await?.grants;
        let entry = current
            .get(&member.pubkey)
            .map_or(&Capability::DEFAULT[..], Vec::as_slice);
        let grants = BTreeMap::from([(member.pubkey.clone(), edit(entry))]);
        session.call(SetGrants { grants }).await?;
        read(&session).await
    };
    let result = work.await;
    session.close().await;
    let (grants, names) = result?;
    show(context.out, &session.mesh.slug, &grants, &names)
}

fn show(out: Output, mesh: &str, grants: &Grants, names: &BTreeMap<KeyHex, String>) -> Result<(), CliError> {
    let names: BTreeMap<&KeyHex, &str> = grants
        .grants
        .keys()
        .map(|key| (key, names.get(key).map_or("(no longer a member)", String::as_str)))
        .collect();
    out.json(&serde_json::json!({ "mesh": mesh, "grants": grants.grants, "names": names }))?;
    let rows: Vec<_> = grants
        .grants
        .iter()
        .map(|(key, capabilities)| {
            let name = names.get(key).copied().unwrap_or_default();
            let listed = capabilities
                .iter()
                .map(|one| one.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            let listed = if listed.is_empty() {
                styled(Style::Bad, "blocked")
            } else {
                cell(listed)
            };
            vec![
                styled(Style::Bold, name),
                styled(Style::Dim, short(key.as_str())),
                listed,
            ]
        })
        .collect();
    out.table(&rows);
    out.note(out.paint(Style::Dim, "everybody else: read, dm, broadcast, state-read"));
    Ok(())
}
