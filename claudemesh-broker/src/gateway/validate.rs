//! Requests against the schemas that are generated from their types.

use std::fmt::{self, Write as _};

use claudemesh_proto::{ErrorCode, ErrorFrame};
use jsonschema::Validator;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Longest text of a refused value that is shown back.
const MAX_SHOWN: usize = 200;

/// A compiled schema.
pub(crate) struct Schema(Validator);

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

impl Schema {
    /// The schema of a type.
    pub(crate) fn of<T: JsonSchema>() -> Self {
        let schema = claudemesh_proto::schema::of::<T>();
        Self(jsonschema::validator_for(schema.as_value()).expect("invariant: generated schemas are schemas (tested)"))
    }

    /// Checks a value.
    ///
    /// # Errors
    /// `invalid_request` with the value, the limit and the field.
    pub(crate) fn check(&self, value: &Value) -> Result<(), ErrorFrame> {
        let Err(error) = self.0.validate(value) else {
            return without_nul(value);
        };
        let field = error.instance_path().to_string();
        let mut problem = error.to_string();
        // What is too long to be read is not shown: it may also be somebody's content.
        if problem.len() > MAX_SHOWN {
            problem = error.masked().to_string();
        }
        let place = if field.is_empty() {
            String::new()
        } else {
            format!(" at {field}")
        };
        Err(ErrorFrame::new(ErrorCode::InvalidRequest, format!("{}{place}", shortened(problem))).at(field))
    }
}

/// Reads what has fitted its schema.
///
/// # Errors
/// `invalid_request` with the field. A schema takes `1.0` and `1e30` for whole numbers; here they are none.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, ErrorFrame> {
    let kept = has_float(&value).then(|| value.clone());
    serde_json::from_value(value).map_err(|error| {
        let place = kept.and_then(|value| serde_path_to_error::deserialize::<_, T>(value).err());
        let place = place.map(|error| pointer(error.path())).unwrap_or_default();
        let hint = if place.is_empty() || place.len() > MAX_SHOWN {
            String::new()
        } else {
            format!(" at {place}; write whole numbers without a point or an exponent, and no larger than 2^64 - 1")
        };
        ErrorFrame::new(ErrorCode::InvalidRequest, shortened(format!("{error}{hint}"))).at(place)
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut text = String::new();
    for segment in path {
        let _written = match segment {
            Segment::Seq { index } => write!(text, "/{index}"),
            Segment::Map { key } => write!(text, "/{key}"),
            Segment::Enum { variant } => write!(text, "/{variant}"),
            Segment::Unknown => Ok(()),
        };
    }
    text
}

fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_float),
        Value::Object(members) => members.values().any(has_float),
        _ => false,
    }
}

/// No text of a request contains U+0000: Postgres stores none, and what one store takes the other takes as well.
fn without_nul(value: &Value) -> Result<(), ErrorFrame> {
    let mut place = String::new();
    if !has_nul(value, &mut place) {
        return Ok(());
    }
    if place.len() > MAX_SHOWN {
        place.clear();
    }
    let text = format!("a text contains the character U+0000 at {place}");
    Err(ErrorFrame::new(ErrorCode::InvalidRequest, text).at(place))
}

/// Whether a text of the value contains U+0000; `place` then leads there.
fn has_nul(value: &Value, place: &mut String) -> bool {
    let end = place.len();
    let mut is_below = |name: &str, value: &Value| {
        let _written = write!(place, "/{name}");
        let found = has_nul(value, place);
        if !found {
            place.truncate(end);
        }
        found
    };
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .any(|(index, item)| is_below(&index.to_string(), item)),
        // A name is not shown: it is the client's text as well.
        Value::Object(members) => {
            members.keys().any(|name| name.contains('\0'))
                || members.iter().any(|(name, member)| is_below(name, member))
        }
        _ => false,
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > 2 * MAX_SHOWN {
        let end = (0..=2 * MAX_SHOWN)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use claudemesh_proto::ops::{AuditQuery, GetState};
    use serde_json::json;

    #[test]
    fn the_text_names_value_limit_and_field() {
        let error = Schema::of::<AuditQuery>().check(&json!({ "limit": 5000 })).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("/limit"));
        assert!(
            error.message.contains("5000") && error.message.contains("500") && error.message.ends_with("at /limit")
        );
    }

    #[test]
    fn a_text_has_no_nul() {
        let schema = Schema::of::<claudemesh_proto::ops::SetState>();
        for (request, place) in [
            (json!({ "key": "a\0b", "value": 1 }), "/key"),
            (json!({ "key": "k", "value": [0, { "x": ["\0"] }] }), "/value/1/x/0"),
            (json!({ "key": "k", "value": { "\0": 1 } }), "/value"),
        ] {
            let error = schema.check(&request).unwrap_err();
            assert_eq!(
                (error.code, error.field.as_deref()),
                (ErrorCode::InvalidRequest, Some(place))
            );
        }
        schema
            .check(&json!({ "key": "k", "value": ["\u{1}", "\\u0000", null] }))
            .unwrap();
    }

    #[test]
    fn a_long_value_is_not_sent_back() {
        let error = Schema::of::<GetState>()
            .check(&json!({ "key": "x".repeat(100_000) }))
            .unwrap_err();
        assert!(error.message.len() < 500, "{}", error.message.len());
        assert_eq!(error.field.as_deref(), Some("/key"));
    }
}
