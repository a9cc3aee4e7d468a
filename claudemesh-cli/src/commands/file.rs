//! `file`: shared files, and files of peers.

use super::Context;
use super::session::Session;
use crate::CliError;
use crate::output::{Output, Style, cell, printable, styled};
use crate::text::local_time;
use claudemesh_client::proto::tools::{
    DeleteFileTool, FetchFile, FileStatusTool, GrantFile, ListPeerFiles, ReadPeerFile, ShareFile,
};
use claudemesh_client::{Progress, ProgressSink, with_progress};
use claudemesh_crypto::decode_base64;
use claudemesh_proto::ops::{FileEntry, ListFiles};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

/// Shares, fetches and manages files. They are encrypted on this machine; the broker sees names, tags and sizes.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh file share plan.pdf --to ana\n  claudemesh file list\n  \
    claudemesh file get 3kTz… plan.pdf\n  claudemesh file read ben notes.md\n\n\
    JSON: the result of the tool of the same name (`claudemesh tool --list`)"
)]
pub(crate) struct FileArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Encrypt a file and share it. An interrupted upload goes on when the command is repeated
    #[command(after_help = "Examples:\n  claudemesh file share plan.pdf --to ana\n  \
        claudemesh file share build.tar.gz --to @backend --tag nightly --expires-in 86400\n  claudemesh file share logo.svg")]
    Share {
        /// The file
        path: String,
        /// Who may read it: a name, a key or @group; every member of now if absent
        #[arg(long, value_name = "WHO")]
        to: Option<String>,
        /// Name to show instead of the file's own
        #[arg(long)]
        name: Option<String>,
        /// A word to find it by; may be repeated
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// Remove it after a day
        #[arg(long)]
        ephemeral: bool,
        /// Remove it after this many seconds (at most 2592000)
        #[arg(long, value_name = "SECONDS")]
        expires_in: Option<u64>,
        /// Do not encrypt it: only for bundles that the broker has to unpack
        #[arg(long)]
        clear: bool,
    },
    /// Fetch a shared file and decrypt it. An interrupted download goes on when the command is repeated
    #[command(
        after_help = "Examples:\n  claudemesh file get 3kTz… plan.pdf\n  claudemesh file get 3kTz… downloads/ --overwrite"
    )]
    Get {
        /// Id of the file
        id: String,
        /// Where to write it; a directory takes it under its shared name
        #[arg(default_value = ".")]
        save_to: String,
        /// Replace a file that is there
        #[arg(long)]
        overwrite: bool,
    },
    /// List the files that are shared with you or that you shared
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  claudemesh file list\n  claudemesh file list plan --from ana\n  claudemesh file list --all --json"
    )]
    List {
        /// Part of the name
        query: Option<String>,
        /// Name of who shared it
        #[arg(long)]
        from: Option<String>,
        /// A tag
        #[arg(long)]
        tag: Option<String>,
        /// How many at most (1 to 500)
        #[arg(long)]
        limit: Option<u32>,
        /// Go on after this file
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// Every file of the mesh; for the owner and admins
        #[arg(long)]
        all: bool,
    },
    /// Show who fetched a file, and who may
    Status {
        /// Id of the file
        id: String,
    },
    /// Remove a file for everybody
    #[command(visible_alias = "rm")]
    Delete {
        /// Id of the file
        id: String,
    },
    /// Let others read a file that you shared; nothing is uploaded again
    #[command(after_help = "Examples:\n  claudemesh file grant 3kTz… ben\n  claudemesh file grant 3kTz… @backend")]
    Grant {
        /// Id of the file
        id: String,
        /// Who: a name, a key, @group or *
        to: String,
    },
    /// Print a file of a directory that a peer shares
    #[command(
        after_help = "Examples:\n  claudemesh file read ben notes.md\n  claudemesh file read ben src/main.rs > main.rs"
    )]
    Read {
        /// Name or key of the peer
        peer: String,
        /// Path inside the shared directory
        path: String,
    },
    /// List the names in a directory that a peer shares
    #[command(
        after_help = "Examples:\n  claudemesh file browse ben\n  claudemesh file browse ben src --pattern '*.rs'"
    )]
    Browse {
        /// Name or key of the peer
        peer: String,
        /// Directory inside the shared one
        path: Option<String>,
        /// Only names like this (* and ?)
        #[arg(long)]
        pattern: Option<String>,
    },
}

/// Does what was asked for.
pub(crate) async fn run(context: Context, arguments: FileArgs) -> Result<(), CliError> {
    let session = Session::observe(&context).await?;
    let out = context.out;
    let result = tokio::select! {
        result = act(&session, out, arguments.action) => result,
        // What has come so far is kept, and the next call goes on from there.
        _ = tokio::signal::ctrl_c() => Err(CliError::cancelled("Interrupted.").next("Repeat the command: what has come so far is kept.")),
    };
    session.close().await;
    result
}

