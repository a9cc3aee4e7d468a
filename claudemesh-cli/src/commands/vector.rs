//! `vector`: texts that are found by meaning.

use super::Context;
use super::session::Session;
use crate::CliError;
use crate::output::{Output, Style, cell, one_line, printable, styled};
use crate::text::{local_time, tool_arguments};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::ops::{ListCollections, VectorDelete, VectorSearch, VectorStore};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read as _;

/// Stores texts in collections, and finds them by meaning. The vector of a text comes from the broker's embedder, or from you.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh vector store docs \"Deploys go out from main\" --metadata lang=en\n  \
    claudemesh vector search docs how do we ship --filter lang=en\n  claudemesh vector collections --json\n\n\
    JSON: store {\"id\",\"replaced\",\"dimensions\"}; search {\"results\":[{\"id\",\"text\",\"score\",\"metadata\",\"storedBy\",\"storedById\",\"storedAt\"}],\"truncated\"};\n\
    delete {\"id\",\"messageId\",\"queued\"}; collections {\"collections\":[\"name\"],\"details\":[{\"name\",\"dimensions\",\"vectors\"}],\"embedder\":{\"model\",\"dimensions\"}}"
)]
pub(crate) struct VectorArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Store a text. The first one creates the collection, and fixes the length of its vectors
    #[command(
        after_help = "Examples:\n  claudemesh vector store docs \"The cache is never cleared\" --metadata file=cache.rs\n  \
        claudemesh vector store docs \"Retries are bounded\" --vector @vector.json --id 67e55044-10b1-426f-9247-bb680e5fe0c8"
    )]
    Store {
        /// Name of the collection
        collection: String,
        /// The text; several words are joined
        #[arg(required = true)]
        text: Vec<String>,
        /// Its vector, for brokers without an embedder: a JSON list of numbers, @FILE with one, or @- for standard input
        #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
        vector: Option<String>,
        /// What belongs to the text: a JSON object or key=value; may be given several times
        #[arg(long, value_name = "KEY=VALUE")]
        metadata: Vec<String>,
        /// A UUID; a vector with this id is replaced
        #[arg(long, value_name = "UUID")]
        id: Option<String>,
    },
    /// Find the texts that are closest to what you ask for
    #[command(after_help = "Examples:\n  claudemesh vector search docs how do we ship\n  \
        claudemesh vector search docs caching --filter file=cache.rs --limit 3 --json")]
    Search {
        /// Name of the collection
        collection: String,
        /// What to look for
        #[arg(required_unless_present = "vector")]
        query: Vec<String>,
        /// Its vector instead: a JSON list of numbers, @FILE with one, or @- for standard input
        #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
        vector: Option<String>,
        /// Only texts whose metadata has this value: key=value, or a JSON object; may be given several times
        #[arg(long, value_name = "KEY=VALUE")]
        filter: Vec<String>,
        /// Most results
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: Option<u32>,
    },
    /// Delete a vector of yours; the owner and admins of the mesh may delete any
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  claudemesh vector delete docs 67e55044-10b1-426f-9247-bb680e5fe0c8"
    )]
    Delete {
        /// Name of the collection
        collection: String,
        /// Whole id of the vector, as search prints it
        id: String,
    },
    /// List the collections, and say whether the broker has an embedder
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  claudemesh vector collections\n  claudemesh vector collections --json"
    )]
    Collections {},
}

/// Stores, finds, deletes or lists.
pub(crate) async fn run(context: Context, arguments: VectorArgs) -> Result<(), CliError> {
    let action = prepared(arguments.action)?;
    let session = Session::observe(&context).await?;
    let result = act(&session, context.out, action).await;
    session.close().await;
    result
}

/// What is asked of the broker: read before anything is sent.
enum Request {
    Store(VectorStore),
    Search(VectorSearch),
    Delete(VectorDelete),
    Collections,
}

