//! `audit`: the mesh's log of what happened.

use super::Context;
use super::session::Session;
use crate::CliError;
use crate::output::{Output, Style, cell, styled};
use crate::text::local_time;
use claudemesh_proto::ErrorCode;
use claudemesh_proto::ops::{AuditQuery, AuditVerify};

/// Reads the mesh's audit log, the newest entry first, or checks its hash chain.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh audit --limit 20\n  claudemesh audit --type message_sent --json\n  \
    claudemesh audit --verify\n\n\
    JSON: {\"entries\":[{\"id\",\"eventType\",\"actor\",\"payload\",\"hash\",\"createdAt\"}],\"total\"};\n\
    with --verify {\"valid\",\"entries\",\"brokenAt\"}. Exit code 8 if the chain is broken."
)]
pub(crate) struct AuditArgs {
    /// Check that no entry was changed or removed
    #[arg(long, conflicts_with_all = ["limit", "kind"])]
    verify: bool,
    /// Most entries to show (1 to 500)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: Option<u32>,
    /// Only entries of this type, for example message_sent
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

/// Reads or checks the audit log.
pub(crate) async fn run(context: Context, arguments: AuditArgs) -> Result<(), CliError> {
    let session = Session::observe(&context).await?;
    let result = if arguments.verify {
        verify(&session, context.out).await
    } else {
        query(&session, context.out, arguments).await
    };
    session.close().await;
    result
}

async fn query(session: &Session, out: Output, arguments: AuditArgs) -> Result<(), CliError> {
    let page = session
        .call(AuditQuery {
            limit: arguments.limit,
            offset: None,
            event_type: arguments.kind,
        })
        .await?;
    out.json(&page)?;
    let rows: Vec<_> = page
        .entries
        .iter()
        .map(|entry| {
            vec![
                styled(Style::Dim, entry.id.to_string()),
                styled(Style::Dim, local_time(entry.created_at)),
                styled(Style::Bold, &entry.event_type),
                cell(&entry.actor),
                styled(Style::Dim, entry.payload.to_string()),
            ]
        })
        .collect();
    out.table(&rows);
    out.note(out.paint(Style::Dim, format!("{} of {} entries", page.entries.len(), page.total)));
    Ok(())
}

async fn verify(session: &Session, out: Output) -> Result<(), CliError> {
    let result = session.call(AuditVerify {}).await?;
    out.json(&result)?;
    if result.valid {
        out.line(out.paint(
            Style::Good,
            format!("The audit log is whole: {} entries.", result.entries),
        ));
        return Ok(());
    }
    let place = result.broken_at.map(|id| format!(" at entry {id}")).unwrap_or_default();
    Err(
        CliError::new(ErrorCode::AuditError, format!("The audit log was changed{place}."))
            .next("Keep a copy of the broker's store and ask its operator what happened."),
    )
}
