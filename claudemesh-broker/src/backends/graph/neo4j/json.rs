//! The server's values in JSON and back.

use std::collections::HashMap;

use claudemesh_proto::limits::MAX_GRAPH_DEPTH;
use neo4j::value::graph::{Node, Path, UnboundRelationship};
use neo4j::value::time::Duration;
use neo4j::{ValueReceive, ValueSend};
use serde_json::{Map, Value as Json, json};

use crate::backends::graph::GraphError;
use crate::backends::graph::values::{self, Param, RESERVED};

/// A parameter.
pub(super) fn param(value: Param) -> ValueSend {
    match value {
        Param::Null => ValueSend::Null,
        Param::Bool(value) => ValueSend::Boolean(value),
        Param::Integer(value) => ValueSend::Integer(value),
        Param::Float(value) => ValueSend::Float(value),
        Param::Text(value) => ValueSend::String(value),
        Param::Bytes(value) => ValueSend::Bytes(value),
        Param::List(items) => ValueSend::List(items.into_iter().map(param).collect()),
        Param::Map(members) => {
            let members = members.into_iter().map(|(name, value)| (name, param(value)));
            ValueSend::Map(members.collect())
        }
    }
}

/// A value of a record. Labels of the broker are left out.
///
/// # Errors
/// [`GraphError::TooLarge`] if it is nested too deep.
pub(super) fn value(value: &ValueReceive) -> Result<Json, GraphError> {
    at(value, 0)
}

fn at(value: &ValueReceive, depth: usize) -> Result<Json, GraphError> {
    if depth > MAX_GRAPH_DEPTH {
        return Err(GraphError::TooLarge(format!(
            "a value of the result is nested more than {MAX_GRAPH_DEPTH} deep"
        )));
    }
    let point = |srid: i64, coordinates: &[(&str, f64)]| {
        let mut members = Map::from_iter([("srid".to_owned(), json!(srid))]);
        for (name, value) in coordinates {
            members.insert((*name).to_owned(), values::float(*value));
        }
        Json::Object(members)
    };
    Ok(match value {
        ValueReceive::Null => Json::Null,
        ValueReceive::Boolean(value) => json!(value),
        ValueReceive::Integer(value) => values::integer(*value),
        ValueReceive::Float(value) => values::float(*value),
        ValueReceive::Bytes(value) => values::bytes(value),
        ValueReceive::String(value) => json!(value),
        ValueReceive::List(items) => {
            let items = items.iter().map(|item| at(item, depth + 1));
            Json::Array(items.collect::<Result<_, _>>()?)
        }
        ValueReceive::Map(members) => Json::Object(members_of(members, depth)?),
        ValueReceive::Node(value) => node(value, depth)?,
        ValueReceive::Relationship(value) => {
            let ends = (value.start_node_id, value.end_node_id);
            let properties = members_of(&value.properties, depth)?;
            values::relationship(value.id.to_string(), &value.type_, ends, properties)
        }
        ValueReceive::Path(value) => path(value, depth)?,
        ValueReceive::Cartesian2D(value) => point(value.srid(), &[("x", value.x()), ("y", value.y())]),
        ValueReceive::Cartesian3D(value) => {
            point(value.srid(), &[("x", value.x()), ("y", value.y()), ("z", value.z())])
        }
        ValueReceive::WGS84_2D(value) => point(value.srid(), &[("x", value.longitude()), ("y", value.latitude())]),
        ValueReceive::WGS84_3D(value) => point(
            value.srid(),
            &[
                ("x", value.longitude()),
                ("y", value.latitude()),
                ("z", value.altitude()),
            ],
        ),
        ValueReceive::Duration(value) => json!(duration(value)),
        ValueReceive::LocalTime(value) => json!(value.to_string()),
        ValueReceive::Time(value) => json!(zero_is_z(format!("{}{}", value.time, value.offset))),
        ValueReceive::Date(value) => json!(value.to_string()),
        ValueReceive::LocalDateTime(value) => json!(format!("{value:?}")),
        ValueReceive::DateTime(value) => {
            json!(format!(
                "{}[{}]",
                zero_is_z(value.to_rfc3339()),
                value.timezone().name()
            ))
        }
        ValueReceive::DateTimeFixed(value) => json!(zero_is_z(value.to_rfc3339())),
        ValueReceive::BrokenValue(_) => {
            let text = "a value of the result cannot be shown; return it as text with toString()";
            return Err(GraphError::Query(text.to_owned()));
        }
        _ => {
            let text = "a value of the result is of a kind that this broker does not know";
            return Err(GraphError::Query(text.to_owned()));
        }
    })
}

