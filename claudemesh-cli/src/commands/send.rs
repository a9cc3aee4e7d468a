//! `send`: an encrypted message.

use super::session::Session;
use super::{Context, ladder};
use crate::output::{Style, one_line};
use crate::{CliError, text};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::model::{DeliveryStage, Priority};
use claudemesh_proto::ops::{MessageStatus, MessageStatusResult};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Sends an end-to-end encrypted message. It is on disk at the broker when the command ends; recipients may be offline.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  claudemesh send ana \"the build is green\"\n  \
    claudemesh send @backend --priority now deploy is blocked\n  claudemesh send ana ping --wait read --json\n\n\
    JSON: {\"to\",\"mesh\",\"messageId\",\"stage\",\"recipients\",\"status\": with --wait, as of `status --message`}.\n\
    With --wait, exit code 4 if the stage is not reached in time, 7 if a recipient refuses.")]
pub(crate) struct SendArgs {
    /// A peer's name, its key or the beginning of it, @group, @all or *
    to: String,
    /// The message; words are joined by spaces
    #[arg(required = true, trailing_var_arg = false)]
    message: Vec<String>,
    /// now interrupts, next waits until the recipient is idle, low waits until it asks
    #[arg(long, default_value = "next", value_parser = ["now", "next", "low"])]
    priority: String,
    /// Wait until every recipient is this far
    #[arg(long, value_name = "STAGE", value_parser = ["delivered", "surfaced", "read"])]
    wait: Option<String>,
    /// Longest wait for --wait
    #[arg(long, default_value = "30s", value_parser = text::duration, requires = "wait")]
    timeout: Duration,
    /// How long the message may wait for a recipient, for example 2h (7 days if not given)
    #[arg(long, value_parser = text::duration)]
    ttl: Option<Duration>,
}

/// Sends the message and, if asked to, waits for its recipients.
pub(crate) async fn run(context: Context, arguments: SendArgs) -> Result<(), CliError> {
    let message = arguments.message.join(" ");
    if message.trim().is_empty() {
        return Err(CliError::usage(
            "The message is empty.",
            "Write the message after the recipient.",
        ));
    }
    let priority = Priority::ALL
        .into_iter()
        .find(|one| one.as_str() == arguments.priority)
        .unwrap_or_default();
    let wanted = arguments.wait.as_deref().map(stage);
    let session = Session::observe(&context).await?;
    let work = async {
        let sent = session.send(&arguments.to, &message, priority, arguments.ttl).await?;
        let status = match wanted {
            Some(stage) => Some(wait(&session, &sent.message_id, stage, arguments.timeout).await?),
            None => None,
        };
        Ok::<_, CliError>((sent, status))
    };
    let result = work.await;
    session.close().await;
    let (sent, status) = result?;
    let out = context.out;
    out.json(&serde_json::json!({
        "to": arguments.to, "mesh": session.mesh.slug, "messageId": sent.message_id, "stage": DeliveryStage::Accepted,
        "recipients": sent.recipients, "status": status,
    }))?;
    let count = if sent.recipients == 1 {
        String::new()
    } else {
        format!(" ({} members)", sent.recipients)
    };
    let accepted = out.paint(Style::Good, "accepted");
    out.line(format!(
        "{accepted} for {}{count}, id {}",
        one_line(&arguments.to),
        sent.message_id
    ));
    if let Some(status) = &status {
        if !out.json {
            ladder::show(out, status)?;
        }
        return verdict(status, wanted);
    }
    out.note(out.paint(
        Style::Dim,
        format!(
            "`claudemesh status --message {}` tells how far it has come",
            sent.message_id
        ),
    ));
    Ok(())
}

fn stage(text: &str) -> DeliveryStage {
    match text {
        "read" => DeliveryStage::Read,
        "surfaced" => DeliveryStage::Surfaced,
        _ => DeliveryStage::Delivered,
    }
}

fn rank(stage: DeliveryStage) -> u8 {
    match stage {
        DeliveryStage::Accepted => 0,
        DeliveryStage::Delivered => 1,
        DeliveryStage::Surfaced => 2,
        DeliveryStage::Read => 3,
        DeliveryStage::Expired | DeliveryStage::Refused | DeliveryStage::Revoked => 4,
    }
}

/// Asks until every recipient has reached the stage or an end, or the time is up.
async fn wait(
    session: &Session,
    id: &claudemesh_proto::model::MessageId,
    stage: DeliveryStage,
    timeout: Duration,
) -> Result<MessageStatusResult, CliError> {
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(50);
    loop {
        let status = session.call(MessageStatus { message_id: id.clone() }).await?;
        let reached = |at: Option<DeliveryStage>| at.is_some_and(|at| rank(at) >= rank(stage));
        if status.recipients.iter().all(|recipient| reached(recipient.stage)) || Instant::now() >= deadline {
            return Ok(status);
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

/// Fails if somebody did not get it, or not as far as was asked for.
fn verdict(status: &MessageStatusResult, wanted: Option<DeliveryStage>) -> Result<(), CliError> {
    let Some(wanted) = wanted else { return Ok(()) };
    for recipient in &status.recipients {
        let at = recipient.stage.unwrap_or(DeliveryStage::Accepted);
        let name = one_line(&recipient.name);
        if rank(at) > rank(DeliveryStage::Read) {
            let reason = recipient
                .reason
                .as_deref()
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            return Err(CliError::new(
                ErrorCode::Refused,
                format!("{name} does not get it: {}{reason}.", at.as_str()),
            ));
        }
        if rank(at) < rank(wanted) {
            return Err(CliError::new(
                ErrorCode::Timeout,
                format!("{name} has it as {}, not yet {}.", at.as_str(), wanted.as_str()),
            )
            .next(format!(
                "It stays on its way; ask again with `claudemesh status --message {}`.",
                status.message_id
            )));
        }
    }
    Ok(())
}
