//! `state`: the mesh's shared keys and values.

use super::Context;
use super::session::Session;
use crate::CliError;
use crate::output::{Output, Style, cell, printable, styled};
use crate::text::{json_or_text, local_time, show_value};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::model::Timestamp;
use claudemesh_proto::ops::{DeleteState, GetState, ListState, SetState};

/// Reads and changes the mesh's shared state: keys with JSON values that every member sees.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh state set sprint 42\n  claudemesh state get sprint\n  \
    claudemesh state list --json\n\n\
    JSON: get {\"key\",\"value\",\"updatedBy\",\"updatedAt\",\"version\",\"exists\"}; set {\"key\",\"version\",\"updatedAt\"};\n\
    list {\"entries\":[…]}; delete {\"key\",\"existed\"}"
)]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Show a key's value. Exit code 5 if there is no such key
    #[command(after_help = "Examples:\n  claudemesh state get sprint\n  claudemesh state get sprint --json")]
    Get {
        /// Name of the key
        key: String,
    },
    /// Set a key. The value is JSON if it reads as JSON, else text
    #[command(after_help = "Examples:\n  claudemesh state set sprint 42\n  \
        claudemesh state set owner ana\n  claudemesh state set ports '[80, 443]'")]
    Set {
        /// Name of the key
        key: String,
        /// The value
        value: String,
    },
    /// List every key
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  claudemesh state list\n  claudemesh state list --json"
    )]
    List {},
    /// Remove a key
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  claudemesh state delete sprint\n  claudemesh state rm sprint --json"
    )]
    Delete {
        /// Name of the key
        key: String,
    },
}

/// Reads or changes the shared state.
pub(crate) async fn run(context: Context, arguments: StateArgs) -> Result<(), CliError> {
    let session = Session::observe(&context).await?;
    let result = act(&session, context.out, arguments.action).await;
    session.close().await;
    result
}

async fn act(session: &Session, out: Output, action: Action) -> Result<(), CliError> {
    match action {
        Action::Get { key } => {
            let result = session.call(GetState { key }).await?;
            if !result.exists {
                return Err(CliError::new(
                    ErrorCode::NotFound,
                    format!("There is no key {} in this mesh.", result.key),
                )
                .next("`claudemesh state list` shows the keys that exist."));
            }
            out.json(&result)?;
            out.line(printable(&show_value(&result.value)));
            let when = result
                .updated_at
                .parse::<Timestamp>()
                .map(local_time)
                .unwrap_or_default();
            out.note(out.paint(Style::Dim, format!("set by {} {when}", printable(&result.updated_by))));
        }
        Action::Set { key, value } => {
            let result = session
                .call(SetState {
                    key,
                    value: json_or_text(&value),
                })
                .await?;
            out.json(&result)?;
            out.note(format!(
                "{} is set (version {})",
                printable(&result.key),
                result.version
            ));
        }
        Action::List {} => {
            let result = session.call(ListState {}).await?;
            out.json(&result)?;
            let rows: Vec<_> = result
                .entries
                .iter()
                .map(|entry| {
                    let author = format!("{} {}", entry.updated_by, local_time(entry.updated_at));
                    vec![
                        styled(Style::Bold, &entry.key),
                        cell(show_value(&entry.value)),
                        styled(Style::Dim, author),
                    ]
                })
                .collect();
            out.table(&rows);
            if rows.is_empty() {
                out.note("The shared state is empty. `claudemesh state set <key> <value>` sets a key.");
            }
        }
        Action::Delete { key } => {
            let result = session.call(DeleteState { key }).await?;
            if !result.existed {
                return Err(CliError::new(
                    ErrorCode::NotFound,
                    format!("There is no key {} in this mesh.", result.key),
                )
                .next("`claudemesh state list` shows the keys that exist."));
            }
            out.json(&result)?;
            out.note(format!("{} is removed", printable(&result.key)));
        }
    }
    Ok(())
}
