//! Values on their way in and out: what both halves have in common.

use std::collections::BTreeMap;

use claudemesh_crypto::{decode_base64, encode_base64};
use claudemesh_proto::limits::MAX_GRAPH_DEPTH;
use claudemesh_proto::model::SqlValue;
use serde_json::{Map, Value, json};

use super::GraphError;

/// A parameter's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Param {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Param>),
    Map(BTreeMap<String, Param>),
}

/// The parameters of a query.
///
/// # Errors
/// [`GraphError::Param`] with the first one that cannot be used.
pub(super) fn params(params: &Map<String, Value>) -> Result<BTreeMap<String, Param>, GraphError> {
    let params = params.iter().map(|(name, value)| {
        let problem = |problem: &str| GraphError::Param {
            name: name.clone(),
            problem: format!("the parameter ${name} cannot be used: {problem}"),
        };
        let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
            && name.len() <= 256;
        match is_name && !name.starts_with(super::values::RESERVED) {
            true => Ok((name.clone(), param(value, 0).map_err(problem)?)),
            false => Err(problem("a name is letters, digits and _, and starts with a letter")),
        }
    });
    params.collect()
}

/// What names of the broker's own begin with: parameters, variables and labels.
pub(super) const RESERVED: &str = "__mesh";

fn param(value: &Value, depth: usize) -> Result<Param, &'static str> {
    if depth > MAX_GRAPH_DEPTH {
        return Err("lists and maps are nested more than 32 deep");
    }
    Ok(match value {
        Value::Null => Param::Null,
        Value::Bool(value) => Param::Bool(*value),
        Value::String(text) => Param::Text(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Param::Integer(value),
            (None, Some(value)) if !number.is_u64() => Param::Float(value),
            _ => return Err("an integer has at most 64 bits with sign"),
        },
        Value::Array(items) => Param::List(
            items
                .iter()
                .map(|item| param(item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        Value::Object(members) => match marked(members)? {
            Some(value) => value,
            None => {
                let members = members
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), param(value, depth + 1)?)));
                Param::Map(members.collect::<Result<_, &'static str>>()?)
            }
        },
    })
}

/// `{"$bigint": "…"}` and `{"$base64": "…"}`.
fn marked(members: &Map<String, Value>) -> Result<Option<Param>, &'static str> {
    let mut all = members.iter();
    let (Some((name, Value::String(text))), None) = (all.next(), all.next()) else {
        return Ok(None);
    };
    match name.as_str() {
        "$bigint" => {
            let value = text.parse().map_err(|_| "$bigint is not an integer of 64 bits")?;
            Ok(Some(Param::Integer(value)))
        }
        "$base64" => {
            let bytes = decode_base64(text).ok_or("$base64 is not base64")?;
            Ok(Some(Param::Bytes(bytes)))
        }
        _ => Ok(None),
    }
}

/// An integer in JSON: a number if every reader keeps it exact.
pub(super) fn integer(value: i64) -> Value {
    Value::from(&SqlValue::Integer(value))
}

/// A floating-point number in JSON; text if it is none or infinite.
pub(super) fn float(value: f64) -> Value {
    Value::from(&SqlValue::Real(value))
}

/// Bytes in JSON.
#[cfg_attr(not(feature = "neo4j"), allow(dead_code))]
pub(super) fn bytes(value: &[u8]) -> Value {
    json!({ "$base64": encode_base64(value) })
}

/// A node in JSON. Its labels are in order.
pub(super) fn node(id: i64, mut labels: Vec<String>, properties: Map<String, Value>) -> Value {
    labels.sort();
    json!({ "id": id, "labels": labels, "properties": properties })
}

/// A relationship in JSON. Its id is text: not every engine has a number for it.
pub(super) fn relationship(id: String, kind: &str, ends: (i64, i64), properties: Map<String, Value>) -> Value {
    json!({ "id": id, "type": kind, "start": ends.0, "end": ends.1, "properties": properties })
}

/// A path in JSON: `relationships[i]` is between `nodes[i]` and `nodes[i + 1]`.
pub(super) fn path(nodes: Vec<Value>, relationships: Vec<Value>) -> Value {
    json!({ "nodes": nodes, "relationships": relationships })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: Value) -> Result<Param, String> {
        let params = params(json!({ "p": value }).as_object().unwrap());
        params
            .map(|mut params| params.remove("p").unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_taken_as_they_are() {
        assert_eq!(parsed(json!(7)), Ok(Param::Integer(7)));
        assert_eq!(parsed(json!(7.5)), Ok(Param::Float(7.5)));
        assert_eq!(
            parsed(json!({"$bigint": "-9223372036854775808"})),
            Ok(Param::Integer(i64::MIN))
        );
        assert_eq!(parsed(json!({"$base64": "AP8="})), Ok(Param::Bytes(vec![0, 255])));
        let map = parsed(json!({"$bigint": "1", "other": [null, true]})).unwrap();
        assert!(
            matches!(map, Param::Map(members) if members.len() == 2),
            "it is no mark"
        );
        assert_eq!(integer(i64::MAX), json!({"$bigint": "9223372036854775807"}));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let mut deep = json!(1);
        for _ in 0..40 {
            deep = json!([deep]);
        }
        for value in [deep, json!(u64::MAX), json!({"$bigint": "x"}), json!({"$base64": "?"})] {
            assert!(parsed(value).unwrap_err().starts_with("the parameter $p"));
        }
        for name in ["", "1", "a b", "a`", "__mesh0", "a\\u0060"] {
            let map = json!({ name: 1 });
            assert!(params(map.as_object().unwrap()).is_err(), "{name}");
        }
    }
}
