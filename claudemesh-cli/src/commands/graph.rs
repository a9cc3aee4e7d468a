//! `graph`: the mesh's graph, asked and changed with Cypher.

use super::Context;
use super::session::Session;
use crate::CliError;
use crate::output::{Output, Style, cell, styled};
use crate::text::{show_value, tool_arguments};
use claudemesh_proto::ops::{GraphExecute, GraphQuery, GraphResult};
use serde_json::{Map, Value};

/// Asks and changes the mesh's graph with Cypher: nodes and relationships that all members work on.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh graph execute 'MERGE (:Service {name: $name})' name=api\n  \
    claudemesh graph execute 'MATCH (a:Service {name: $a}), (b:Service {name: $b}) MERGE (a)-[:USES]->(b)' a=api b=db\n  \
    claudemesh graph query 'MATCH (a)-[:USES]->(b) RETURN a.name AS service, b.name AS uses'\n\n\
    JSON: {\"records\":[{name: value}],\"columns\":[name],\"truncated\"}; a node is {\"id\",\"labels\",\"properties\"}, a relationship\n\
    {\"id\",\"type\",\"start\",\"end\",\"properties\"}, a path {\"nodes\",\"relationships\"}"
)]
pub(crate) struct GraphArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Read from the graph; nothing can be changed with it
    #[command(
        after_help = "Examples:\n  claudemesh graph query 'MATCH (n) RETURN labels(n) AS labels, count(*) AS n'\n  \
        claudemesh graph query 'MATCH (s:Service {name: $name})-[:USES*1..3]->(d) RETURN DISTINCT d.name AS needs' name=api --json"
    )]
    Query(Statement),
    /// Change the graph
    #[command(
        after_help = "Examples:\n  claudemesh graph execute 'CREATE (:Service {name: $name, ports: $ports})' name=api 'ports=[80, 443]'\n  \
        claudemesh graph execute 'MATCH (s:Service {name: $name}) DETACH DELETE s' '{\"name\": \"api\"}' --json"
    )]
    Execute(Statement),
}

#[derive(clap::Args, Debug)]
struct Statement {
    /// The Cypher text, in quotes
    cypher: String,
    /// Values of its parameters: name=value words, whose values are JSON or text, or one JSON object
    params: Vec<String>,
}

impl Statement {
    fn params(&self) -> Result<Map<String, Value>, CliError> {
        match tool_arguments(&self.params)? {
            Value::Object(params) => Ok(params),
            _ => Err(CliError::usage(
                "The parameters are no JSON object.".to_owned(),
                "Write them as name=value, or as one JSON object in quotes.",
            )),
        }
    }
}

/// Asks or changes the graph.
pub(crate) async fn run(context: Context, arguments: GraphArgs) -> Result<(), CliError> {
    let (statement, writes) = match &arguments.action {
        Action::Query(statement) => (statement, false),
        Action::Execute(statement) => (statement, true),
    };
    // Before a connection is made for nothing.
    let (cypher, params) = (statement.cypher.clone(), statement.params()?);
    let session = Session::observe(&context).await?;
    let result = match writes {
        false => session.call(GraphQuery { cypher, params }).await,
        true => session.call(GraphExecute { cypher, params }).await,
    };
    session.close().await;
    show(context.out, &result?, writes)
}

fn show(out: Output, result: &GraphResult, writes: bool) -> Result<(), CliError> {
    out.json(result)?;
    let records = result.records.iter().map(|record| {
        let values = result.columns.iter();
        let values = values.map(|column| cell(show_value(record.get(column).unwrap_or(&Value::Null))));
        values.collect()
    });
    let names = result
        .columns
        .iter()
        .map(|column| styled(Style::Bold, column))
        .collect();
    let rows: Vec<Vec<_>> = std::iter::once(names).chain(records).collect();
    match (result.records.is_empty(), writes) {
        (true, true) => out.note("done"),
        (true, false) => out.note("There is no such record."),
        (false, _) => out.table(&rows),
    }
    if result.truncated {
        out.note("There are more records: add WHERE or LIMIT.");
    }
    Ok(())
}
