//! `inbox`: waiting messages.

use super::Context;
use super::session::Session;
use crate::CliError;
use crate::output::{Output, Style, one_line, printable};
use crate::text::local_time;
use claudemesh_client::Message;
use claudemesh_proto::model::Priority;
use claudemesh_proto::ops::ListPeers;
use claudemesh_proto::tools::{MessageKind, ReceivedMessage};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What the senders' receipts say about how a message was shown.
const ADAPTER: &str = "terminal";
/// How often the broker is asked while waiting.
const POLL: Duration = Duration::from_millis(500);

/// Shows waiting messages and tells their senders that they were read. While another session of yours is connected (an
/// agent), the mail is for that session: the command then only looks.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh inbox\n  claudemesh inbox --wait 30\n  claudemesh inbox --follow\n  \
    claudemesh inbox --peek --json\n\n\
    JSON: {\"mesh\",\"peeked\":bool,\"messages\":[{\"messageId\",\"mesh\",\"from\",\"fromPubkey\",\"kind\",\"target\",\"priority\",\"text\",\n\
    \"authenticated\",\"subtype\",\"warnings\",\"sentAt\"}],\"waiting\":{\"now\",\"next\",\"low\"}}; with --follow one message per line"
)]
pub(crate) struct InboxArgs {
    /// Wait up to this many seconds for a message
    #[arg(long, value_name = "SECONDS", conflicts_with = "follow")]
    wait: Option<u64>,
    /// Only look: the messages stay unread
    #[arg(long, conflicts_with = "follow")]
    peek: bool,
    /// Stay connected as a session of yours and show messages as they come
    #[arg(long, short)]
    follow: bool,
}

/// Shows messages.
pub(crate) async fn run(context: Context, arguments: InboxArgs) -> Result<(), CliError> {
    if arguments.follow {
        return follow(&context).await;
    }
    let session = Session::observe(&context).await?;
    let result = once(&session, context.out, &arguments).await;
    session.close().await;
    result
}

async fn once(session: &Session, out: Output, arguments: &InboxArgs) -> Result<(), CliError> {
    let shared = !arguments.peek && another_session(session).await?;
    let peek = arguments.peek || shared;
    let deadline = Instant::now() + Duration::from_secs(arguments.wait.unwrap_or(0));
    let pulled = loop {
        let pulled = session.client.pull(&[], peek).await?;
        if !pulled.messages.is_empty() || Instant::now() >= deadline {
            break pulled;
        }
        sleep(POLL).await;
    };
    if !peek {
        pulled.messages.iter().for_each(|message| message.ack_surfaced(ADAPTER));
    }
    let messages: Vec<&ReceivedMessage> = pulled.messages.iter().map(|message| &**message).collect();
    out.json(&serde_json::json!({
        "mesh": session.mesh.slug, "peeked": peek, "messages": messages, "waiting": pulled.waiting,
    }))?;
    messages.iter().for_each(|message| show(out, message));
    if messages.is_empty() {
        out.line("No messages.");
    }
    if shared {
        out.note(out.paint(
            Style::Dim,
            "Another session of yours is connected and gets these; this was a look only.",
        ));
    }
    if pulled.waiting.total() > 0 && !peek {
        out.note(format!("{} more wait; run the command again.", pulled.waiting.total()));
    }
    if !peek {
        pulled.messages.iter().for_each(Message::ack_read);
    }
    Ok(())
}

/// Whether the member has a session that takes mail.
async fn another_session(session: &Session) -> Result<bool, CliError> {
    let peers = session.call(ListPeers {}).await?.peers;
    let mine = |key: &str| key == session.mesh.pubkey;
    Ok(peers
        .iter()
        .any(|peer| peer.member_pubkey.as_ref().is_some_and(|key| mine(key.as_str()))))
}

async fn follow(context: &Context) -> Result<(), CliError> {
    let session = Session::join_in(context).await?;
    let out = context.out;
    out.note(out.paint(Style::Dim, format!("Connected to {}; Ctrl-C ends.", session.mesh.slug)));
    let work = async {
        for message in session.client.pull(&[Priority::Low], false).await?.messages {
            take(out, &message)?;
        }
        while let Some(message) = session.client.recv().await {
            take(out, &message)?;
        }
        Ok(())
    };
    let result = tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    session.close().await;
    result
}

fn take(out: Output, message: &Message) -> Result<(), CliError> {
    message.ack_surfaced(ADAPTER);
    out.json_line(&**message)?;
    show(out, message);
    message.ack_read();
    Ok(())
}

/// One message, for people.
pub(crate) fn show(out: Output, message: &ReceivedMessage) {
    let target = match (message.kind, &message.target) {
        (MessageKind::Direct, _) | (_, None) => String::new(),
        (_, Some(target)) => format!(" to {}", one_line(target)),
    };
    let urgent = if message.priority == Priority::Now {
        out.paint(Style::Warn, " now")
    } else {
        String::new()
    };
    let proof = match (message.kind, message.authenticated) {
        (MessageKind::Event, _) | (_, true) => String::new(),
        (_, false) => out.paint(Style::Warn, " (sender not proven)"),
    };
    let when = out.paint(Style::Dim, local_time(message.sent_at));
    out.line(format!(
        "{} {when}{target}{urgent}{proof}",
        out.paint(Style::Bold, one_line(&message.from))
    ));
    match &message.text {
        Some(text) => printable(text).lines().for_each(|line| out.line(format!("  {line}"))),
        None => out.line(out.paint(Style::Warn, "  (cannot be read)")),
    }
    message
        .warnings
        .iter()
        .for_each(|warning| out.line(out.paint(Style::Warn, format!("  ! {}", one_line(warning)))));
}
