//! graphdblite's values in JSON and back.

use std::collections::HashMap;

use claudemesh_proto::limits::MAX_GRAPH_DEPTH;
use graphdblite::{Edge, Node, Properties, Value};
use serde_json::{Map, Value as Json};

use crate::backends::graph::GraphError;
use crate::backends::graph::values::{self, Param};

/// The parameters of a query.
pub(super) fn params(params: &Map<String, Json>) -> Result<HashMap<String, Value>, GraphError> {
    let params = values::params(params)?.into_iter().map(|(name, value)| {
        let problem = |problem: &str| GraphError::Param {
            problem: format!("the parameter ${name} cannot be used: {problem}"),
            name: name.clone(),
        };
        let value = param(value).map_err(problem)?;
        Ok((name, value))
    });
    params.collect()
}

fn param(value: Param) -> Result<Value, &'static str> {
    Ok(match value {
        Param::Null => Value::Null,
        Param::Bool(value) => Value::Bool(value),
        Param::Integer(value) => Value::I64(value),
        Param::Float(value) => Value::F64(value),
        Param::Text(value) => Value::String(value),
        Param::Bytes(_) => return Err("this graph has no bytes; pass them as text"),
        Param::List(items) => Value::List(items.into_iter().map(param).collect::<Result<_, _>>()?),
        Param::Map(members) => {
            let members = members.into_iter().map(|(name, value)| Ok((name, param(value)?)));
            Value::Map(members.collect::<Result<_, &'static str>>()?)
        }
    })
}

/// A value of a record.
///
/// # Errors
/// [`GraphError::TooLarge`] if it is nested too deep.
pub(super) fn value(value: &Value) -> Result<Json, GraphError> {
    at(value, 0)
}

fn at(value: &Value, depth: usize) -> Result<Json, GraphError> {
    if depth > MAX_GRAPH_DEPTH {
        return Err(GraphError::TooLarge(format!(
            "a value of the result is nested more than {MAX_GRAPH_DEPTH} deep"
        )));
    }
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::from(*value),
        Value::I64(value) => values::integer(*value),
        Value::F64(value) => values::float(*value),
        Value::String(value) => Json::from(value.as_str()),
        Value::List(items) => Json::Array(items.iter().map(|item| at(item, depth + 1)).collect::<Result<_, _>>()?),
        Value::Map(members) => {
            let members = members
                .iter()
                .map(|(name, value)| Ok((name.clone(), at(value, depth + 1)?)));
            Json::Object(members.collect::<Result<_, GraphError>>()?)
        }
        Value::Node(value) => node(value, depth)?,
        Value::Edge(value) => edge(value, depth)?,
        Value::Path(path) => {
            let nodes = path.nodes.iter().map(|value| node(value, depth));
            let edges = path.edges.iter().map(|value| edge(value, depth));
            values::path(nodes.collect::<Result<_, _>>()?, edges.collect::<Result<_, _>>()?)
        }
        Value::Date(value) => Json::from(value.to_string()),
        Value::LocalTime(value) => Json::from(value.to_string()),
        Value::Time(value) => Json::from(value.to_string()),
        Value::LocalDateTime(value) => Json::from(value.to_string()),
        Value::DateTime(value) => Json::from(value.to_string()),
        Value::Duration(value) => Json::from(value.to_string()),
    })
}

fn properties(properties: &Properties, depth: usize) -> Result<Map<String, Json>, GraphError> {
    let properties = properties
        .iter()
        .map(|(name, value)| Ok((name.clone(), at(value, depth + 1)?)));
    properties.collect()
}

fn id(id: graphdblite::NodeId) -> i64 {
    i64::try_from(id.0).unwrap_or(i64::MAX)
}

fn node(node: &Node, depth: usize) -> Result<Json, GraphError> {
    let properties = properties(&node.properties, depth)?;
    Ok(values::node(id(node.id), node.labels.clone(), properties))
}

fn edge(edge: &Edge, depth: usize) -> Result<Json, GraphError> {
    let (start, end) = (id(edge.src), id(edge.dst));
    let properties = properties(&edge.properties, depth)?;
    // The engine tells relationships between the same nodes apart by a number.
    let id = format!("{start}:{}:{end}:{}", edge.label, edge.seq);
    Ok(values::relationship(id, &edge.label, (start, end), properties))
}
