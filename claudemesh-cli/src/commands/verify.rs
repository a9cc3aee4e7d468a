//! `verify`: safety numbers.

use super::session::Session;
use super::{Context, enrol, members};
use crate::CliError;
use crate::output::{Style, cell, printable, short, styled};
use claudemesh_crypto::{PublicKey, safety_number};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::model::{EpochHead, Member};
use claudemesh_proto::ops::ListMembers;
use serde::Serialize;

/// Shows safety numbers: thirty digits from your member key and a peer's. Compare them by voice; if they are the same on
/// both sides, nobody sits in between. The group head is compared in the same way: it is the same for all members.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  claudemesh verify ana\n  claudemesh verify --json\n\n\
    JSON: {\"mesh\",\"pubkey\",\"groupHead\",\"peers\":[{\"peer\",\"pubkey\",\"safetyNumber\"}]}")]
pub(crate) struct VerifyArgs {
    /// Name, key or beginning of the key of a member; all if absent
    peer: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Number<'a> {
    peer: &'a str,
    pubkey: &'a str,
    safety_number: String,
}

/// Shows the safety numbers.
pub(crate) async fn run(context: Context, arguments: VerifyArgs) -> Result<(), CliError> {
    let session = Session::observe(&context).await?;
    let work = async {
        let members = session.call(ListMembers {}).await?.members;
        let members = match &arguments.peer {
            Some(wanted) => vec![members::pick(members, wanted)?],
            None => members
                .into_iter()
                .filter(|member| member.pubkey.as_str() != session.mesh.pubkey)
                .collect(),
        };
        // The head that this device has checked, not the one that the broker tells.
        enrol::keyed(&session.client).await;
        Ok::<_, CliError>((members, session.client.secure().wire_head()))
    };
    let result = work.await;
    session.close().await;
    let (members, head) = result?;
    let mine = key(&session.mesh.pubkey)?;
    let numbers = members
        .iter()
        .map(|member| number(&mine, member))
        .collect::<Result<Vec<_>, _>>()?;
    let out = context.out;
    out.json(&serde_json::json!({
        "mesh": session.mesh.slug, "pubkey": session.mesh.pubkey, "groupHead": head, "peers": numbers,
    }))?;
    let rows: Vec<_> = numbers
        .iter()
        .map(|row| {
            vec![
                styled(Style::Bold, row.peer),
                styled(Style::Dim, short(row.pubkey)),
                cell(&row.safety_number),
            ]
        })
        .collect();
    out.table(&rows);
    if rows.is_empty() {
        out.line("There is no other member yet.");
    }
    if let Some(head) = &head {
        out.line(describe(head));
    }
    out.note(out.paint(
        Style::Dim,
        "Read the digits to each other over another channel: they must be the same on both sides.",
    ));
    Ok(())
}

fn number<'a>(mine: &PublicKey, member: &'a Member) -> Result<Number<'a>, CliError> {
    let theirs = key(member.pubkey.as_str())?;
    Ok(Number {
        peer: &member.display_name,
        pubkey: member.pubkey.as_str(),
        safety_number: safety_number(mine, &theirs),
    })
}

fn key(text: &str) -> Result<PublicKey, CliError> {
    text.parse()
        .map_err(|error| CliError::new(ErrorCode::Malformed, format!("{} is no key: {error}", printable(text))))
}

fn describe(head: &EpochHead) -> String {
    let hash = head.hash.as_str();
    format!(
        "group head: generation {}, epoch {}, {}",
        head.generation,
        head.epoch,
        hash.get(..16).unwrap_or(hash)
    )
}
