//! `info`: what a mesh holds.

use super::Context;
use super::session::Session;
use crate::CliError;
use crate::output::{Style, cell, styled};
use claudemesh_proto::ops::{MeshInfo, MeshInfoResult};
use serde::Serialize;

/// Shows what a mesh holds: peers, members, groups, state keys and your place in it.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh info\n  claudemesh info --mesh team --json\n\n\
    JSON: {\"slug\",\"meshId\",\"memberId\",\"brokerUrl\",\"displayName\",\"peerCount\",\"stateCount\", and all fields of the tool mesh_info}"
)]
pub(crate) struct InfoArgs {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Overview<'a> {
    mesh_id: &'a str,
    member_id: &'a str,
    broker_url: &'a str,
    display_name: &'a str,
    peer_count: u32,
    state_count: usize,
    #[serde(flatten)]
    info: &'a MeshInfoResult,
}

/// Shows an overview of the mesh.
pub(crate) async fn run(context: Context, _: InfoArgs) -> Result<(), CliError> {
    let session = Session::observe(&context).await?;
    let mut info = session.call(MeshInfo {}).await?;
    session.close().await;
    info.slug = Some(session.mesh.slug.clone());
    let mesh = &session.mesh;
    context.out.json(&Overview {
        mesh_id: &mesh.mesh_id,
        member_id: &mesh.member_id,
        broker_url: &mesh.broker_url,
        display_name: &info.your_name,
        peer_count: info.peers,
        state_count: info.state_keys.len(),
        info: &info,
    })?;
    let line = |label: &str, value: String| vec![styled(Style::Dim, label), cell(value)];
    let list = |items: &[String]| {
        if items.is_empty() {
            "none".to_owned()
        } else {
            items.join(", ")
        }
    };
    let groups: Vec<String> = info
        .your_groups
        .iter()
        .map(|group| format!("@{}", group.name))
        .collect();
    context.out.table(&[
        line("mesh", format!("{} ({})", mesh.name, mesh.slug)),
        line("id", mesh.mesh_id.clone()),
        line("broker", mesh.broker_url.clone()),
        line(
            "you",
            [info.your_name.as_str(), &groups.join(" ")]
                .join(" ")
                .trim_end()
                .to_owned(),
        ),
        line("peers", format!("{} connected, {} members", info.peers, info.members)),
        line("groups", list(&info.groups)),
        line("state", list(&info.state_keys)),
        line(
            "tasks",
            format!(
                "{} open, {} claimed, {} done",
                info.tasks.open, info.tasks.claimed, info.tasks.done
            ),
        ),
        line("streams", list(&info.streams)),
        line("tables", list(&info.tables)),
        line("vectors", list(&info.collections)),
        line("memories", info.memory_count.to_string()),
        line("files", info.file_count.to_string()),
        line("skills", info.skill_count.to_string()),
    ]);
    Ok(())
}
