//! `context`: what members know at the moment.

use super::Context;
use super::memory::given;
use super::session::Session;
use crate::CliError;
use crate::output::{Output, Style, one_line, printable};
use crate::text::local_time;
use claudemesh_proto::model::Timestamp;
use claudemesh_proto::ops::{GetContext, ListContexts, ShareContext};

/// Shares what you have understood, and shows what peers know. One context is kept per member and topic.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh context share \"Login is rate limited per address\" --topic auth --files src/auth.rs\n  \
    claudemesh context get src/auth.rs\n  claudemesh context list --json\n\n\
    JSON: share {\"id\"}; get {\"contexts\":[{\"peerName\",\"memberId\",\"topic\",\"summary\",\"filesRead\",\"keyFindings\",\"tags\",\"updatedAt\"}],\"partial\"};\n\
    list {\"contexts\":[…],\"more\"}"
)]
pub(crate) struct ContextArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Share what you have understood; it replaces what you shared before on the topic
    #[command(
        after_help = "Examples:\n  claudemesh context share \"The cache is never cleared\"\n  \
        claudemesh context share \"Retries are bounded\" --topic queue --findings \"at most 5\" --tags net --json"
    )]
    Share {
        /// What you learned; several words are joined
        #[arg(required = true)]
        summary: Vec<String>,
        /// What it is about
        #[arg(long)]
        topic: Option<String>,
        /// Files that you read, separated by commas
        #[arg(long, value_delimiter = ',', value_name = "PATHS")]
        files: Vec<String>,
        /// A finding; may be given several times
        #[arg(long, value_name = "TEXT")]
        findings: Vec<String>,
        /// Tags, separated by commas
        #[arg(long, value_delimiter = ',', value_name = "TAGS")]
        tags: Vec<String>,
    },
    /// Search by file, topic, tag or words, newest first
    #[command(
        after_help = "Examples:\n  claudemesh context get src/auth.rs\n  claudemesh context get rate limit --json"
    )]
    Get {
        /// A path, a topic or words
        #[arg(required = true)]
        query: Vec<String>,
    },
    /// Show what every peer knows
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  claudemesh context list\n  claudemesh context list --json"
    )]
    List {},
}

/// Shares or shows contexts.
pub(crate) async fn run(context: Context, arguments: ContextArgs) -> Result<(), CliError> {
    let session = Session::observe(&context).await?;
    let result = act(&session, context.out, arguments.action).await;
    session.close().await;
    result
}

async fn act(session: &Session, out: Output, action: Action) -> Result<(), CliError> {
    match action {
        Action::Share {
            summary,
            topic,
            files,
            findings,
            tags,
        } => {
            let request = ShareContext {
                summary: summary.join(" "),
                topic,
                files_read: given(files),
                key_findings: given(findings),
                tags: given(tags),
            };
            let shared = session.call(request).await?;
            out.json(&shared)?;
            out.note("shared");
        }
        Action::Get { query } => {
            let query = query.join(" ");
            let found = session.call(GetContext { query }).await?;
            out.json(&found)?;
            if found.contexts.is_empty() {
                out.note("Nothing was found.");
            } else if found.partial {
                out.note(out.paint(Style::Warn, "Nothing has all the words. With some of them:"));
            }
            for context in &found.contexts {
                let topic = context.topic.as_deref();
                show(
                    out,
                    &context.peer_name,
                    topic,
                    &context.summary,
                    &context.tags,
                    context.updated_at,
                );
                for file in &context.files_read {
                    out.line(format!("  {}", one_line(file)));
                }
                for finding in &context.key_findings {
                    out.line(format!("  - {}", one_line(finding)));
                }
            }
        }
        Action::List {} => {
            let list = session.call(ListContexts {}).await?;
            out.json(&list)?;
            if list.contexts.is_empty() {
                out.note("Nobody has shared a context. `claudemesh context share <summary>` shares yours.");
            }
            for context in &list.contexts {
                let topic = context.topic.as_deref();
                show(
                    out,
                    &context.peer_name,
                    topic,
                    &context.summary,
                    &context.tags,
                    context.updated_at,
                );
            }
            if list.more {
                out.note("There are older ones: `claudemesh context get <words>` finds them.");
            }
        }
    }
    Ok(())
}

fn show(out: Output, peer: &str, topic: Option<&str>, summary: &str, tags: &[String], at: Timestamp) {
    let topic = topic
        .map(|topic| format!(" on {}", one_line(topic)))
        .unwrap_or_default();
    let tags: String = tags.iter().map(|tag| format!(" #{}", one_line(tag))).collect();
    let facts = out.paint(Style::Dim, format!("{}{tags}", local_time(at)));
    out.line(format!("{}{topic} {facts}", out.paint(Style::Bold, one_line(peer))));
    out.line(printable(summary));
}