fn prepared(action: Action) -> Result<Request, CliError> {
    Ok(match action {
        Action::Store {
            collection,
            text,
            vector,
            metadata,
            id,
        } => Request::Store(VectorStore {
            collection,
            text: text.join(" "),
            metadata: match metadata.is_empty() {
                true => None,
                false => Some(object(&metadata)?),
            },
            vector: vector.as_deref().map(numbers).transpose()?,
            id,
        }),
        Action::Search {
            collection,
            query,
            vector,
            filter,
            limit,
        } => Request::Search(VectorSearch {
            collection,
            query: query.join(" "),
            limit,
            vector: vector.as_deref().map(numbers).transpose()?,
            filter: object(&filter)?,
        }),
        Action::Delete { collection, id } => Request::Delete(VectorDelete { collection, id }),
        Action::Collections {} => Request::Collections,
    })
}

fn invalid(message: impl Into<String>) -> CliError {
    CliError::new(ErrorCode::InvalidRequest, message.into())
}

fn object(words: &[String]) -> Result<BTreeMap<String, Value>, CliError> {
    parsed(tool_arguments(words)?)
}

fn parsed<T: DeserializeOwned>(value: Value) -> Result<T, CliError> {
    serde_json::from_value(value).map_err(|error| invalid(error.to_string()))
}

/// A JSON list of numbers, from where it is.
fn numbers(given: &str) -> Result<Vec<f32>, CliError> {
    let text = match given.strip_prefix('@') {
        None => given.to_owned(),
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| invalid(format!("Standard input cannot be read: {error}.")))?;
            text
        }
        Some(path) => {
            std::fs::read_to_string(path).map_err(|error| invalid(format!("{path} cannot be read: {error}.")))?
        }
    };
    serde_json::from_str(&text).map_err(|error| {
        invalid(format!("The vector is no JSON list of numbers: {error}.")).next("Write it as '[0.1, -0.2, 0.3]'.")
    })
}

async fn act(session: &Session, out: Output, request: Request) -> Result<(), CliError> {
    match request {
        Request::Store(request) => {
            let stored = session.call(request).await?;
            out.json(&stored)?;
            let verb = if stored.replaced { "replaced" } else { "stored" };
            out.line(format!("{verb} {}", stored.id));
        }
        Request::Search(request) => {
            let found = session.call(request).await?;
            out.json(&found)?;
            if found.results.is_empty() {
                out.note("Nothing was found.");
            }
            for result in &found.results {
                let score = out.paint(Style::Bold, format!("{:.3}", result.score));
                out.line(format!("{score} {}", printable(&result.text)));
                let by = result.stored_by.as_deref().map(one_line).unwrap_or_default();
                let at = result.stored_at.map(local_time).unwrap_or_default();
                let about = match result.metadata.is_empty() {
                    true => String::new(),
                    false => one_line(&serde_json::to_string(&result.metadata).unwrap_or_default()),
                };
                let facts = format!("  {} {by} {at} {about}", result.id);
                out.line(out.paint(Style::Dim, facts.trim_end()));
            }
            if found.truncated {
                out.note("There are more than fit into one answer: use --filter or a smaller --limit.");
            }
        }
        Request::Delete(request) => {
            let deleted = session.call(request).await?;
            out.json(&deleted)?;
            out.note("deleted");
        }
        Request::Collections => {
            let list = session.call(ListCollections {}).await?;
            out.json(&list)?;
            let rows: Vec<_> = list
                .details
                .iter()
                .map(|collection| {
                    vec![
                        styled(Style::Bold, &collection.name),
                        cell(format!("{} vectors", collection.vectors)),
                        styled(Style::Dim, format!("{} dimensions", collection.dimensions)),
                    ]
                })
                .collect();
            out.table(&rows);
            if list.collections.is_empty() {
                out.note("There are no collections. `claudemesh vector store <collection> <text>` creates one.");
            }
            out.note(match &list.embedder {
                Some(embedder) => format!(
                    "Texts get vectors of {} dimensions from {}.",
                    embedder.dimensions,
                    one_line(&embedder.model)
                ),
                None => "The broker has no embedder: give every text and query its --vector.".to_owned(),
            });
        }
    }
    Ok(())
}