async fn act(session: &Session, out: Output, action: Action) -> Result<(), CliError> {
    let client = &session.client;
    match action {
        Action::Share {
            path,
            to,
            name,
            tags,
            ephemeral,
            expires_in,
            clear,
        } => {
            let request = ShareFile {
                path,
                name,
                tags,
                to,
                persistent: !ephemeral,
                expires_in,
                clear,
            };
            let bar = Bar::new(out, "uploading");
            let shared = with_progress(bar.sink(), client.share_file(request)).await;
            bar.end();
            let shared = shared?;
            out.json(&shared)?;
            out.line(&shared.id);
            let until = shared
                .expires_at
                .map(|at| format!(", until {}", local_time(at)))
                .unwrap_or_default();
            let others = match shared.recipients {
                1 => "1 other".to_owned(),
                number => format!("{number} others"),
            };
            let (name, size, to) = (printable(&shared.name), HumanBytes(shared.size), printable(&shared.to));
            out.note(format!(
                "{name} ({size}) is shared with {to}: {others} can read it{until}"
            ));
        }
        Action::Get { id, save_to, overwrite } => {
            let bar = Bar::new(out, "downloading");
            let fetched = with_progress(bar.sink(), client.fetch_file(FetchFile { id, save_to, overwrite })).await;
            bar.end();
            let fetched = fetched?;
            out.json(&fetched)?;
            out.line(printable(&fetched.path));
            for warning in &fetched.warnings {
                out.warn(warning);
            }
            let from = fetched
                .from
                .as_deref()
                .map(printable)
                .unwrap_or_else(|| "somebody".to_owned());
            let proven = if fetched.authenticated { "proven" } else { "not proven" };
            out.note(format!("{} from {from} ({proven})", HumanBytes(fetched.size)));
        }
        Action::List {
            query,
            from,
            tag,
            limit,
            after,
            all,
        } => {
            let list = client
                .list_files(ListFiles {
                    query,
                    from,
                    tag,
                    limit,
                    after,
                    all,
                })
                .await?;
            out.json(&list)?;
            let rows: Vec<_> = list.files.iter().map(row).collect();
            out.table(&rows);
            match list.files.last() {
                None => out.note("No such file is shared with you. `claudemesh file share <path>` shares one."),
                Some(last) if list.more => out.note(format!("There are more: --after {}", last.id)),
                Some(_) => {}
            }
        }
        Action::Status { id } => {
            let status = client.file_status_tool(FileStatusTool { id }).await?;
            out.json(&status)?;
            let rows: Vec<_> = status
                .accesses
                .iter()
                .map(|access| {
                    vec![
                        cell(&access.peer_name),
                        styled(Style::Dim, local_time(access.accessed_at)),
                    ]
                })
                .collect();
            out.table(&rows);
            if rows.is_empty() {
                out.note("Nobody has fetched it yet.");
            }
            let names = status.recipients.iter().map(|recipient| match recipient.name.as_str() {
                "" => recipient.peer_pubkey.short().to_owned(),
                name => printable(name),
            });
            let names: Vec<_> = names.collect();
            if !names.is_empty() {
                out.note(format!("The key is with: {}", names.join(", ")));
            }
        }
        Action::Delete { id } => {
            let deleted = client.delete_file_tool(DeleteFileTool { id }).await?;
            out.json(&deleted)?;
            out.note("The file is removed.");
        }
        Action::Grant { id, to } => {
            let granted = client.grant_file(GrantFile { file_id: id, to }).await?;
            out.json(&granted)?;
            out.note(format!("{} can read it now.", printable(&granted.to)));
        }
        Action::Read { peer, path } => {
            let file = client.read_peer_file(ReadPeerFile { peer, path }).await?;
            out.json(&file)?;
            if !out.json {
                print(
                    &file
                        .text
                        .map(String::into_bytes)
                        .or_else(|| decode_base64(&file.base64.unwrap_or_default())),
                )?;
            }
        }
        Action::Browse { peer, path, pattern } => {
            let listed = client.list_peer_files(ListPeerFiles { peer, path, pattern }).await?;
            out.json(&listed)?;
            for entry in &listed.entries {
                out.line(printable(entry));
            }
            match (listed.entries.is_empty(), listed.truncated) {
                (true, _) => out.note("There is nothing that matches."),
                (_, true) => out.note("There are more names: look into a directory, or use --pattern."),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A peer's file as it is; for a terminal, without what would control it.
fn print(content: &Option<Vec<u8>>) -> Result<(), CliError> {
    let content = content.as_deref().unwrap_or_default();
    let mut stdout = std::io::stdout().lock();
    let written = match std::str::from_utf8(content) {
        Ok(text) if stdout.is_terminal() => {
            let shown: String = text
                .chars()
                .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
                .collect();
            stdout.write_all(shown.as_bytes())
        }
        _ => stdout.write_all(content),
    };
    written
        .and_then(|()| stdout.flush())
        .map_err(|error| CliError::local(format!("Cannot write to standard output: {error}"), "Try again."))
}

fn row(file: &FileEntry) -> Vec<crate::output::Cell> {
    let who = if file.own { "you" } else { file.uploaded_by.as_str() };
    let until = file
        .expires_at
        .map(|at| format!(" until {}", local_time(at)))
        .unwrap_or_default();
    let tags: String = file.tags.iter().map(|tag| format!(" #{tag}")).collect();
    let open = if file.encrypted { "" } else { " (not encrypted)" };
    vec![
        cell(&file.id),
        styled(Style::Bold, &file.name),
        cell(HumanBytes(file.size).to_string()),
        styled(
            Style::Dim,
            format!("{who} {}{until}{tags}{open}", local_time(file.uploaded_at)),
        ),
    ]
}

/// A bar on the terminal, if there is one and results only were not asked for.
struct Bar(ProgressBar);

impl Bar {
    fn new(out: Output, what: &'static str) -> Self {
        let target = match out.json || out.quiet {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let style = "{msg} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        let bar = ProgressBar::with_draw_target(None, target).with_message(what);
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn sink(&self) -> ProgressSink {
        let bar = self.0.clone();
        Arc::new(move |Progress { done, total }| {
            bar.set_length(total);
            bar.set_position(done);
        })
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}
