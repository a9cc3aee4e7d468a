//! `peers`: who is in the mesh.

use super::Context;
use super::session::Session;
use crate::CliError;
use crate::output::{Cell, Output, Style, cell, short, styled};
use crate::text::local_time;
use claudemesh_proto::model::{Member, Peer, PeerStatus};
use claudemesh_proto::ops::{ListMembers, ListPeers};
use serde::Serialize;

/// Shows the connected sessions of each joined mesh, or with --all every member, online or not.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh peers\n  claudemesh peers --all\n  claudemesh peers --mesh team --json\n\n\
    JSON: {\"meshes\":[{\"mesh\",\"peers\":[…],\"members\":[…] with --all,\"error\"}]}"
)]
pub(crate) struct PeersArgs {
    /// Show members that are not connected, too
    #[arg(long, short)]
    all: bool,
}

#[derive(Serialize)]
struct MeshReport<'a> {
    mesh: &'a str,
    peers: Vec<Peer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<Member>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Lists peers or members. Fails only if no mesh could be asked.
pub(crate) async fn run(context: Context, arguments: PeersArgs) -> Result<(), CliError> {
    let meshes = context.selected()?;
    let (mut reports, mut failure) = (Vec::new(), None);
    for mesh in meshes {
        match Session::observe_mesh(&context, mesh).await {
            Ok(session) => {
                let report = ask(&session, arguments.all).await;
                session.close().await;
                let (peers, members) = report?;
                reports.push(MeshReport {
                    mesh: &mesh.slug,
                    peers,
                    members,
                    error: None,
                });
            }
            Err(error) => {
                let text = error.to_string();
                reports.push(MeshReport {
                    mesh: &mesh.slug,
                    peers: Vec::new(),
                    members: None,
                    error: Some(text),
                });
                failure = Some(error);
            }
        }
    }
    if let Some(error) = failure.filter(|_| reports.iter().all(|report| report.error.is_some())) {
        return Err(error);
    }
    context.out.json(&serde_json::json!({ "meshes": reports }))?;
    reports.iter().for_each(|report| show(context.out, report));
    Ok(())
}

async fn ask(session: &Session, all: bool) -> Result<(Vec<Peer>, Option<Vec<Member>>), CliError> {
    let peers = session.call(ListPeers {}).await?.peers;
    let members = if all {
        Some(session.call(ListMembers {}).await?.members)
    } else {
        None
    };
    Ok((peers, members))
}

fn show(out: Output, report: &MeshReport<'_>) {
    out.note(out.paint(Style::Bold, format!("{}:", report.mesh)));
    if let Some(error) = &report.error {
        out.line(out.paint(Style::Bad, format!("  {error}")));
    } else if let Some(members) = &report.members {
        out.table(&members.iter().map(member_row).collect::<Vec<_>>());
    } else if report.peers.is_empty() {
        out.line("  nobody is connected; `claudemesh peers --all` shows every member");
    } else {
        out.table(&report.peers.iter().map(peer_row).collect::<Vec<_>>());
    }
}

/// One line about a session.
pub(crate) fn peer_row(peer: &Peer) -> Vec<Cell> {
    let style = match peer.status {
        PeerStatus::Idle => Style::Good,
        PeerStatus::Working | PeerStatus::Dnd => Style::Warn,
    };
    let groups: Vec<String> = peer
        .groups
        .iter()
        .map(|group| {
            group
                .role
                .as_ref()
                .map_or_else(|| format!("@{}", group.name), |role| format!("@{}:{role}", group.name))
        })
        .collect();
    let kind = [&peer.peer_type, &peer.channel, &peer.model]
        .into_iter()
        .flatten()
        .cloned()
        .collect::<Vec<_>>();
    let key = peer.member_pubkey.as_ref().unwrap_or(&peer.pubkey);
    vec![
        cell(" "),
        styled(style, "●"),
        styled(Style::Bold, &peer.display_name),
        styled(style, peer.status.as_str()),
        cell(groups.join(" ")),
        styled(Style::Dim, kind.join(", ")),
        styled(Style::Dim, short(key.as_str())),
        cell(peer.summary.as_deref().unwrap_or_default()),
    ]
}

fn member_row(member: &Member) -> Vec<Cell> {
    let (dot, seen) = match (member.online, member.last_seen_at) {
        (true, _) => (styled(Style::Good, "●"), format!("{} connected", member.session_count)),
        (false, Some(at)) => (styled(Style::Dim, "○"), format!("last seen {}", local_time(at))),
        (false, None) => (styled(Style::Dim, "○"), "never connected".to_owned()),
    };
    let groups: Vec<String> = member.groups.iter().map(|group| format!("@{}", group.name)).collect();
    vec![
        cell(" "),
        dot,
        styled(Style::Bold, &member.display_name),
        cell(if member.is_owner {
            "owner"
        } else {
            member.permission.as_str()
        }),
        cell(member.role_tag.as_deref().unwrap_or_default()),
        cell(groups.join(" ")),
        styled(Style::Dim, short(member.pubkey.as_str())),
        styled(Style::Dim, seen),
        styled(Style::Dim, member.id.as_str()),
    ]
}