fn members_of(members: &HashMap<String, ValueReceive>, depth: usize) -> Result<Map<String, Json>, GraphError> {
    let members = members
        .iter()
        .map(|(name, value)| Ok((name.clone(), at(value, depth + 1)?)));
    members.collect()
}

fn node(node: &Node, depth: usize) -> Result<Json, GraphError> {
    let labels = node.labels.iter().filter(|label| !label.starts_with(RESERVED));
    Ok(values::node(
        node.id,
        labels.cloned().collect(),
        members_of(&node.properties, depth)?,
    ))
}

/// A path comes as the nodes and relationships that are in it, and the way through them: the number of a relationship, negative
/// if it is walked against its direction, and that of the node behind it.
fn path(path: &Path, depth: usize) -> Result<Json, GraphError> {
    let broken = || GraphError::Unavailable("the server has sent a path that is none".to_owned());
    let mut before = path.nodes.first().ok_or_else(broken)?;
    let mut nodes = vec![node(before, depth)?];
    let mut relationships = Vec::new();
    for step in path.indices.chunks(2) {
        let [way, to] = step else {
            return Err(broken());
        };
        let relationship: &UnboundRelationship = way
            .unsigned_abs()
            .checked_sub(1)
            .and_then(|index| path.relationships.get(index))
            .ok_or_else(broken)?;
        let behind = usize::try_from(*to).ok().and_then(|index| path.nodes.get(index));
        let behind = behind.ok_or_else(broken)?;
        let ends = match *way > 0 {
            true => (before.id, behind.id),
            false => (behind.id, before.id),
        };
        let properties = members_of(&relationship.properties, depth)?;
        let id = relationship.id.to_string();
        relationships.push(values::relationship(id, &relationship.type_, ends, properties));
        nodes.push(node(behind, depth)?);
        before = behind;
    }
    Ok(values::path(nodes, relationships))
}

fn zero_is_z(text: String) -> String {
    match text.strip_suffix("+00:00") {
        Some(rest) => format!("{rest}Z"),
        None => text,
    }
}

/// As the server writes it: `P1Y2M3DT4H5M6.7S`.
fn duration(value: &Duration) -> String {
    let mut text = "P".to_owned();
    let mut add = |number: i64, unit: &str| {
        if number != 0 {
            text += &format!("{number}{unit}");
        }
    };
    add(value.months() / 12, "Y");
    add(value.months() % 12, "M");
    add(value.days(), "D");
    let (seconds, nanoseconds) = (value.seconds(), i64::from(value.nanoseconds()));
    let mut time = String::new();
    let mut add = |number: i64, unit: &str| {
        if number != 0 {
            time += &format!("{number}{unit}");
        }
    };
    add(seconds / 3600, "H");
    add(seconds / 60 % 60, "M");
    let rest = i128::from(seconds % 60) * 1_000_000_000 + i128::from(nanoseconds);
    if rest != 0 {
        let (sign, rest) = (if rest < 0 { "-" } else { "" }, rest.unsigned_abs());
        let fraction = format!("{:09}", rest % 1_000_000_000);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        time += &format!("{sign}{}{point}{fraction}S", rest / 1_000_000_000);
    }
    match (text.len(), time.is_empty()) {
        (1, true) => "PT0S".to_owned(),
        (_, true) => text,
        (_, false) => format!("{text}T{time}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_the_server_does() {
        for (months, days, seconds, nanoseconds, expected) in [
            (14, 3, 14_706, 700_000_000, "P1Y2M3DT4H5M6.7S"),
            (0, 1, 7_200, 0, "P1DT2H"),
            (0, 0, 0, 0, "PT0S"),
            (0, 0, -1, 0, "PT-1S"),
            (-1, 0, 60, 1, "P-1MT1M0.000000001S"),
        ] {
            let value = Duration::new(months, days, seconds, nanoseconds).unwrap();
            assert_eq!(duration(&value), expected);
        }
    }
}
