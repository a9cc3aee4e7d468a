//! How far a message has come, as people see it.

use crate::CliError;
use crate::output::{Cell, Output, Style, cell, one_line, short, styled};
use crate::text::local_time;
use claudemesh_proto::model::{DeliveryStage, RecipientStatus, Timestamp};
use claudemesh_proto::ops::MessageStatusResult;

/// Colour of a stage.
pub(crate) fn style(stage: DeliveryStage) -> Style {
    match stage {
        DeliveryStage::Accepted => Style::Warn,
        DeliveryStage::Delivered | DeliveryStage::Surfaced | DeliveryStage::Read => Style::Good,
        DeliveryStage::Expired | DeliveryStage::Refused | DeliveryStage::Revoked => Style::Bad,
    }
}

/// Shows the result of `message_status`.
pub(crate) fn show(out: Output, status: &MessageStatusResult) -> Result<(), CliError> {
    out.json(status)?;
    let accepted = status.accepted_at.map(local_time).unwrap_or_default();
    let target = one_line(short(&status.target_spec));
    out.line(format!(
        "message {} to {target}, accepted {accepted}",
        status.message_id
    ));
    let rows: Vec<_> = status.recipients.iter().map(row).collect();
    out.table(&rows);
    Ok(())
}

fn row(recipient: &RecipientStatus) -> Vec<Cell> {
    let reached = |name: &str, at: Option<Timestamp>| match at {
        Some(at) => styled(Style::Good, format!("{name} {}", local_time(at))),
        None => styled(Style::Dim, format!("{name} –")),
    };
    let note = [
        recipient.adapter.as_ref().map(|adapter| format!("by {adapter}")),
        recipient.reason.clone(),
    ];
    vec![
        styled(Style::Bold, &recipient.name),
        recipient
            .stage
            .map_or_else(|| cell(&recipient.status), |stage| styled(style(stage), stage.as_str())),
        reached("delivered", recipient.delivered_at),
        reached("surfaced", recipient.surfaced_at),
        reached("read", recipient.read_at),
        styled(Style::Dim, note.into_iter().flatten().collect::<Vec<_>>().join(", ")),
    ]
}
