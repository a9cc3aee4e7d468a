//! `remember`, `recall`, `forget`: what the mesh remembers.

use super::Context;
use super::session::Session;
use crate::CliError;
use crate::output::{Style, one_line, printable};
use crate::text::local_time;
use claudemesh_proto::ops::{Recall, Remember};
use claudemesh_proto::tools::ForgetTool;
use serde_json::json;

/// Stores a text in the memory of the mesh: every session finds it with recall until somebody forgets it. At most 32 KiB.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh remember \"Deploys go out from main at 10:00\"\n  \
    claudemesh remember \"The API key rotates monthly\" --tags ops,keys --mesh team\n\n\
    JSON: {\"id\",\"content\",\"tags\"}"
)]
pub(crate) struct RememberArgs {
    /// The text; several words are joined
    #[arg(required = true)]
    content: Vec<String>,
    /// Tags, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "TAGS")]
    tags: Vec<String>,
}

/// Searches what the mesh remembers, best match first. Words count in any form; "quoted words" must stand side by side.
/// Without words: the newest.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh recall deploy schedule\n  claudemesh recall '\"api key\"' --tags ops\n  \
    claudemesh recall --limit 5 --json\n\n\
    JSON: [{\"id\",\"content\",\"snippet\",\"tags\",\"rememberedBy\",\"rememberedById\",\"rememberedAt\"}]"
)]
pub(crate) struct RecallArgs {
    /// Words to look for
    query: Vec<String>,
    /// Only memories with all of these tags, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "TAGS")]
    tags: Vec<String>,
    /// Most results
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: Option<u32>,
    /// Print whole texts, not only the part that matches
    #[arg(long)]
    full: bool,
}

/// Removes a memory of yours; the owner and admins of the mesh may remove any.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh forget 3fJk…\n  claudemesh forget 3fJk… --json\n\n\
    JSON: {\"id\",\"forgotten\":bool}; false if it had been forgotten before"
)]
pub(crate) struct ForgetArgs {
    /// Id of the memory, as recall prints it
    id: String,
}

/// Stores a memory.
pub(crate) async fn remember(context: Context, arguments: RememberArgs) -> Result<(), CliError> {
    let request = Remember {
        content: arguments.content.join(" "),
        tags: given(arguments.tags),
    };
    let session = Session::observe(&context).await?;
    let stored = session.call(request.clone()).await;
    session.close().await;
    let id = stored?.id;
    context
        .out
        .json(&json!({ "id": id, "content": request.content, "tags": request.tags }))?;
    context.out.line(format!("remembered {id}"));
    Ok(())
}

/// Searches memories.
pub(crate) async fn recall(context: Context, arguments: RecallArgs) -> Result<(), CliError> {
    let request = Recall {
        query: arguments.query.join(" "),
        tags: given(arguments.tags),
        limit: arguments.limit,
    };
    let session = Session::observe(&context).await?;
    let found = session.call(request).await;
    session.close().await;
    let (found, out) = (found?, context.out);
    let memories: &[_] = &found.memories;
    out.json(memories)?;
    if memories.is_empty() {
        out.note("Nothing was found.");
    } else if found.partial {
        out.note(out.paint(Style::Warn, "Nothing has all the words. With some of them:"));
    }
    for memory in memories {
        let text = if arguments.full {
            printable(&memory.content)
        } else {
            one_line(&memory.snippet)
        };
        out.line(text);
        let tags: Vec<_> = memory.tags.iter().map(|tag| format!("#{}", one_line(tag))).collect();
        let facts = format!(
            "  {} {} {} {}",
            memory.id,
            one_line(&memory.remembered_by),
            local_time(memory.remembered_at),
            tags.join(" ")
        );
        out.line(out.paint(Style::Dim, facts.trim_end()));
    }
    if found.more {
        out.note("There are more: add words, or --limit.");
    }
    Ok(())
}

/// Removes a memory.
pub(crate) async fn forget(context: Context, arguments: ForgetArgs) -> Result<(), CliError> {
    let session = Session::observe(&context).await?;
    let result = session.client.forget_tool(ForgetTool { id: arguments.id }).await;
    session.close().await;
    let result = result?;
    context.out.json(&result)?;
    context.out.note(if result.forgotten {
        "forgotten"
    } else {
        "it had been forgotten before"
    });
    Ok(())
}

/// Options that take several values keep empty ones.
pub(super) fn given(values: Vec<String>) -> Vec<String> {
    let values = values.into_iter().map(|value| value.trim().to_owned());
    values.filter(|value| !value.is_empty()).collect()
}
