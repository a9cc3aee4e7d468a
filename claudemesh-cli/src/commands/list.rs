//! `list`: the meshes of this machine.

use super::Context;
use crate::CliError;
use crate::output::{Style, cell, short, styled};
use serde::Serialize;

/// Lists the meshes that this machine has joined. Reads the configuration only; `status` asks the brokers.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  claudemesh list\n  claudemesh list --json\n\n\
    JSON: {\"config\": path, \"meshes\": [{\"slug\", \"name\", \"meshId\", \"memberId\", \"pubkey\", \"brokerUrl\", \"joinedAt\", \"owner\"}]}")]
pub(crate) struct ListArgs {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    slug: &'a str,
    name: &'a str,
    mesh_id: &'a str,
    member_id: &'a str,
    pubkey: &'a str,
    broker_url: &'a str,
    joined_at: &'a str,
    owner: bool,
}

/// Lists the joined meshes.
pub(crate) async fn run(context: Context, _: ListArgs) -> Result<(), CliError> {
    let Context { config, out, .. } = context;
    let rows: Vec<Row<'_>> = config
        .meshes()
        .iter()
        .map(|mesh| Row {
            slug: &mesh.slug,
            name: &mesh.name,
            mesh_id: &mesh.mesh_id,
            member_id: &mesh.member_id,
            pubkey: &mesh.pubkey,
            broker_url: &mesh.broker_url,
            joined_at: &mesh.joined_at,
            owner: config.holds_owner_key(mesh),
        })
        .collect();
    out.json(&serde_json::json!({ "config": config.path(), "meshes": rows }))?;
    if rows.is_empty() {
        out.line("You have not joined a mesh yet.");
        out.note("  → `claudemesh up` starts one here; `claudemesh join <link>` joins one.");
        return Ok(());
    }
    let table: Vec<_> = rows
        .iter()
        .map(|row| {
            vec![
                styled(Style::Bold, row.slug),
                cell(row.name),
                cell(if row.owner { "owner" } else { "member" }),
                cell(short(row.pubkey)),
                cell(row.broker_url),
                styled(Style::Dim, row.joined_at.get(..10).unwrap_or(row.joined_at)),
            ]
        })
        .collect();
    out.table(&table);
    out.note(out.paint(Style::Dim, format!("config: {}", config.path().display())));
    Ok(())
}
