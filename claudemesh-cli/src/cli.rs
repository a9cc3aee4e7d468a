//! The command line: what is accepted, and what is said about the rest.

use crate::CliError;
use crate::commands::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser};
use std::ffi::OsString;

/// Durable, end-to-end encrypted messages and shared state between the agent sessions and people of a team.
#[derive(Debug, Parser)]
#[command(
    name = "claudemesh",
    version,
    disable_version_flag = true,
    max_term_width = 100,
    arg_required_else_help = false,
    subcommand_required = false,
    after_help = "Start here:\n  \
        claudemesh up --demo          a broker, a mesh and two peers to talk to, on this machine\n  \
        claudemesh join <link>        join a mesh that somebody invited you to\n  \
        claudemesh send ana \"hello\"   send a message; `claudemesh inbox` shows the answers\n\n\
        Exit codes: 0 ok, 1 cancelled, 2 not authorised, 3 bad arguments, 4 network, 5 not found, 6 exists, 7 not allowed, \
        8 internal."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Which of several joined meshes: its slug
    #[arg(long, global = true, value_name = "SLUG")]
    pub(crate) mesh: Option<String>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print the version
    #[arg(short = 'v', visible_short_alias = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

/// An invite as the first word means `join`.
pub(crate) fn rewrite(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let is_invite = arguments
        .get(1)
        .and_then(|word| word.to_str())
        .is_some_and(is_invite_url);
    if is_invite {
        arguments.insert(1, "join".into());
    }
    arguments
}

fn is_invite_url(word: &str) -> bool {
    let schemes = ["http://", "https://", "ic://", "claudemesh://"];
    schemes.iter().any(|scheme| {
        word.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })
}

/// The parsed command line; `None` if it asked for help or the version, which has been printed.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Option<Cli>, CliError> {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => Ok(Some(cli)),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let _ = error.print();
            Ok(None)
        }
        Err(error) => Err(explain(&error)),
    }
}

/// A refusal in one line, and in another what to do.
fn explain(error: &clap::Error) -> CliError {
    let rendered = error.render().to_string();
    let (first, _) = rendered.split_once("\n\n").unwrap_or((&rendered, ""));
    let message = first
        .trim_start_matches("error: ")
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ");
    CliError::usage(message, hint(error, &rendered))
}

fn hint(error: &clap::Error, rendered: &str) -> String {
    let suggestion = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ]
    .into_iter()
    .find_map(|kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    });
    if let Some(suggestion) = suggestion {
        return format!("Did you mean `{suggestion}`?");
    }
    let usage = rendered.lines().find_map(|line| line.strip_prefix("Usage: "));
    match usage.filter(|_| !matches!(error.kind(), ErrorKind::InvalidSubcommand)) {
        Some(usage) => format!("Usage: {usage}; --help tells more."),
        None => "`claudemesh --help` lists the commands.".to_owned(),
    }
}

/// The help of the whole program.
pub(crate) fn help() -> String {
    Cli::command().render_help().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_invite_as_first_word_is_a_join() {
        let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(
            rewrite(words(&["claudemesh", "https://h/i/abc"])),
            words(&["claudemesh", "join", "https://h/i/abc"])
        );
        assert_eq!(
            rewrite(words(&["claudemesh", "peers"])),
            words(&["claudemesh", "peers"])
        );
    }

    #[test]
    fn mistakes_name_the_nearest_match() {
        let error = parse(vec!["claudemesh".into(), "pears".into()]).unwrap_err();
        assert_eq!((error.exit_code(), error.next_step()), (3, "Did you mean `peers`?"));
        let error = parse(vec![
            "claudemesh".into(),
            "send".into(),
            "--priorty".into(),
            "now".into(),
        ])
        .unwrap_err();
        assert!(error.next_step().contains("--priority"), "{error:?}");
    }
}
